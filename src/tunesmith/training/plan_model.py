"""A model's footprint before its weights are read: the model is built without memory from its configuration.

What a forward pass keeps is counted on a few layers, whose tensors have shapes and no contents.
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tunesmith.spec.job import ALL_LINEAR, AdapterSpec, JobSpec
from tunesmith.training import attention
from tunesmith.training.adapters import adapted_names, new_adapter, shape_to_continue, trained_sizes
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.memory import Footprint, quantized
from tunesmith.training.memory_probe import Kept, footprint_of, kept_by, own_tensors
from tunesmith.training.model import load_config, load_tokenizer, skeleton
from tunesmith.training.score_model import HEAD, ScoreModel
from tunesmith.training.targets import is_outside, last_parts, linear_layers, require_targets, wanted_layers
from tunesmith.training.vision_parts import beyond_parts, freeze_beyond_parts

# The rest is told by these. Models whose layers are of several kinds repeat a pattern of at most so many.
_LIKE_LAYERS = 2
_UNLIKE_LAYERS = 4

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class PlannedModel:
    """A model that was not loaded."""

    footprint: Footprint
    is_counted: bool
    """Whether it is known what a forward pass keeps; else the footprint holds nothing of that."""

    adapter_bytes: int
    """Of an adapter's weights as they are written; 0 for full tuning."""


@dataclass(frozen=True)
class _PlannedAdapter:
    """An adapter that has no weights yet."""

    trained: int
    """Numbers that are trained."""

    first_parts: int
    """Bytes of what PiSSA began with, which is kept in memory and written beside the trained weights."""

    is_placed: bool
    """Whether the first layers have some that it is put on."""


def planned_model(folder: Path, spec: JobSpec, continued: Path | None, *, on_gpu: bool) -> PlannedModel:
    """What a spec makes of the model in a folder. `continued` is the folder of the adapter to go on with,
    `on_gpu` says where it is to be trained.

    Raises:
        ModelLoadError: the configuration cannot be used.
        AdapterError: the adapter cannot be put on the model.
    """
    config = load_config(folder, spec.model.modality)
    is_adapted = continued is not None or spec.adapter is not None
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    whole, part = (_built(each, spec, adapted=is_adapted) for each in (config, _shortened(config)))
    adapter = _adapter(spec, continued, whole, part)
    depth = config.get_text_config().num_hidden_layers / part.config.get_text_config().num_hidden_layers
    language_model = (ScoreModel if _head(spec) else LanguageModel)(part, _CPU, dtype)
    if spec.model.modality == "vision_language":
        from tunesmith.training.vision_memory import picture_bytes
        from tunesmith.training.vision_processor import PictureProcessor

        language_model.picture_bytes = picture_bytes(whole, PictureProcessor(folder, load_tokenizer(folder)), spec)
    kept = _counted(language_model) if adapter is None or adapter.is_placed else None
    scaled = Kept(kept.per_token * depth, kept.per_pass * depth) if kept is not None else Kept(0, 0)
    footprint = footprint_of(language_model, scaled, spec.optimization, on_gpu=on_gpu)
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    adapter_bytes = 4 * adapter.trained + adapter.first_parts if adapter is not None else 0
    footprint = replace(
        footprint,
        weights=sum(tensor.nbytes for tensor in own_tensors(whole)) + adapter_bytes,
        parameters=parameters,
        trained=_requiring_grad(whole) if adapter is None else adapter.trained,
        layers=whole.config.get_text_config().num_hidden_layers,
    )
    if spec.model.quantization is not None:
        footprint = _quantized(footprint, whole, spec)
    return PlannedModel(footprint, kept is not None, adapter_bytes)


def _head(spec: JobSpec) -> str | None:
    """The layer that an adapter trains whole."""
    return HEAD if spec.model.task == "sequence_classification" else None


def _built(config: Any, spec: JobSpec, *, adapted: bool) -> Any:
    """The model without weights, as it is before an adapter is put into it."""
    dtype = torch.bfloat16 if adapted and spec.model.dtype == "bfloat16" else torch.float32
    model = skeleton(config, spec.model, dtype)
    if not adapted:
        freeze_beyond_parts(model, spec)
    return model


def _adapter(spec: JobSpec, continued: Path | None, whole: Any, part: Any) -> _PlannedAdapter | None:
    """The adapter that a spec puts into the whole model, if it does; one like it is put into its first layers."""
    with torch.device("meta"):
        if continued is not None:
            return _adapter_to_continue(continued, spec, part)
        return _new_adapter(spec.adapter, spec, whole, part) if spec.adapter is not None else None


