"""`/job` and what lies below it."""

from typing import Annotated

from fastapi import APIRouter, Form, Query

from tunesmith.access.boundaries import require_own
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._forms import FAULTS, FormRoute
from tunesmith.dialects._logs import end_of_log
from tunesmith.dialects._render import figures_of, render_id
from tunesmith.dialects._wire import to_job_id
from tunesmith.dialects.simplismart.answers import (
    CheckpointList,
    Created,
    FullJob,
    JobList,
    Logs,
    MetricList,
)
from tunesmith.dialects.simplismart.render import STATUS, checkpoint_entry, full_job, log_entry, metric, summary
from tunesmith.dialects.simplismart.sources import find_hub_token, find_rows, has_model
from tunesmith.dialects.simplismart.translate import to_spec, to_submission
from tunesmith.dialects.simplismart.wire import CreateJob
from tunesmith.spec.errors import ConflictError
from tunesmith.spec.job import JobSpec, Submission
from tunesmith.store.jobs import Job

OrgId = Annotated[str, Query(min_length=1, max_length=128, description="Id of the organisation.")]
RequestId = Annotated[
    str, Query(min_length=1, max_length=128, description="Id that the job's creation was answered with.")
]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="Jobs to pass over.")]
Count = Annotated[int, Query(ge=1, le=1000, description="Most jobs to answer with.")]

# The end tells why a job failed; a page of it stays small.
_LOG_BYTES = 64 * 1024
_LOG_ENTRIES = 1000


def routes() -> APIRouter:
    """The endpoints of jobs."""
    router = APIRouter(prefix="/job", tags=["jobs"], route_class=FormRoute, responses=FAULTS)

    @router.post("")
    def create(services: Opened, form: Annotated[CreateJob, Form(media_type="multipart/form-data")]) -> Created:
        """Start a new training job."""
        require_own(services.caller, form.org, param="org")
        token = find_hub_token(services, form.model_details)
        spec = to_spec(form, train=find_rows(services, form), hub_secret=token)
        job = _submit_once(services, spec, to_submission(form, has_model=has_model(services, form.model_details)))
        return Created(
            request_id=render_id(job.id),
            status=STATUS[job.state],
            message="Training job submitted successfully.",
            experiment_name=form.experiment_name,
        )

    @router.get("/list")
    def list_jobs(services: Opened, org_id: OrgId, offset: Offset = 0, count: Count = 100) -> JobList:
        """Jobs, newest first."""
        require_own(services.caller, org_id, param="org_id")
        page = services.jobs.newest_first(limit=count, offset=offset)
        return JobList(jobs=[summary(job) for job in page], total_count=services.jobs.count())

    @router.get("/get")
    def retrieve(services: Opened, org_id: OrgId, request_id: RequestId) -> FullJob:
        """One job with its configurations."""
        return full_job(_job(services, org_id, request_id), services)

    @router.get("/metrics")
    def list_metrics(services: Opened, org_id: OrgId, request_id: RequestId) -> MetricList:
        """A job's figures, oldest first."""
        job = _job(services, org_id, request_id)
        found = [metric(figure) for figure in figures_of(services, job.id)]
        return MetricList(request_id=render_id(job.id), metrics=found)

    @router.post("/cancel")
    def cancel(services: Opened, org_id: OrgId, request_id: RequestId) -> FullJob:
        """Cancel a job, waiting or running (an extension)."""
        job = _job(services, org_id, request_id)
        return full_job(services.jobs.cancel(job.id), services)

    @router.get("/logs")
    def logs(services: Opened, org_id: OrgId, request_id: RequestId) -> Logs:
        """What happened to a job, and what its workers printed (an extension)."""
        job = _job(services, org_id, request_id)
        newest = services.jobs.events(job.id, limit=_LOG_ENTRIES, newest_first=True)
        return Logs(
            request_id=render_id(job.id),
            entries=[log_entry(event) for event in reversed(newest)],
            output=end_of_log(services.jobs.logs(job.id), _LOG_BYTES),
        )

    @router.get("/checkpoints")
    def checkpoints(services: Opened, org_id: OrgId, request_id: RequestId) -> CheckpointList:
        """A job's checkpoints by falling step (an extension)."""
        job = _job(services, org_id, request_id)
        found = services.jobs.checkpoints(job.id)
        return CheckpointList(request_id=render_id(job.id), checkpoints=[checkpoint_entry(each) for each in found])

    return router


def _job(services: Services, org: str, request_id: str) -> Job:
    require_own(services.caller, org, param="org_id")
    return services.jobs.get(to_job_id(request_id, param="request_id"))


def _submit_once(services: Services, spec: JobSpec, submission: Submission) -> Job:
    """Submit under the experiment's name, which one job of an organisation has. The name is the submission's key, so
    that two equal requests at the same time make one job; one that comes later is refused.
    """
    # A job that an earlier, equal request made is of the same project, so it is among those that are visible here.
    newest = services.jobs.newest_first(limit=1)
    try:
        job = services.jobs.submit(spec, submission)
    except ConflictError as error:
        if error.param != "Idempotency-Key":
            raise
        raise _taken(submission) from None
    if newest and job.number <= newest[0].number:
        raise _taken(submission)
    return job


def _taken(submission: Submission) -> ConflictError:
    return ConflictError(
        f"An experiment is called {submission.name!r} already.",
        param="experiment_name",
        hint="Choose another experiment_name; it is unique within the organisation, over all projects.",
    )
