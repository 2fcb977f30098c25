"""A queue of LLaMA-Factory trainings behind `/train` and `/queue`, as `NEU-Solution/training_cluster` serves it."""

from typing import Any

from tunesmith.dialects._wire import renamed, status_of
from tunesmith.dialects.training_api.render import render_job
from tunesmith.dialects.training_api.routes import routes
from tunesmith.dialects.training_api.webhook import render_webhook
from tunesmith.spec.errors import JobStateError, TunesmithError

PREFIXES = ("/", "/train", "/queue")

_FIELDS = {
    "model.base": "model_name",
    "model.modality": "model_name",
    "data.train": "dataset_version",
    "data.max_length": "cutoff_len",
    "method.kind": "training_type",
}


def render_error(error: TunesmithError, _path: str) -> tuple[int, dict[str, Any]]:
    """FastAPI's own shapes: a list of located faults for a bad request, a sentence for all else."""
    error = renamed(error, _FIELDS)
    # The origin answers 400, not 409, to a cancel that comes too late.
    status = 400 if isinstance(error, JobStateError) else status_of(error, invalid=422)
    if status != 422:
        return status, {"detail": error.info.sentence()}
    location = ["body", *error.param.split(".")] if error.param else ["body"]
    if error.param == "strategy":
        location = ["query", "strategy"]
    return status, {"detail": [{"loc": location, "msg": error.info.sentence(), "type": error.code}]}


__all__ = ["PREFIXES", "render_error", "render_job", "render_webhook", "routes"]
