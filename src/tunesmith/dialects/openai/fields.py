"""What OpenAI's users call the fields of a spec."""

from tunesmith.spec.errors import ERRORS, DatasetError, ErrorInfo

FIELDS = {
    "model.base": "model",
    "init_from": "model",
    "data.train": "training_file",
    "data.validation": "validation_file",
    "method.kind": "method.type",
    "adapter.rank": "hyperparameters.lora_r",
    "adapter": "hyperparameters.lora",
    "job_id": "fine_tune_id",
}


def wire_param(error: ErrorInfo) -> str | None:
    """The field that a job's error is about; the training file, where a fault of the data names none."""
    for path, name in FIELDS.items():
        if error.param is not None and (error.param == path or error.param.startswith(f"{path}.")):
            return name
    if error.param is None and issubclass(ERRORS[error.code], DatasetError):
        return "training_file"
    return error.param
