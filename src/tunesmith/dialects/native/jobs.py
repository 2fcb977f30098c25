"""Jobs: submit, read and steer."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import (
    CheckpointAnswer,
    JobAnswer,
    Listing,
    Page,
    Planned,
    Queue,
    Validation,
    Waiting,
)
from tunesmith.dialects.native.effects import notes_on
from tunesmith.dialects.native.inputs import to_spec
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.render import to_checkpoint, to_job, to_validation
from tunesmith.dialects.native.translate import to_submission, to_wishes
from tunesmith.dialects.native.wire import JobBody, JobRequest, PriorityRequest
from tunesmith.spec.lifecycle import State
from tunesmith.spec.plan import Plan
from tunesmith.store.jobs import ALL_STATES

_LABEL = re.compile(r"labels\[(.+)\]")

_LABELS_PARAMETER = {
    "parameters": [
        {
            "name": "labels",
            "in": "query",
            "description": "Only jobs with these labels: `labels[key]=value`.",
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A second request with the same key is answered with the first one's job.",
    ),
]


def routes() -> APIRouter:  # noqa: C901 - a list of routes
    """The endpoints of jobs."""
    router = APIRouter(tags=["jobs"], route_class=StrictRoute)

    @router.post("/jobs", summary="Submit a job")
    def submit(services: Opened, body: JobBody, idempotency_key: IdempotencyKey = None) -> JobAnswer:
        """Accept a job. What lies elsewhere is looked for before the answer, and fetched after it."""
        spec = to_spec(services, body.spec)
        notes = notes_on(services, body.spec)
        with services.integrations.kept(to_wishes(body)) as kept:
            submission = to_submission(body, notes=notes, idempotency_key=idempotency_key, integrations=kept)
            return to_job(services.jobs.submit(spec, submission))

    @router.post("/jobs:validate", summary="Check a job")
    def validate(services: Opened, body: JobBody) -> Validation:
        """Say what a job would be, or why it would be refused. Nothing is stored."""
        _require_project(services, body)
        return to_validation(services.jobs.validate(to_spec(services, body.spec)), notes_on(services, body.spec))

    @router.post("/jobs:plan", summary="Plan a job")
    def plan(services: Opened, body: JobBody) -> Planned:
        """Say what a job would cost, and what would make it fit if it does not. Nothing is stored."""
        _require_project(services, body)
        admitted = services.jobs.plan(to_spec(services, body.spec))
        validation = to_validation(admitted, notes_on(services, body.spec))
        return Planned(**dict(validation), plan=admitted.plan)

    @router.get("/jobs", summary="List jobs", openapi_extra=_LABELS_PARAMETER)
    def list_jobs(
        services: Opened,
        request: Request,
        limit: Limit = 100,
        after: After = None,
        project: Annotated[str | None, Query(description="Only jobs of the project with this id.")] = None,
        state: Annotated[State | None, Query(description="Only jobs in this state.")] = None,
    ) -> Page[JobAnswer]:
        """Jobs of all APIs, newest first."""
        if project is not None:
            services.organisations.require_project(services.caller, project, param="project")
        found = services.jobs.newest_first(
            limit=limit + 1,
            after=after,
            project=project,
            states=ALL_STATES if state is None else (state,),
            labels=_labels(request),
        )
        return page(found, limit, to_job)

    @router.get("/queue", summary="Show the queue")
    def queue(services: Opened, limit: Limit = 100) -> Queue:
        """Your jobs that hold a device, and the next ones that wait."""
        waiting = services.jobs.queued()[:limit]
        return Queue(
            active=[to_job(job) for job in services.jobs.active()],
            waiting=[Waiting(ahead=services.jobs.position(job), job=to_job(job)) for job in waiting],
        )

    @router.get("/jobs/{job_id}", summary="Get a job")
    def retrieve(services: Opened, job_id: str) -> JobAnswer:
        """One job, whichever API it came by."""
        return to_job(services.jobs.get(job_id))

    @router.get("/jobs/{job_id}/plan", summary="Get a job's plan")
    def plan_of(services: Opened, job_id: str) -> Plan:
        """What the job was expected to cost when everything that it needs was here, before its training."""
        return services.jobs.plan_of(job_id)

    @router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
    def cancel(services: Opened, job_id: str) -> JobAnswer:
        """End a job: at once if it waits, else as soon as its worker has saved its state. Checkpoints stay."""
        return to_job(services.jobs.cancel(job_id))

    @router.post("/jobs/{job_id}/pause", summary="Pause a job")
    def pause(services: Opened, job_id: str) -> JobAnswer:
        """Save a job's state and give its device back."""
        return to_job(services.jobs.pause(job_id))

    @router.post("/jobs/{job_id}/resume", summary="Resume a job")
    def resume(services: Opened, job_id: str) -> JobAnswer:
        """Let a paused job go on where it stopped."""
        return to_job(services.jobs.resume(job_id))

    @router.put("/jobs/{job_id}/priority", summary="Change a job's priority")
    def prioritise(services: Opened, job_id: str, body: PriorityRequest) -> JobAnswer:
        """Move a job forward or back in the queue."""
        return to_job(services.jobs.prioritise(job_id, body.priority))

    @router.get("/jobs/{job_id}/checkpoints", summary="List checkpoints")
    def checkpoints(services: Opened, job_id: str) -> Listing[CheckpointAnswer]:
        """The checkpoints that the job was asked for, by falling step."""
        best = services.jobs.best_checkpoint(job_id)
        found = services.jobs.checkpoints(job_id)
        return Listing(data=[to_checkpoint(checkpoint, services, best=best) for checkpoint in found])

    return router


def _require_project(services: Services, body: JobRequest) -> None:
    project = body.project or services.caller.project
    if project is not None:
        services.organisations.require_open_project(services.caller, project, param="project")


def _labels(request: Request) -> dict[str, str]:
    """The pairs of `labels[key]=value` in the query."""
    pairs = ((_LABEL.fullmatch(name), value) for name, value in request.query_params.multi_items())
    return {match[1]: value for match, value in pairs if match}
