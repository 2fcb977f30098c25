"""Whole models from an adapter and its base, through PEFT alone: what it can merge is merged, of whatever variant."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open

from tunesmith.spec.errors import AdapterError
from tunesmith.spec.export import ExportSpec
from tunesmith.training.adapters import WEIGHTS
from tunesmith.training.model import load_classifier, load_model, load_vision_model
from tunesmith.training.score_model import HEAD

_CPU = torch.device("cpu")


def load_trained(order: ExportSpec, dtype: torch.dtype) -> Any:
    """The trained model in a number format: the base with its adapter, or the weights that were trained whole.

    Raises:
        AdapterError: the adapter does not fit its base.
        ModelLoadError: the weights cannot be used.
    """
    return _adapted(_load_base(order, dtype), order.adapter)


def load_merged(order: ExportSpec) -> Any:
    """One model in float32, with the adapter worked into its weights.

    Raises:
        AdapterError: the adapter does not fit its base, or gives weights that are not finite.
        ModelLoadError: the weights cannot be used.
    """
    model = load_trained(order, torch.float32)
    if not isinstance(model, PeftModel):
        return model
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise AdapterError(f"The adapter cannot be merged: {error}") from error


def is_classifier(order: ExportSpec) -> bool:
    """Whether the model scores texts instead of writing."""
    return order.origin is not None and order.origin.spec.model.task == "sequence_classification"


def reads_pictures(order: ExportSpec) -> bool:
    """Whether the model reads pictures beside text."""
    return order.origin is not None and order.origin.spec.model.modality == "vision_language"


def _load_base(order: ExportSpec, dtype: torch.dtype) -> Any:
    if reads_pictures(order):
        from tunesmith.training.vision_export import show_picture

        core = load_vision_model(order.base, dtype, _CPU)
        show_picture(core, order.base)
        return core
    if not is_classifier(order):
        return load_model(order.base, dtype, _CPU)
    assert order.origin is not None
    return load_classifier(order.base, labels_of(order), order.origin.spec.optimization.seed, dtype, _CPU)


def labels_of(order: ExportSpec) -> int:
    """How many scores a classifier gives, by the head in its weights.

    Raises:
        AdapterError: there is no head.
    """
    folder = order.adapter or order.base
    files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("*.safetensors"))
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - the reader is no mapping
                if name.endswith(f"{HEAD}.weight"):
                    return int(tensors.get_slice(name).get_shape()[0])
    raise AdapterError("The model is a classifier, and its weights have no head.")


def _adapted(core: Any, adapter: Path | None) -> Any:
    if adapter is None:
        return core
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            return PeftModel.from_pretrained(core, adapter, local_files_only=True, torch_device="cpu").eval()
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AdapterError(f"The adapter does not fit its base model: {reason}") from error
