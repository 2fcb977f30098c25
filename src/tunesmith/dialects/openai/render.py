"""From our values to OpenAI's objects, with Nebius's fields always present."""

from typing import Any

from tunesmith.dialects.openai import integrations
from tunesmith.dialects.openai.checkpoints import checkpoint_name
from tunesmith.dialects.openai.fields import wire_param
from tunesmith.dialects.openai.ids import render_checkpoint_id
from tunesmith.dialects.openai.mounts import OPENAI, Flavour, Mount
from tunesmith.dialects.openai.translate import OPENAI_BASE_RATE
from tunesmith.spec.job import DataSource
from tunesmith.spec.lifecycle import State
from tunesmith.store.checkpoint_permissions import CheckpointPermission
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.files import File
from tunesmith.store.jobs import Job
from tunesmith.store.uploads import Part, Upload

# OpenAI has no words for pausing; a paused job waits. Cancelling can end in nothing but cancelled.
_STATUS = {
    State.VALIDATING: "validating_files",
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

_METHODS = {"sft": "supervised"}
"""What our methods are called here; all others go by our name."""


def answers_by(job: Job, mount: Mount) -> Flavour:
    """The vendor in whose words and order a job is told on a mount."""
    return "nebius" if "nebius" in (mount.flavour, job.submission.flavour) else "openai"


def render_job(job: Job, mount: Mount = OPENAI) -> dict[str, Any]:
    """A `fine_tuning.job`."""
    request = job.submission.request if job.submission.dialect == "openai" else {}
    hyperparameters = _hyperparameters(job, mount)
    return {
        "id": f"ftjob-{job.id}",
        "object": "fine_tuning.job",
        "model": request.get("model", job.spec.model.base),
        "created_at": int(job.created_at),
        "finished_at": _seconds(job.finished_at),
        "estimated_finish": _seconds(job.estimated_finish),
        "fine_tuned_model": job.model_id,
        "organization_id": job.org,
        "result_files": [f"file-{job.result_file_id}"] if job.result_file_id else [],
        "status": _STATUS[job.state],
        "validation_file": _source(job.spec.data.validation),
        "training_file": _source(job.spec.data.train),
        "hyperparameters": hyperparameters if job.spec.method.kind == "sft" else {},
        "trained_tokens": job.trained_tokens,
        "trained_steps": job.step,
        "total_steps": job.total_steps,
        "error": _error(job),
        "seed": job.spec.optimization.seed,
        "suffix": job.submission.suffix,
        "user_provided_suffix": job.submission.suffix,
        "integrations": integrations.render_all(job.submission.integrations),
        "method": _method(job, mount, hyperparameters),
        "from_checkpoint": _from_checkpoint(request),
        "metadata": (request.get("metadata") or {}) if request else job.submission.labels,
        "tags": request.get("tags"),
        "notes": list(job.submission.notes),
    }


def _method(job: Job, mount: Mount, hyperparameters: dict[str, Any]) -> dict[str, Any] | None:
    """None where Nebius's users sent their hyperparameters without a method."""
    if answers_by(job, mount) == "nebius" and "method" not in job.submission.request:
        return None
    kind = _METHODS.get(job.spec.method.kind, job.spec.method.kind)
    return {"type": kind, kind: {"hyperparameters": {**hyperparameters, **job.spec.method.parameters}}}


def _from_checkpoint(request: dict[str, Any]) -> dict[str, Any] | None:
    wanted = request.get("from_checkpoint")
    return {"type": "hf", **wanted} if wanted else None


def _hyperparameters(job: Job, mount: Mount) -> dict[str, Any]:
    """The resolved numbers: OpenAI's three for requests by OpenAI's rules, Nebius's whole set for all others."""
    optimization, adapter = job.spec.optimization, job.spec.adapter
    shared = {"batch_size": optimization.batch_size, "n_epochs": _whole(optimization.epochs)}
    if job.submission.flavour == "openai" and mount.flavour == "openai":
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
        "lora_alpha": _whole(adapter.alpha) if adapter else 8,
        "lora_dropout": adapter.dropout if adapter else 0,
    }


_METRICS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)


def render_checkpoint(checkpoint: Checkpoint, job: Job) -> dict[str, Any]:
    """A `fine_tuning.job.checkpoint`; `result_files` are its weights and configuration."""
    return {
        "id": render_checkpoint_id(checkpoint.id),
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(checkpoint.created_at),
        "fine_tuned_model_checkpoint": checkpoint_name(job, checkpoint.step),
        "fine_tuning_job_id": f"ftjob-{job.id}",
        "step_number": checkpoint.step,
        "metrics": {name: checkpoint.metrics.get(name) for name in _METRICS},
        "result_files": [f"file-{file}" for file in checkpoint.files],
    }


def render_permission(permission: CheckpointPermission) -> dict[str, Any]:
    """A `checkpoint.permission`."""
    return {
        "id": f"cp_{permission.id}",
        "object": "checkpoint.permission",
        "created_at": int(permission.created_at),
        "project_id": permission.project_id,
    }


def render_file(file: File) -> dict[str, Any]:
    """A `file`. One that exists was read through, so it is always `processed`."""
    return {
        "id": f"file-{file.id}",
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": _seconds(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def render_upload(upload: Upload, file: File | None = None) -> dict[str, Any]:
    """An `upload`, with the file that it became."""
    return {
        "id": f"upload_{upload.id}",
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": int(upload.created_at),
        "expires_at": int(upload.expires_at),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": render_file(file) if file else None,
    }


def render_part(part: Part) -> dict[str, Any]:
    """An `upload.part`."""
    return {
        "id": f"part_{part.id}",
        "object": "upload.part",
        "created_at": int(part.created_at),
        "upload_id": f"upload_{part.upload_id}",
    }


def _source(source: DataSource | None) -> str | None:
    if source is None:
        return None
    return f"file-{source.id}" if source.kind == "file" else source.id


def _seconds(at: float | None) -> int | None:
    return int(at) if at is not None else None


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    request = job.submission.request if job.submission.dialect == "openai" else {}
    return {"code": job.error.code, "message": job.error.sentence(), "param": wire_param(job.error, request)}
