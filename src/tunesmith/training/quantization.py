"""Frozen weights in fewer bits, through bitsandbytes.

Only jobs that ask for it import bitsandbytes. The import takes a second or more and, on a machine with GPUs, begins to
use one, which a process from which workers are forked must never do. PEFT imports the library wherever it finds it, so
it is hidden until it is wanted.
"""

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from tunesmith.spec.job import QuantizationSpec

_LIBRARY = "bitsandbytes"


def hide_bitsandbytes() -> None:
    """Keep other libraries from importing it along the way. To be called before PEFT is imported."""
    sys.modules.setdefault(_LIBRARY, None)  # type: ignore[arg-type]  # None makes an import fail


def import_bitsandbytes() -> Any:
    """The library, also where it was hidden, without its remarks on optional parts."""
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    logging.getLogger(_LIBRARY).setLevel(logging.ERROR)
    if sys.modules.get(_LIBRARY, _LIBRARY) is None:
        del sys.modules[_LIBRARY]
    for answer in (is_bnb_available, is_bnb_4bit_available, is_bitsandbytes_available):
        answer.cache_clear()
    return importlib.import_module(_LIBRARY)


def loading_arguments(quantization: QuantizationSpec, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What makes `from_pretrained` quantize the linear layers of the body while it reads them, and nothing else."""
    import_bitsandbytes()
    if quantization.bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=quantization.int8_threshold)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization.kind,
            bnb_4bit_use_double_quant=quantization.double,
            bnb_4bit_compute_dtype=dtype,
        )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_weights_as_loaded(model: torch.nn.Module) -> None:
    """Keep 4-bit layers from packing their weights anew in the first evaluation.

    Some processors have a faster layout for inference. It rounds the scales once more, and gives no gradients.
    """
    for layer in _layers(model, "Linear4bit"):
        layer.support_avx512bf16_for_cpu = False


@contextmanager
def without_outliers(model: torch.nn.Module) -> Iterator[None]:
    """While open, 8-bit layers treat all columns of their input alike.

    Otherwise large values in one row decide which columns of all rows are multiplied in full precision.
    """
    layers = list(_layers(model, "Linear8bitLt"))
    thresholds = [layer.state.threshold for layer in layers]
    for layer in layers:
        layer.state.threshold = 0.0
    try:
        yield
    finally:
        for layer, threshold in zip(layers, thresholds, strict=True):
            layer.state.threshold = threshold


def _layers(model: torch.nn.Module, kind: str) -> Iterator[Any]:
    library = sys.modules.get(_LIBRARY)
    if library is not None:
        yield from (part for part in model.modules() if isinstance(part, getattr(library.nn, kind)))
