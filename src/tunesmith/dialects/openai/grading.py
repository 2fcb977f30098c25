"""`/v1/fine_tuning/alpha/graders`."""

from typing import Annotated, Any, Never

from fastapi import APIRouter

from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers
from tunesmith.dialects.openai.graders import RunGrader, ValidateGrader
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.reading import AS_TYPED
from tunesmith.spec.errors import UnsupportedError


def routes(mount: Mount) -> APIRouter:
    """The endpoints of graders."""
    prefix = f"{mount.prefix}/v1/fine_tuning/alpha/graders"
    router = APIRouter(prefix=prefix, tags=["graders"], route_class=StrictRoute)

    @router.post("/validate", response_model=answers.CheckedGrader)
    def validate(body: Annotated[ValidateGrader, AS_TYPED]) -> dict[str, Any]:
        """Check a grader: its fields, templates and formula."""
        return body.model_dump(mode="json", exclude_unset=True)

    @router.post("/run", response_model=None)
    def run(body: Annotated[RunGrader, AS_TYPED]) -> Never:
        """Check a grader, and say that this version runs none."""
        raise UnsupportedError(
            f"The grader {body.grader.name!r} is well formed, but this version runs no graders: they score the answers "
            "of reinforcement, which it does not have.",
            param="grader",
        )

    return router
