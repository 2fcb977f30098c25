"""A job in another tool's words."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import NOT_ONLY_JSON
from tunesmith.recipes import recipe

_ANSWERS: dict[int | str, dict[str, Any]] = {
    **NOT_ONLY_JSON,
    200: {"description": "The file.", "content": {"text/plain": {"schema": {"type": "string"}}}},
}

Tool = Literal["axolotl", "llamafactory", "ms-swift", "trl"]


def routes() -> APIRouter:
    """The endpoint of recipes."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], route_class=StrictRoute)

    @router.get("/recipe", summary="Get a recipe", response_class=PlainTextResponse, responses=_ANSWERS)
    def retrieve(
        services: Opened, job_id: str, format: Annotated[Tool, Query(description="The tool.")]
    ) -> PlainTextResponse:
        """A file that trains the same with another tool: YAML, a shell script or a Python script. Comments in it name
        everything that the tool cannot be told."""
        written = recipe(services.jobs.get(job_id).spec, format)
        named = {"Content-Disposition": f'attachment; filename="{written.filename}"'}
        return PlainTextResponse(written.text, headers={**named, "X-Content-Type-Options": "nosniff"})

    return router
