"""What this dialect's users call the fields of a spec."""

from collections.abc import Mapping
from typing import Any

from tunesmith.dialects._wire import renamed_path
from tunesmith.spec.errors import ErrorInfo, subject

FIELDS = {
    "model.base": "model",
    "model.modality": "model",
    "init_from": "model",
    "data.train": "training_file",
    "data.validation": "validation_file",
    "data.reading": "method.type",
    "method.kind": "method.type",
    "method.parameters": "method.dpo.hyperparameters",
    "data.max_length": "hyperparameters.context_length",
    "data.packing": "hyperparameters.packing",
    "model.dtype": "hyperparameters.dtype",
    "adapter.rank": "hyperparameters.lora_r",
    "adapter.alpha": "hyperparameters.lora_alpha",
    "adapter.dropout": "hyperparameters.lora_dropout",
    "adapter.targets": "hyperparameters.lora",
    "adapter": "hyperparameters.lora",
    "optimization.n_epochs": "hyperparameters.n_epochs",
    "optimization.epochs": "hyperparameters.n_epochs",
    "optimization": "hyperparameters",
    "job_id": "fine_tune_id",
    "project": "ai_project_id",
}


def fields_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The same, as they stand in a request: hyperparameters where its author put them."""
    method = request.get("method") or {}
    part = str(method.get("type", "")).replace("-", "_")
    prefix = "" if request.get("hyperparameters") or not method.get(part) else f"method.{part}."
    names = {path: f"{prefix}{name}" if name.startswith("hyperparameters") else name for path, name in FIELDS.items()}
    return {**names, "init_from": "from_checkpoint"} if request.get("from_checkpoint") else names


def wire_param(error: ErrorInfo, request: Mapping[str, Any]) -> str | None:
    """The field that a job's error is about."""
    return renamed_path(subject(error), fields_of(request))