def _adapter_to_continue(folder: Path, spec: JobSpec, part: Any) -> _PlannedAdapter:
    head = _head(spec)
    sizes = trained_sizes(folder, head)
    names = _common(adapted_names(sizes), part, head)
    if names:
        shape_to_continue(part, folder, spec.adapter, names, head)
    return _PlannedAdapter(sum(sizes.values()), 0, bool(names))


def _new_adapter(adapter: AdapterSpec, spec: JobSpec, whole: Any, part: Any) -> _PlannedAdapter:
    head, outside, outside_part = _head(spec), beyond_parts(whole, spec), beyond_parts(part, spec)
    require_targets(whole, adapter, head, outside)
    targets = adapter.targets
    layers = {name: layer for name, layer in whole.named_modules() if not is_outside(name, outside)}
    if targets != ALL_LINEAR:
        layers = wanted_layers(whole, adapter, head, outside)
        targets = _common(last_parts(layers), part, head, outside_part)
    if targets:
        new_adapter(part, adapter.model_copy(update={"targets": targets}), 0, head, outside_part)
    by_layer = _trained_by_layer(part)
    of_layers = sum(by_layer.get(_layer(name, layer), 0) for name, layer in layers.items())
    of_head = sum(parameter.numel() for parameter in getattr(whole, head).parameters()) if head is not None else 0
    first_parts = 4 * of_layers if adapter.init == "pissa" else 0
    return _PlannedAdapter(of_layers + of_head, first_parts, bool(targets))


def _common(names: list[str], part: Any, head: str | None, outside: str | None = None) -> tuple[str, ...]:
    """Those that layers of the part have."""
    return tuple(sorted(set(names) & set(last_parts(linear_layers(part, head, outside)))))


def _shortened(config: Any) -> Any:
    """The configuration of the first layers alone."""
    short = copy.deepcopy(config)
    text = short.get_text_config()
    layers = text.num_hidden_layers
    kinds = set(getattr(text, "layer_types", None) or ())
    few = min(layers, _LIKE_LAYERS if len(kinds) < 2 else _UNLIKE_LAYERS)
    for name, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == layers:
            setattr(text, name, value[:few])
    text.num_hidden_layers = few
    return short


def _counted(language_model: LanguageModel) -> Kept | None:
    """What a pass keeps, or none if the model does not run without contents."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _give_shapes(language_model.core, mode)
    attention.register()
    for layout, implementation in (("concatenated", attention.NAME), ("padded", "sdpa"), ("padded", "eager")):
        try:
            language_model.core.set_attn_implementation(implementation)
            language_model.layout = layout  # type: ignore[assignment]
            with mode:
                return kept_by(language_model)
        except Exception:  # noqa: BLE001 - a model may fail in any way on tensors without contents
            continue
    return None


def _give_shapes(core: torch.nn.Module, mode: FakeTensorMode) -> None:
    """Turn tensors of the device `meta` into ones that behave as if they lay on the processor."""
    parameters: dict[int, torch.nn.Parameter] = {}
    for module in core.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                shaped = torch.nn.Parameter(FakeTensor(mode, parameter.data, _CPU), parameter.requires_grad)
                module._parameters[name] = parameters.setdefault(id(parameter), shaped)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer.to("meta"), _CPU)


_Layer = tuple[str, tuple[tuple[int, ...], ...]]
"""The last part of a layer's name, and the shapes of its own weights."""


def _layer(name: str, module: torch.nn.Module) -> _Layer:
    return name.rpartition(".")[2], tuple(tuple(weight.shape) for weight in module.parameters(recurse=False))


def _trained_by_layer(adapted: torch.nn.Module) -> dict[_Layer, int]:
    """Trained parameters that a layer with this name and shape gets."""
    return {
        _layer(name, layer.get_base_layer()): sum(
            parameter.numel() for parameter in layer.parameters() if parameter.requires_grad
        )
        for name, layer in adapted.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }


def _requiring_grad(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _quantized(footprint: Footprint, whole: Any, spec: JobSpec) -> Footprint:
    quantization = spec.model.quantization
    assert quantization is not None
    kept = (whole.get_output_embeddings(), getattr(whole, HEAD, None))
    sizes = [
        layer.weight.numel()
        for layer in whole.modules()
        if isinstance(layer, torch.nn.Linear) and not any(layer is each for each in kept)
    ]
    smaller = quantized(footprint, sum(sizes), quantization.bits, quantization.double)
    return replace(smaller, largest_matrix=max(sizes, default=0) * footprint.number_bytes)
