"""From our values to OpenAI's objects, with Nebius's fields always present."""

from typing import Any

from tunesmith.dialects.openai.fields import wire_param
from tunesmith.dialects.openai.ids import render_checkpoint_id
from tunesmith.dialects.openai.translate import OPENAI_BASE_RATE, is_nebius
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.jobs.publishing import model_name
from tunesmith.spec.job import DataSource
from tunesmith.spec.lifecycle import State
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.events import Event
from tunesmith.store.files import File
from tunesmith.store.jobs import Job

# OpenAI has no words for pausing; a paused job waits. Cancelling can end in nothing but cancelled.
_STATUS = {
    State.QUEUED: "queued",
    State.STARTING: "running",
    State.RUNNING: "running",
    State.PAUSING: "running",
    State.PAUSED: "queued",
    State.REQUEUEING: "running",
    State.CANCELLING: "cancelled",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
}

_METRIC_NAMES = {
    "metrics": {"loss": "train_loss", "token_accuracy": "train_mean_token_accuracy"},
    "evaluated": {"loss": "full_valid_loss", "token_accuracy": "full_valid_mean_token_accuracy"},
}


def render_job(job: Job, _services: object = None) -> dict[str, Any]:
    """A `fine_tuning.job`."""
    request = job.submission.request if job.submission.dialect == "openai" else {}
    hyperparameters = _hyperparameters(job)
    return {
        "id": f"ftjob-{job.id}",
        "object": "fine_tuning.job",
        "model": job.spec.model.base,
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": _seconds(job.estimated_finish),
        "fine_tuned_model": job.model_id,
        "organization_id": "org-local",
        "result_files": [f"file-{job.result_file_id}"] if job.result_file_id else [],
        "status": _STATUS[job.state],
        "validation_file": _source(job.spec.data.validation),
        "training_file": _source(job.spec.data.train),
        "hyperparameters": hyperparameters,
        "trained_tokens": job.trained_tokens,
        "trained_steps": job.step,
        "total_steps": job.total_steps,
        "error": _error(job),
        "seed": job.spec.optimization.seed,
        "suffix": job.submission.suffix,
        "user_provided_suffix": job.submission.suffix,
        "integrations": [],
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "metadata": job.submission.labels,
        "tags": request.get("tags"),
    }


def _hyperparameters(job: Job) -> dict[str, Any]:
    """The resolved numbers: OpenAI's three for its own requests, Nebius's whole set for all others."""
    optimization, adapter = job.spec.optimization, job.spec.adapter
    epochs = int(optimization.epochs) if optimization.epochs == int(optimization.epochs) else optimization.epochs
    shared = {"batch_size": optimization.batch_size, "n_epochs": epochs}
    if job.submission.dialect == "openai" and not written_by_nebius(job):
        multiplier = float(f"{optimization.learning_rate / OPENAI_BASE_RATE:.9g}")
        return {**shared, "learning_rate_multiplier": multiplier}
    return {
        **shared,
        "learning_rate": optimization.learning_rate,
        "warmup_ratio": optimization.warmup_ratio,
        "weight_decay": optimization.weight_decay,
        "packing": job.spec.data.packing,
        "max_grad_norm": optimization.max_grad_norm,
        "context_length": job.spec.data.max_length,
        "lora": adapter is not None,
        "lora_r": adapter.rank if adapter else 8,
        "lora_alpha": int(adapter.alpha) if adapter else 8,
        "lora_dropout": adapter.dropout if adapter else 0,
    }


def written_by_nebius(job: Job) -> bool:
    """Whether the request used Nebius's fields, whose users expect the oldest events and checkpoints first."""
    return job.submission.dialect == "openai" and is_nebius(CreateJob.model_validate(job.submission.request))


def render_event(event: Event) -> dict[str, Any]:
    """A `fine_tuning.job.event`."""
    return {
        "id": f"ftevent-{event.id}",
        "object": "fine_tuning.job.event",
        "created_at": int(event.at),
        "level": event.level,
        "message": event.message,
        "type": "metrics" if event.kind in _METRIC_NAMES else "message",
        "data": _event_data(event),
    }


def _event_data(event: Event) -> dict[str, Any]:
    names = _METRIC_NAMES.get(event.kind)
    if names is None:
        return event.data
    return {names.get(key, key): value for key, value in event.data.items()}


def render_checkpoint(checkpoint: Checkpoint, job: Job) -> dict[str, Any]:
    """A `fine_tuning.job.checkpoint`; `result_files` are its weights and configuration."""
    model = job.model_id or model_name(job.spec.model.base, job.submission.suffix, job.id)
    return {
        "id": render_checkpoint_id(checkpoint.id),
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(checkpoint.created_at),
        "fine_tuned_model_checkpoint": f"{model}:ckpt-step-{checkpoint.step}",
        "fine_tuning_job_id": f"ftjob-{job.id}",
        "step_number": checkpoint.step,
        "metrics": checkpoint.metrics,
        "result_files": [f"file-{file}" for file in checkpoint.files],
    }


def render_file(file: File) -> dict[str, Any]:
    """A `file`."""
    return {
        "id": f"file-{file.id}",
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _source(source: DataSource | None) -> str | None:
    if source is None:
        return None
    return f"file-{source.id}" if source.kind == "file" else source.id


def _seconds(at: float | None) -> int | None:
    return int(at) if at is not None else None


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    return {"code": job.error.code, "message": job.error.sentence(), "param": wire_param(job.error)}
