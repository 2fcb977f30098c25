"""From our values to the origin's answers."""

from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects._render import Figure, clock, progress, render_id, updated_at
from tunesmith.dialects.shakti.answers import FullJob, Metric, Status, Summary
from tunesmith.dialects.shakti.foreign import described
from tunesmith.spec.lifecycle import State
from tunesmith.store.jobs import Job

# There is no word for a cancelled job: it has failed, and its error says why.
STATUS: dict[State, Status] = {
    State.VALIDATING: "pending",
    State.QUEUED: "pending",
    State.STARTING: "running",
    State.RUNNING: "running",
    State.PAUSING: "running",
    State.PAUSED: "running",
    State.REQUEUEING: "running",
    State.CANCELLING: "failed",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "failed",
}


def render_job(job: Job, services: Services) -> dict[str, Any]:
    """A job with everything."""
    return full_job(job, services).model_dump(mode="json")


def full_job(job: Job, services: Services) -> FullJob:
    """A job with everything: its configuration as it was sent, or the nearest words for another dialect's job."""
    own = job.submission.dialect == "shakti"
    model = services.produced_models.find(job.model_id) if job.model_id else None
    return FullJob(
        request_id=render_id(job.id),
        name=job.submission.name,
        status=STATUS[job.state],
        created_at=clock(job.created_at),
        updated_at=clock(updated_at(job)),
        progress=progress(job),
        config=job.submission.request["training_config_json"] if own else described(job.spec),
        output_model=model.path if model else None,
        error=_error(job),
        notes=list(job.submission.notes),
    )


def summary(job: Job) -> Summary:
    """A job in a list."""
    return Summary(
        id=render_id(job.id),
        name=job.submission.name,
        status=STATUS[job.state],
        created_at=clock(job.created_at),
        updated_at=clock(updated_at(job)),
    )


def metric(figure: Figure) -> Metric:
    """One figure at one step."""
    return Metric(key=figure.key, value=figure.value, timestamp=round(figure.at * 1000), step=figure.step)


def _error(job: Job) -> str | None:
    if job.state in (State.CANCELLING, State.CANCELLED):
        return "cancelled"
    return job.error.sentence() if job.error else None
