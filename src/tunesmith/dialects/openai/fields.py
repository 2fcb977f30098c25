"""What OpenAI's users call the fields of a spec."""

from tunesmith.dialects._wire import renamed_path
from tunesmith.spec.errors import ErrorInfo, subject

FIELDS = {
    "model.base": "model",
    "init_from": "model",
    "data.train": "training_file",
    "data.validation": "validation_file",
    "method.kind": "method.type",
    "adapter.rank": "hyperparameters.lora_r",
    "adapter.targets": "hyperparameters.lora",
    "adapter": "hyperparameters.lora",
    "job_id": "fine_tune_id",
}


def wire_param(error: ErrorInfo) -> str | None:
    """The field that a job's error is about."""
    return renamed_path(subject(error), FIELDS)
