"""The three parts of a vision-language model, of which a training changes some: what reads, what sees, and between."""

import re
from collections.abc import Iterator
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from tunesmith.spec.errors import AdapterError, ModelLoadError
from tunesmith.spec.job import JobSpec
from tunesmith.training.targets import wanted_layers

LANGUAGE, PROJECTOR, VISION = "language", "projector", "vision"

_MERGERS = ("merger", "deepstack_merger")
"""What the projector is called in models that keep it within what sees (Qwen)."""


def require_parts(core: Any, spec: JobSpec, *, continues: bool) -> None:
    """See that a job trains something of each part that it names. The model may be one without weights.

    Raises:
        AdapterError: no layer of a part is among the targets of its adapter.
        ModelLoadError: the architecture's parts cannot be told apart, or it lacks one.
    """
    layout = Layout(core)
    if continues:
        return
    if spec.adapter is None:
        trained = {layout.part_of(name) for name, _ in core.named_parameters()}
    else:
        trained = {layout.part_of(name) for name in wanted_layers(core, spec.adapter, None, beyond_parts(core, spec))}
    for part in trained_parts(spec) or ():
        if part in trained:
            continue
        if spec.adapter is None:
            raise ModelLoadError(f"Models of the type {core.config.model_type!r} have no part {part!r} of its own.")
        raise AdapterError(
            f"The adapter trains nothing of the part {part!r}: it has no linear layer there among its targets.",
            param="method.parameters.parts",
            hint="Leave the part out, name other targets, or tune all weights.",
        )


def freeze_beyond_parts(core: Any, spec: JobSpec) -> None:
    """Leave only the weights of the parts that a job trains to be trained. All, where the model has no parts.

    Raises:
        ModelLoadError: the architecture's parts cannot be told apart.
    """
    parts = trained_parts(spec)
    if parts is None:
        return
    layout = Layout(core)
    for name, parameter in core.named_parameters():
        parameter.requires_grad_(layout.part_of(name) in parts)


def beyond_parts(core: Any, spec: JobSpec) -> str | None:
    """A regular expression of the names of all layers beyond the parts that a job trains; none if there are none.

    Raises:
        ModelLoadError: the architecture's parts cannot be told apart.
    """
    parts = trained_parts(spec)
    if parts is None:
        return None
    layout = Layout(core)
    patterns = [rf"{re.escape(name)}(\..*)?" for name in _beyond("", core, layout, parts)]
    return "|".join(patterns) or None


def trained_parts(spec: JobSpec) -> tuple[str, ...] | None:
    """The parts of its model that a job trains; none where it has no parts."""
    if spec.model.modality != "vision_language":
        return None
    return tuple(spec.method.parameters.get("parts") or (LANGUAGE,))


def _beyond(name: str, module: torch.nn.Module, layout: "Layout", parts: tuple[str, ...]) -> Iterator[str]:
    """Names of the largest modules whose linear layers are all beyond the parts."""
    layers = [
        f"{name}.{inner}".strip(".")
        for inner, each in module.named_modules()
        if isinstance(each, torch.nn.Linear | Conv1D)
    ]
    are_beyond = [layout.part_of(layer) not in parts for layer in layers]
    if layers and all(are_beyond):
        yield name
    elif any(are_beyond):
        for inner, child in module.named_children():
            yield from _beyond(f"{name}.{inner}".strip("."), child, layout, parts)


class Layout:
    """Which weights belong to which part."""

    def __init__(self, core: Any) -> None:
        names = {id(module): name for name, module in core.named_modules()}
        reads, sees = core.get_decoder(), core.get_encoder("image")
        if reads is core or sees is core or reads is sees:
            raise ModelLoadError(
                f"In models of the type {core.config.model_type!r} what sees cannot be told from what reads, so they "
                "cannot be trained here."
            )
        self._language = [names[id(reads)], names.get(id(core.get_output_embeddings()), names[id(reads)])]
        self._vision = names[id(sees)]

    def part_of(self, name: str) -> str:
        """The part of a weight or a module."""
        if any(_is_within(name, each) for each in self._language):
            return LANGUAGE
        if not _is_within(name, self._vision):
            return PROJECTOR
        inner = name.removeprefix(self._vision).split(".")
        return PROJECTOR if any(each.startswith(_MERGERS) for each in inner) else VISION


def _is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
