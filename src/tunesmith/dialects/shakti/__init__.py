"""Shakti Studio's training of language models behind `/api/llm`: a configuration in Ludwig's words, and a table."""

from typing import Any

from tunesmith.dialects._forms import fault
from tunesmith.dialects.shakti.render import render_job
from tunesmith.dialects.shakti.routes import routes
from tunesmith.spec.errors import TunesmithError

PREFIXES = ("/api/llm",)

_CONFIG = "training_config_json"

# What the spec calls a field, and what this dialect's users call it. The first path that fits counts.
_FIELDS = {
    "model.base": f"{_CONFIG}.base_model",
    "model.modality": f"{_CONFIG}.model_type",
    "model.quantization": f"{_CONFIG}.quantization",
    "data.train": "csv_file",
    "data.max_length": f"{_CONFIG}.preprocessing.global_max_sequence_length",
    "data.sample_ratio": f"{_CONFIG}.preprocessing.sample_ratio",
    "method.kind": f"{_CONFIG}.trainer.type",
    "method": f"{_CONFIG}.trainer",
    "adapter.targets": f"{_CONFIG}.adapter.target_modules",
    "adapter": f"{_CONFIG}.adapter",
    "optimization": f"{_CONFIG}.trainer",
    "cadence": f"{_CONFIG}.trainer",
    "job_id": "request_id",
    # What the readers of rows call it.
    "columns": _CONFIG,
    "template": f"{_CONFIG}.prompt.template",
    "split.column": "csv_file",
}


def render_error(error: TunesmithError, _path: str) -> tuple[int, dict[str, Any]]:
    """The sentence under the two keys that the product's generations of clients read."""
    return fault(error, _FIELDS)


__all__ = ["PREFIXES", "render_error", "render_job", "routes"]
