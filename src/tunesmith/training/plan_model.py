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

from tunesmith.spec.job import JobSpec
from tunesmith.training import attention
from tunesmith.training.adapters import adapter_spec_of, new_adapter
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.memory import Footprint, quantized
from tunesmith.training.memory_probe import Kept, footprint_of, kept_by
from tunesmith.training.model import library_class, load_config
from tunesmith.training.score_model import HEAD, ScoreModel
from tunesmith.training.targets import is_outside
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
    """Of the trained weights of an adapter as they are written; 0 for full tuning."""


def planned_model(folder: Path, spec: JobSpec, continued: Path | None, *, on_gpu: bool) -> PlannedModel:
    """What a spec makes of the model in a folder. `continued` is the folder of the adapter to go on with,
    `on_gpu` says where it is to be trained.

    Raises:
        ModelLoadError: the configuration cannot be used.
        AdapterError: the adapter cannot be put on the model.
    """
    config = load_config(folder, spec.model.modality)
    adapter = adapter_spec_of(continued) if continued is not None else spec.adapter
    whole = _built(config, spec, adapted=adapter is not None)
    part = _built(_shortened(config), spec, adapted=adapter is not None)
    names, beyond = None, None
    if adapter is not None:
        with torch.device("meta"):
            new_adapter(part, adapter, 0, HEAD if _scores(spec) else None, beyond_parts(part, spec))
        names, beyond = _trained_by_layer(part), beyond_parts(whole, spec)
    depth = config.get_text_config().num_hidden_layers / part.config.get_text_config().num_hidden_layers
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    language_model = (ScoreModel if _scores(spec) else LanguageModel)(part, _CPU, dtype)
    kept = _counted(language_model)
    scaled = Kept(kept.per_token * depth, kept.per_pass * depth) if kept is not None else Kept(0, 0)
    footprint = footprint_of(language_model, scaled, spec.optimization, on_gpu=on_gpu)
    parameters = sum(parameter.numel() for parameter in whole.parameters())
    trained = _requiring_grad(whole) if names is None else _trained(whole, names, beyond)
    footprint = replace(
        footprint,
        weights=sum(parameter.nbytes for parameter in whole.parameters()) + (4 * trained if names is not None else 0),
        parameters=parameters,
        trained=trained,
        layers=whole.config.get_text_config().num_hidden_layers,
    )
    if spec.model.quantization is not None:
        footprint = _quantized(footprint, whole, spec)
    return PlannedModel(footprint, kept is not None, 4 * trained if names is not None else 0)


def _scores(spec: JobSpec) -> bool:
    return spec.model.task == "sequence_classification"


def _built(config: Any, spec: JobSpec, *, adapted: bool) -> Any:
    dtype = torch.bfloat16 if adapted and spec.model.dtype == "bfloat16" else torch.float32
    with torch.device("meta"):
        model = library_class(spec.model).from_config(copy.deepcopy(config), dtype=dtype, trust_remote_code=False)
    if not adapted:
        freeze_beyond_parts(model, spec)
    return model


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


def _trained(whole: torch.nn.Module, by_layer: dict[_Layer, int], beyond: str | None) -> int:
    head = getattr(whole, HEAD, None)
    of_head = sum(parameter.numel() for parameter in head.parameters()) if head is not None else 0
    return of_head + sum(
        by_layer.get(_layer(name, module), 0) for name, module in whole.named_modules() if not is_outside(name, beyond)
    )


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
