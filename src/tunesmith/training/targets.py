"""The layers that an adapter is put on."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from tunesmith.spec.errors import AdapterError
from tunesmith.spec.job import ALL_LINEAR, AdapterSpec


def require_targets(model: Any, adapter: AdapterSpec, head: str | None, outside: str | None = None) -> None:
    """See that every target names linear layers, and that PiSSA finds as many principal parts as it needs.

    The model may be one without weights. `head` names a layer that is trained whole, `outside` is a regular expression
    of the names of layers that are left alone.

    Raises:
        AdapterError: one does not; `param` is the field's path.
    """
    layers = linear_layers(model, head, outside)
    if adapter.targets != ALL_LINEAR:
        _require_no_mixture(adapter.targets)
        unknown = [target for target in adapter.targets if not any(_is_meant(target, name) for name in layers)]
        if unknown:
            raise AdapterError(
                f"The base model has no linear layer {', '.join(map(repr, unknown[:8]))}.",
                param="adapter.targets",
                hint=f"Its linear layers: {', '.join(last_parts(layers))}; or use `all-linear`.",
            )
    if adapter.init == "pissa":
        _require_parts(wanted_layers(model, adapter, head, outside), adapter.rank)


def _require_no_mixture(targets: Sequence[str]) -> None:
    word = ALL_LINEAR[0]
    if word in targets:
        others = ", ".join(repr(target) for target in targets[:8] if target != word)
        raise AdapterError(
            f"'{word}' stands for every linear layer but the head, and the targets name "
            f"{f'others beside it: {others}' if others else 'it twice'}.",
            param="adapter.targets",
            hint=f"Give ['{word}'] alone, or names of layers alone.",
        )


def linear_layers(model: Any, head: str | None, outside: str | None = None) -> dict[str, Any]:
    """Layers of a model that an adapter can be put on, by their names. Arguments as for `require_targets`."""
    config = model.config
    text = config.get_text_config()  # of a model that sees, either may say so
    is_tied = getattr(text, "tie_word_embeddings", False) or getattr(config, "tie_word_embeddings", False)
    tied = model.get_output_embeddings() if is_tied else None
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear | Conv1D)
        and name != head
        and part is not tied
        and not is_outside(name, outside)
    }


def wanted_layers(model: Any, adapter: AdapterSpec, head: str | None, outside: str | None = None) -> dict[str, Any]:
    """Those that an adapter asks for. Arguments as for `require_targets`."""
    layers = linear_layers(model, head, outside)
    return {name: part for name, part in layers.items() if _is_target(adapter, name, part, model)}


def is_outside(name: str, outside: Any) -> bool:
    """Whether a layer is left alone. Adapters made elsewhere may have a list of names, by PEFT's rule for lists."""
    if not outside:
        return False
    if isinstance(outside, str):
        return re.fullmatch(outside, name) is not None
    return any(_is_meant(each, name) for each in outside)


def last_parts(names: Iterable[str]) -> list[str]:
    """What layers are called within the part of the model that they belong to, in alphabetical order."""
    return sorted({name.rpartition(".")[2] for name in names})


def _require_parts(layers: dict[str, Any], rank: int) -> None:
    for name, layer in layers.items():
        parts = min(_shape(layer))
        if parts < rank:
            raise AdapterError(
                f"The rank {rank} is more than the {parts} principal parts that the weight of {name} has.",
                param="adapter.rank",
                hint=f"Ask for a rank of at most {parts}, or for the init 'random'.",
            )


def _is_target(adapter: AdapterSpec, name: str, part: Any, model: Any) -> bool:
    if adapter.targets == ALL_LINEAR:
        return part is not model.get_output_embeddings()
    return any(_is_meant(target, name) for target in adapter.targets)


def _is_meant(target: str, name: str) -> bool:
    """PEFT's rule for lists of names."""
    return name == target or name.endswith(f".{target}")


def _shape(layer: Any) -> tuple[int, int]:
    """Inputs and outputs. The weight of a quantized layer does not tell them."""
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    return layer.in_features, layer.out_features
