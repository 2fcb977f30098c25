"""From our values to the origin's answers."""

from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects._render import Figure, clock, progress, render_id, updated_at
from tunesmith.dialects.simplismart.answers import (
    CheckpointEntry,
    DatasetEntry,
    FullJob,
    LogEntry,
    Metric,
    SecretEntry,
    Status,
    Summary,
)
from tunesmith.dialects.simplismart.foreign import described
from tunesmith.dialects.simplismart.ids import render_file_id
from tunesmith.spec.lifecycle import State
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.datasets import Dataset
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job
from tunesmith.store.secrets import Secret

STATUS: dict[State, Status] = {
    State.VALIDATING: "QUEUED",
    State.QUEUED: "QUEUED",
    State.STARTING: "RUNNING",
    State.RUNNING: "RUNNING",
    State.PAUSING: "RUNNING",
    State.PAUSED: "RUNNING",
    State.REQUEUEING: "RUNNING",
    State.CANCELLING: "CANCELED",
    State.SUCCEEDED: "COMPLETED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELED",
}


def render_job(job: Job, services: Services) -> dict[str, Any]:
    """A job with everything."""
    return full_job(job, services).model_dump(mode="json")


def full_job(job: Job, services: Services) -> FullJob:
    """A job with everything: the configurations as they were sent, or the nearest words for another dialect's job."""
    configurations = _configurations(job)
    model = services.produced_models.find(job.model_id) if job.model_id else None
    return FullJob(
        request_id=render_id(job.id),
        experiment_name=job.submission.name,
        status=STATUS[job.state],
        created_at=clock(job.created_at),
        updated_at=clock(updated_at(job)),
        started_at=clock(job.started_at) if job.started_at is not None else None,
        completed_at=clock(job.finished_at) if job.finished_at is not None else None,
        progress=progress(job),
        dataset_config=configurations["dataset_config"],
        model_details=configurations["model_details"],
        train_config=configurations["train_config"],
        dataset_details=configurations["dataset_details"],
        infra_config=configurations["infra_config"],
        output_model_path=model.path if model else None,
        error_message=job.error.sentence() if job.error else None,
        notes=list(job.submission.notes),
    )


def summary(job: Job) -> Summary:
    """A job in a list."""
    configurations = _configurations(job)
    return Summary(
        request_id=render_id(job.id),
        experiment_name=job.submission.name,
        status=STATUS[job.state],
        created_at=clock(job.created_at),
        updated_at=clock(updated_at(job)),
        model_type=configurations["model_details"].get("model_type", "llm"),
        base_model=job.spec.model.base,
        train_type=configurations["train_config"].get("train_type", "lora"),
        progress=progress(job),
    )


def metric(figure: Figure) -> Metric:
    """One figure at one step."""
    return Metric(key=figure.key, value=figure.value, timestamp=clock(figure.at), step=figure.step, epoch=figure.epoch)


def log_entry(event: Event) -> LogEntry:
    """A line of a log."""
    return LogEntry(timestamp=clock(event.at), level=event.level, message=event.message)


def checkpoint_entry(checkpoint: Checkpoint) -> CheckpointEntry:
    """A checkpoint."""
    return CheckpointEntry(
        checkpoint_id=checkpoint.id,
        step=checkpoint.step,
        created_at=clock(checkpoint.created_at),
        metrics=checkpoint.metrics,
        files=[render_file_id(id) for id in checkpoint.files],
    )


def secret_entry(secret: Secret) -> SecretEntry:
    """A secret without its fields."""
    return SecretEntry(
        secret_id=secret.id,
        name=secret.name,
        purpose=secret.purpose,
        host=secret.host,
        field_names=list(secret.field_names),
        created_at=clock(secret.created_at),
        updated_at=clock(secret.updated_at),
    )


def dataset_entry(dataset: Dataset) -> DatasetEntry:
    """A registered dataset."""
    return DatasetEntry(
        dataset_name=dataset.name,
        version=dataset.version,
        dataset_type=dataset.report.container,
        rows=dataset.report.rows,
        bytes=dataset.bytes,
        created_at=clock(dataset.created_at),
    )


def _configurations(job: Job) -> dict[str, Any]:
    return job.submission.request if job.submission.dialect == "simplismart" else described(job.spec)
