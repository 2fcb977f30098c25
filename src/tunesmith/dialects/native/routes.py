"""`/tunesmith/v1`."""

from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse

from tunesmith.assets.upload import Form, receive
from tunesmith.dialects import Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.render import (
    render_base_model,
    render_dataset,
    render_event,
    render_job,
    render_produced_model,
)
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.store.datasets import Dataset

Limit = Annotated[int, Query(ge=1, le=1000)]

# The end of a log is what tells why a job failed; a page of it stays small.
_LOG_BYTES = 1024 * 1024

_DATASET_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {"name": {"type": "string"}, "file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


def routes(services: Services) -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/tunesmith/v1", tags=["tunesmith"], route_class=StrictRoute)
    jobs = services.jobs

    @router.get("/jobs")
    def list_jobs(limit: Limit = 100, after: str | None = None) -> dict[str, Any]:
        """Jobs of all dialects, newest first."""
        found = jobs.newest_first(limit=limit + 1, after=after)
        return {"data": [render_job(job) for job in found[:limit]], "has_more": len(found) > limit}

    @router.get("/jobs/{job_id}")
    def retrieve(job_id: str) -> dict[str, Any]:
        """One job."""
        return render_job(jobs.get(job_id))

    @router.post("/jobs/{job_id}/cancel")
    def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        return render_job(jobs.cancel(job_id))

    @router.get("/jobs/{job_id}/events")
    def events(job_id: str, limit: Limit = 1000, after: str | None = None) -> dict[str, Any]:
        """A job's events, oldest first."""
        found = jobs.events(job_id, limit=limit + 1, after=after)
        return {"data": [render_event(event) for event in found[:limit]], "has_more": len(found) > limit}

    @router.get("/jobs/{job_id}/log", response_class=PlainTextResponse)
    def log(job_id: str) -> str:
        """The end of what a job's workers printed, all attempts in order."""
        return b"".join(path.read_bytes()[-_LOG_BYTES:] for path in jobs.logs(job_id)).decode("utf-8", "replace")

    @router.get("/datasets")
    def list_datasets() -> dict[str, Any]:
        """Registered datasets by name."""
        return {"data": [render_dataset(dataset) for dataset in services.datasets.listed()]}

    @router.post("/datasets", openapi_extra=_DATASET_FORM)
    async def add_dataset(request: Request) -> dict[str, Any]:
        """Register a file under a name."""
        form = await receive(
            request.stream(),
            request.headers.get("content-type"),
            storage=services.storage,
            file_field="file",
            max_bytes=services.max_upload_bytes,
        )
        return render_dataset(await anyio.to_thread.run_sync(_register, services, form))

    @router.get("/models")
    def list_models() -> dict[str, Any]:
        """Produced models, newest first, then base models."""
        produced = [render_produced_model(model) for model in services.produced_models.listed()]
        return {"data": produced + [render_base_model(model) for model in services.base_models.listed()]}

    return router


def _register(services: Services, form: Form) -> Dataset:
    if form.file is None or form.filename is None:
        raise InvalidRequestError("file is required: a part with a filename.", param="file")
    try:
        if "name" not in form.fields:
            raise InvalidRequestError("name is required.", param="name")
        return services.datasets.add(form.fields["name"], form.file, filename=form.filename)
    finally:
        form.file.discard()
