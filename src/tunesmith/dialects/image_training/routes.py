"""`/api/v1/training`."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.image_training.render import LONG_LOG, SHORT_LOG, render_task
from tunesmith.dialects.image_training.translate import to_spec, to_submission
from tunesmith.dialects.image_training.wire import (
    HTTPValidationError,
    Refusal,
    TrainingTask,
    TrainingTaskCreate,
)
from tunesmith.store.jobs import Job

Skip = Annotated[int, Query(ge=0, le=10_000)]
Limit = Annotated[int, Query(ge=1, le=100)]

_REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The address holds the character U+0000"},
    401: {"model": Refusal, "description": "No credential, or one that is not accepted"},
    403: {"model": Refusal, "description": "The caller's role does not allow this"},
    422: {"model": HTTPValidationError, "description": "The request is faulty, or asks for what is not available"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "What it names does not exist"}}
_CHANGING: dict[int | str, dict[str, Any]] = {
    503: {"model": Refusal, "description": "The server cannot do this now"},
    507: {"model": Refusal, "description": "The server's disk is full"},
}


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/api/v1/training", tags=["training"], route_class=StrictRoute, responses={**_REFUSED})

    @router.post(
        "",
        response_model=TrainingTask,
        responses={
            **_UNKNOWN,
            **_CHANGING,
            413: {"model": Refusal, "description": "The body is too large"},
            415: {"model": Refusal, "description": "The body is not JSON"},
        },
    )
    def create(services: Opened, body: TrainingTaskCreate) -> dict[str, Any]:
        """Create and start a new training task."""
        return render_task(_submit(services, body), services, log_bytes=LONG_LOG)

    @router.get("", response_model=list[TrainingTask])
    def list_tasks(services: Opened, skip: Skip = 0, limit: Limit = 10) -> list[dict[str, Any]]:
        """List training tasks, newest first."""
        found = services.jobs.newest_first(limit=limit, offset=skip)
        return [render_task(job, services, log_bytes=SHORT_LOG) for job in found]

    @router.get("/{task_id}", response_model=TrainingTask, responses=_UNKNOWN)
    def retrieve(services: Opened, task_id: uuid.UUID) -> dict[str, Any]:
        """Get the status of a training task."""
        return render_task(services.jobs.get(task_id.hex), services, log_bytes=LONG_LOG)

    @router.post(
        "/{task_id}/cancel",
        response_model=TrainingTask,
        responses={**_UNKNOWN, **_CHANGING, 409: {"model": Refusal, "description": "The task has ended"}},
    )
    def cancel(services: Opened, task_id: uuid.UUID) -> dict[str, Any]:
        """Cancel a training task, waiting or running."""
        return render_task(services.jobs.cancel(task_id.hex), services, log_bytes=LONG_LOG)

    return router


def _submit(services: Services, body: TrainingTaskCreate) -> Job:
    spec = to_spec(
        body,
        of_pictures=_secret(services, body.source_secret, "source_secret"),
        of_model=_secret(services, body.base_model_secret, "base_model_secret"),
    )
    with services.webhooks.kept(body.webhook_url, "image_training", param="webhook_url") as integrations:
        return services.jobs.submit(spec, to_submission(body, spec, integrations))


def _secret(services: Services, named: str | None, param: str) -> str | None:
    return services.secrets.find(services.caller.org, named, param=param).id if named else None
