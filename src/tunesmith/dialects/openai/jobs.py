"""`/v1/fine_tuning/jobs`."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers, ids
from tunesmith.dialects.openai.events import render_event
from tunesmith.dialects.openai.mounts import Mount
from tunesmith.dialects.openai.paging import After, Limit, behind, page
from tunesmith.dialects.openai.reading import create_job_on
from tunesmith.dialects.openai.render import answers_by, render_checkpoint, render_job
from tunesmith.dialects.openai.scope import Project
from tunesmith.dialects.openai.submit import submit
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.jobs.service import Jobs
from tunesmith.spec.errors import CheckpointNotFoundError
from tunesmith.store.jobs import WITHOUT_LABELS, Job

_METADATA = re.compile(r"metadata\[(.*)\]")


def routes(mount: Mount) -> APIRouter:
    """The endpoints of jobs, their events and their checkpoints."""
    router = APIRouter(prefix=f"{mount.prefix}/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=StrictRoute)

    @router.post("", response_model=answers.Job)
    def create(
        services: Opened,
        body: Annotated[CreateJob, create_job_on(mount)],
        project: Project,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> dict[str, Any]:
        """Create a fine-tuning job. The same `Idempotency-Key` again is answered with the same job."""
        return render_job(submit(services, body, project=project, idempotency_key=idempotency_key), mount)

    @router.get("", response_model=answers.Page[answers.Job])
    def list_jobs(
        services: Opened, request: Request, project: Project, limit: Limit = 20, after: After = None
    ) -> dict[str, Any]:
        """List jobs, newest first; `metadata[key]=value` filters."""
        before = ids.job_id(after, param="after") if after else None
        found = services.jobs.newest_first(
            limit=limit + 1, after=before, project=project, labels=_metadata_filter(request)
        )
        return page(found, limit, lambda job: render_job(job, mount))

    @router.get("/{job_id}", response_model=answers.Job)
    def retrieve(services: Opened, job_id: str) -> dict[str, Any]:
        """Get a job."""
        return render_job(services.jobs.get(ids.job_id(job_id)), mount)

    _steering(router, mount)
    _history(router, mount)
    return router


def _steering(router: APIRouter, mount: Mount) -> None:
    def steer(what: Callable[[Jobs, str], Job], services: Opened, job_id: str) -> dict[str, Any]:
        return render_job(what(services.jobs, ids.job_id(job_id)), mount)

    @router.post("/{job_id}/cancel", response_model=answers.Job)
    def cancel(services: Opened, job_id: str) -> dict[str, Any]:
        """Cancel a job."""
        return steer(Jobs.cancel, services, job_id)

    @router.post("/{job_id}/pause", response_model=answers.Job)
    def pause(services: Opened, job_id: str) -> dict[str, Any]:
        """Pause a job: its state is saved, its device given back."""
        return steer(Jobs.pause, services, job_id)

    @router.post("/{job_id}/resume", response_model=answers.Job)
    def resume(services: Opened, job_id: str) -> dict[str, Any]:
        """Let a paused job go on."""
        return steer(Jobs.resume, services, job_id)


def _history(router: APIRouter, mount: Mount) -> None:
    @router.get("/{job_id}/events", response_model=answers.Page[answers.Event])
    def events(services: Opened, job_id: str, limit: Limit = 20, after: After = None) -> dict[str, Any]:
        """List a job's events, newest first; oldest first by Nebius's rules."""
        job = services.jobs.get(ids.job_id(job_id))
        flavour = answers_by(job, mount)
        last = ids.event_id(after) if after else None
        found = services.jobs.events(job.id, limit=limit + 1, after=last, newest_first=flavour == "openai")
        return page(found, limit, lambda event: render_event(event, job, flavour))

    @router.get("/{job_id}/checkpoints", response_model=answers.Page[answers.Checkpoint])
    def checkpoints(services: Opened, job_id: str, limit: Limit = 10, after: After = None) -> dict[str, Any]:
        """List a job's checkpoints, newest first; oldest first by Nebius's rules."""
        job = services.jobs.get(ids.job_id(job_id))
        found = services.jobs.checkpoints(job.id)
        if answers_by(job, mount) == "nebius":
            found.reverse()
        rest = behind(found, ids.checkpoint_id(after) if after else None, lambda checkpoint: checkpoint.id)
        if rest is None:
            raise CheckpointNotFoundError(f"The job has no checkpoint {after!r}.", param="after")
        return page(rest, limit, lambda checkpoint: render_checkpoint(checkpoint, job))

    @router.get("/{job_id}/checkpoints/{checkpoint_id}", response_model=answers.Checkpoint)
    def checkpoint(services: Opened, job_id: str, checkpoint_id: str) -> dict[str, Any]:
        """Get one checkpoint."""
        job = services.jobs.get(ids.job_id(job_id))
        return render_checkpoint(services.jobs.checkpoint(job.id, ids.checkpoint_id(checkpoint_id)), job)


def _metadata_filter(request: Request) -> Mapping[str, str]:
    """`metadata[k]=v` pairs; `metadata=null` asks for jobs without any."""
    if request.query_params.get("metadata") == "null":
        return WITHOUT_LABELS
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        match = _METADATA.fullmatch(name)
        if match:
            wanted[match[1]] = value
    return wanted
