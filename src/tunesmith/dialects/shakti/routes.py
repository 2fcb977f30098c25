"""`/api/llm`."""

from typing import Annotated

from fastapi import APIRouter, Form, Query

from tunesmith.access.boundaries import require_own
from tunesmith.assets.files import TRAINING_PURPOSE
from tunesmith.dialects import Opened, Services
from tunesmith.dialects._forms import FAULTS, FormRoute
from tunesmith.dialects._render import figures_of, render_id
from tunesmith.dialects._wire import to_job_id
from tunesmith.dialects.shakti.answers import FullJob, JobList, MetricList, Submitted
from tunesmith.dialects.shakti.columns import to_reading
from tunesmith.dialects.shakti.render import STATUS, full_job, metric, summary
from tunesmith.dialects.shakti.translate import refuse_unavailable, to_spec, to_submission
from tunesmith.dialects.shakti.wire import CreateJob
from tunesmith.spec.job import DataSource
from tunesmith.store.jobs import Job

OrgId = Annotated[str, Query(min_length=1, max_length=128, description="Id of the organisation.")]
RequestId = Annotated[str, Query(min_length=1, max_length=128, description="Id that the submission was answered with.")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="Jobs to pass over.")]
Count = Annotated[int, Query(ge=1, le=1000, description="Most jobs to answer with.")]


def routes() -> APIRouter:
    """All endpoints."""
    router = APIRouter(prefix="/api/llm", tags=["training"], route_class=FormRoute, responses=FAULTS)

    @router.post("/train")
    def submit(services: Opened, form: Annotated[CreateJob, Form(media_type="multipart/form-data")]) -> Submitted:
        """Start a new LLM or VLM training job."""
        require_own(services.caller, form.org, param="org")
        job = _submit(services, form)
        message = "Training job submitted successfully."
        return Submitted(request_id=render_id(job.id), status=STATUS[job.state], message=message)

    @router.get("/training_job/list")
    def list_jobs(services: Opened, org_id: OrgId, offset: Offset = 0, count: Count = 100) -> JobList:
        """Jobs, newest first."""
        require_own(services.caller, org_id, param="org_id")
        page = services.jobs.newest_first(limit=count, offset=offset)
        return JobList(training_jobs=[summary(job) for job in page])

    @router.get("/training_job/get")
    def retrieve(services: Opened, org_id: OrgId, request_id: RequestId) -> FullJob:
        """One job with its configuration."""
        return full_job(_job(services, org_id, request_id), services)

    @router.get("/training_job/get/mlflow-metrics")
    def list_metrics(services: Opened, org_id: OrgId, request_id: RequestId) -> MetricList:
        """A job's figures, oldest first."""
        job = _job(services, org_id, request_id)
        return MetricList(metrics=[metric(figure) for figure in figures_of(services, job.id)])

    return router


def _submit(services: Services, form: CreateJob) -> Job:
    """Keep the file and submit the job; a job that is refused leaves no file."""
    config = form.training_config_json
    refuse_unavailable(config)
    reading = to_reading(config)
    file = services.files.add(
        form.csv_file.content, filename=form.csv_file.filename, purpose=TRAINING_PURPOSE, reading=reading
    )
    try:
        assert file.report is not None  # training data
        train = DataSource(kind="file", id=file.id, sha256=file.sha256)
        spec = to_spec(config, train=train, reading=reading, columns=tuple(file.report.columns))
        return services.jobs.submit(spec, to_submission(form, spec))
    except BaseException:
        services.files.delete(file.id)
        raise


def _job(services: Services, org: str, request_id: str) -> Job:
    require_own(services.caller, org, param="org_id")
    return services.jobs.get(to_job_id(request_id, param="request_id"))
