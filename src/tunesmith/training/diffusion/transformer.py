"""The transformer: loaded complete or not at all, its blocks quantized if so asked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from tunesmith.spec.errors import ModelLoadError, OutOfMemoryError
from tunesmith.spec.job import QuantizationSpec
from tunesmith.training.diffusion.family import Family
from tunesmith.training.diffusion.folder import block_matrices
from tunesmith.training.diffusion.parts import library_class, loaded
from tunesmith.training.quantization import import_bitsandbytes, keep_weights_as_loaded


def load_transformer(
    family: Family, folder: Path, dtype: torch.dtype, device: torch.device, quantization: QuantizationSpec | None
) -> Any:
    """The transformer in one number format, in evaluation mode and frozen.

    Raises:
        ModelLoadError: weights are missing, broken or not in safetensors.
        OutOfMemoryError: the device cannot hold them.
    """
    transformer = read_transformer(family, folder / "transformer", dtype)
    transformer.requires_grad_(False)
    if quantization is not None:
        _quantize(transformer, block_matrices(folder, family), quantization, dtype)
    try:
        return transformer.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The base model does not fit into the device's memory: {str(error).splitlines()[0]}",
            hint="Use bfloat16, 4-bit quantization or a smaller base model.",
        ) from error


def read_transformer(family: Family, folder: Path, dtype: torch.dtype) -> Any:
    """The transformer of a folder that diffusers wrote.

    Raises:
        ModelLoadError: weights are missing, broken or not in safetensors.
    """
    load = library_class(family.transformer_class).from_pretrained
    transformer, report = loaded("The transformer", load, folder, dtype=dtype, output_loading_info=True)
    missing = [*sorted(report["missing_keys"]), *(name for name, *_ in report["mismatched_keys"])]
    if missing:
        raise ModelLoadError(
            f"The transformer's weights are incomplete: {len(missing)} missing, the first is {missing[0]!r}.",
            param="model.base",
        )
    return transformer


def _quantize(transformer: Any, names: Iterable[str], quantization: QuantizationSpec, dtype: torch.dtype) -> None:
    """Replace linear layers by quantized ones, which pack their weights once they are moved to a device.

    diffusers itself quantizes on GPUs alone.
    """
    library = import_bitsandbytes()
    for name in names:
        parent, _, leaf = name.rpartition(".")
        place = transformer.get_submodule(parent)
        make = _in_8_bits if quantization.bits == 8 else _in_4_bits
        setattr(place, leaf, make(library, getattr(place, leaf), quantization, dtype))
    keep_weights_as_loaded(transformer)
    # By these PEFT knows which layers to put an adapter on.
    transformer.is_loaded_in_4bit = quantization.bits == 4
    transformer.is_loaded_in_8bit = quantization.bits == 8


def _in_4_bits(library: Any, layer: torch.nn.Linear, quantization: QuantizationSpec, dtype: torch.dtype) -> Any:
    form = {"quant_type": quantization.kind, "compress_statistics": quantization.double}
    with torch.device("meta"):
        packed = library.nn.Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype, **form
        )
    packed.weight = library.nn.Params4bit(layer.weight.data, requires_grad=False, **form)
    packed.bias = layer.bias
    return packed


def _in_8_bits(library: Any, layer: torch.nn.Linear, quantization: QuantizationSpec, _dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        packed = library.nn.Linear8bitLt(
            layer.in_features,
            layer.out_features,
            layer.bias is not None,
            has_fp16_weights=False,
            threshold=quantization.int8_threshold,
        )
    packed.weight = library.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    packed.bias = layer.bias
    return packed
