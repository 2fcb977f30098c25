"""Training of image models behind `/api/v1/training`, as the compute API of a picture platform serves it."""

import re
from typing import Any

from tunesmith.dialects._wire import renamed, status_of
from tunesmith.dialects.image_training.render import render_job
from tunesmith.dialects.image_training.routes import routes
from tunesmith.dialects.image_training.webhook import render_webhook
from tunesmith.spec.errors import TunesmithError

PREFIXES = ("/api/v1/training",)

# The first that fits counts, so parts come before the whole.
_FIELDS = {
    "model.base": "base_model_path",
    "model.modality": "base_model_path",
    "model.secret": "base_model_secret",
    "data.images.sources": "source_images",
    "data.images.trigger_word": "trigger_word",
    "data.images.captioning": "preprocessing_captioning_strategy",
    "data.images.caption_prompt": "preprocessing_captioning_prompt",
    "data.images.transforms": "preprocessing_transforms",
    "data.train": "source_images",
    "method.parameters.bypass_guidance_embedding": "bypass_guidance_embedding",
    "method.parameters.training_type": "training_type",
    "method.kind": "training_type",
    "adapter.rank": "rank",
    "adapter": "training_type",
    "optimization.learning_rate": "learning_rate",
    "optimization.max_steps": "steps",
    "sampling.prompts": "sample_prompts",
}
_INDEX = re.compile(r"[0-9]{1,6}")
_PLACES = {"skip": "query", "limit": "query", "task_id": "path"}


def render_error(error: TunesmithError, _path: str) -> tuple[int, dict[str, Any]]:
    """FastAPI's own shapes: a list of located faults for a faulty request, a sentence for all else."""
    error = renamed(error, _FIELDS)
    status = status_of(error, invalid=422)
    if status != 422:
        return status, {"detail": error.info.sentence()}
    return status, {"detail": [{"loc": _location(error.param), "msg": error.info.sentence(), "type": error.code}]}


def _location(param: str | None) -> list[str | int]:
    """Where a fault lies, with numbers for places in a list."""
    if param is None:
        return ["body"]
    parts = [int(part) if _INDEX.fullmatch(part) else part for part in param.split(".")]
    return [_PLACES.get(param, "body"), *parts]


__all__ = ["PREFIXES", "render_error", "render_job", "render_webhook", "routes"]
