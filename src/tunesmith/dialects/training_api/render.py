"""From our values to the origin's `TrainingStatus`. Clocks are seconds since the epoch, with fractions."""

from collections.abc import Sequence
from typing import Any

from tunesmith.dialects import Services
from tunesmith.dialects._render import render_id
from tunesmith.spec.lifecycle import State
from tunesmith.store.jobs import Job

_STATUS = {
    State.VALIDATING: "queued",
    State.QUEUED: "queued",
    State.STARTING: "running",
    State.RUNNING: "running",
    State.PAUSING: "running",
    State.PAUSED: "queued",
    State.REQUEUEING: "running",
    State.CANCELLING: "cancelled",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}


def render_job(job: Job, services: Services) -> dict[str, Any]:
    """A `TrainingStatus`."""
    model = services.produced_models.find(job.model_id) if job.model_id else None
    return _status(job, model.path if model else None)


def render_jobs(jobs: Sequence[Job], services: Services) -> list[dict[str, Any]]:
    """A `TrainingStatus` of each."""
    folders = {model.id: model.path for model in services.produced_models.listed()}
    return [_status(job, folders.get(job.model_id) if job.model_id else None) for job in jobs]


def _status(job: Job, folder: str | None) -> dict[str, Any]:
    return {
        "job_id": render_id(job.id),
        "status": _STATUS[job.state],
        "config": _config(job),
        "start_time": job.started_at or job.created_at,
        "end_time": job.finished_at,
        "tracking_url": job.tracking_url,
        "error": job.error.sentence() if job.error else None,
        "output_path": folder,
    }


def _config(job: Job) -> dict[str, Any]:
    """The request as it came, or the nearest words for a job of another dialect."""
    if job.submission.dialect == "training_api":
        return job.submission.request
    optimization = job.spec.optimization
    micro = optimization.micro_batch_size or optimization.batch_size
    return {
        "model_name": job.spec.model.base,
        "dataset_version": job.spec.data.train.id,
        "cutoff_len": job.spec.data.max_length,
        "max_samples": job.spec.data.max_samples,
        "batch_size": micro,
        "gradient_accumulation_steps": optimization.batch_size // micro,
        "training_type": job.spec.method.kind,
        "learning_rate": optimization.learning_rate,
        "num_epochs": optimization.epochs,
        "save_steps": job.spec.cadence.save_steps,
        "save_name": job.submission.name,
    }
