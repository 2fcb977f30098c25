"""`/v1/fine_tuning/jobs`."""

import re
from typing import Any

from fastapi import APIRouter, Request

from tunesmith.dialects import Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import ids
from tunesmith.dialects.openai.paging import After, Limit, page
from tunesmith.dialects.openai.render import render_checkpoint, render_event, render_job, written_by_nebius
from tunesmith.dialects.openai.translate import to_spec, to_submission
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.spec.errors import CheckpointNotFoundError, DatasetError, InvalidRequestError
from tunesmith.spec.job import DataSource
from tunesmith.store.checkpoints import Checkpoint

_METADATA = re.compile(r"metadata\[(.*)\]")


def routes(services: Services) -> APIRouter:  # noqa: C901 - a list of routes
    """The endpoints of jobs, their events and their checkpoints."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=StrictRoute)
    jobs = services.jobs

    @router.post("")
    def create(body: CreateJob) -> dict[str, Any]:
        """Create a fine-tuning job."""
        train, rows = _source(services, body.training_file, "training_file")
        validation = _source(services, body.validation_file, "validation_file")[0] if body.validation_file else None
        spec = to_spec(body, train=train, validation=validation, rows=rows)
        return render_job(jobs.submit(spec, to_submission(body)))

    @router.get("")
    def list_jobs(request: Request, limit: Limit = 20, after: After = None) -> dict[str, Any]:
        """List jobs, newest first; `metadata[key]=value` filters."""
        behind = ids.job_id(after, param="after") if after else None
        found = jobs.newest_first(limit=limit + 1, after=behind, labels=_metadata_filter(request))
        return page(found, limit, render_job)

    @router.get("/{job_id}")
    def retrieve(job_id: str) -> dict[str, Any]:
        """Get a job."""
        return render_job(jobs.get(ids.job_id(job_id)))

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        return render_job(jobs.cancel(ids.job_id(job_id)))

    @router.post("/{job_id}/pause")
    def pause(job_id: str) -> dict[str, Any]:
        """Pause a job: its state is saved, its device given back."""
        return render_job(jobs.pause(ids.job_id(job_id)))

    @router.post("/{job_id}/resume")
    def resume(job_id: str) -> dict[str, Any]:
        """Let a paused job go on."""
        return render_job(jobs.resume(ids.job_id(job_id)))

    @router.get("/{job_id}/events")
    def events(job_id: str, limit: Limit = 20, after: After = None) -> dict[str, Any]:
        """List a job's events, newest first (oldest first for jobs made with Nebius's fields)."""
        job = jobs.get(ids.job_id(job_id))
        behind = ids.event_id(after) if after else None
        newest_first = not written_by_nebius(job)
        found = jobs.events(job.id, limit=limit + 1, after=behind, newest_first=newest_first)
        return page(found, limit, render_event)

    @router.get("/{job_id}/checkpoints")
    def checkpoints(job_id: str, limit: Limit = 10, after: After = None) -> dict[str, Any]:
        """List a job's checkpoints, newest first (oldest first for jobs made with Nebius's fields)."""
        job = jobs.get(ids.job_id(job_id))
        found = jobs.checkpoints(job.id)
        if written_by_nebius(job):
            found.reverse()
        return page(_behind(found, after), limit, lambda checkpoint: render_checkpoint(checkpoint, job))

    @router.get("/{job_id}/checkpoints/{checkpoint_id}")
    def checkpoint(job_id: str, checkpoint_id: str) -> dict[str, Any]:
        """Get one checkpoint."""
        job = jobs.get(ids.job_id(job_id))
        return render_checkpoint(jobs.checkpoint(job.id, ids.checkpoint_id(checkpoint_id)), job)

    return router


def _source(services: Services, wire_id: str, param: str) -> tuple[DataSource, int]:
    file = services.files.get(ids.file_id(wire_id, param=param), param=param)
    if file.report is None:
        raise InvalidRequestError(
            f"{param}: file {wire_id!r} has the purpose {file.purpose!r}; it must be 'fine-tune'.",
            param=param,
            hint="Upload it again with purpose='fine-tune'.",
        )
    if file.report.rows == 0:
        raise DatasetError(f"{param}: file {wire_id!r} has no rows.", param=param)
    return DataSource(kind="file", id=file.id, sha256=file.sha256), file.report.rows


def _metadata_filter(request: Request) -> dict[str, str] | None:
    """`metadata[k]=v` pairs, or none for `metadata=null`, which asks for jobs without any."""
    if request.query_params.get("metadata") == "null":
        return None
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        match = _METADATA.fullmatch(name)
        if match:
            wanted[match[1]] = value
    return wanted


def _behind(checkpoints: list[Checkpoint], after: str | None) -> list[Checkpoint]:
    if after is None:
        return checkpoints
    known = [checkpoint.id for checkpoint in checkpoints]
    try:
        return checkpoints[known.index(ids.checkpoint_id(after)) + 1 :]
    except ValueError:
        raise CheckpointNotFoundError(f"The job has no checkpoint {after!r}.", param="after") from None
