"""What a model costs in memory, counted on the model itself, whether its weights exist or not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.memory import Footprint, Head
from tunesmith.training.text import TokenRow

_LENGTHS = (32, 64)
MOMENT_BYTES = {"adamw": 8.0, "adam": 8.0, "adamw_8bit": 2.0, "adafactor": 0.0, "sgd": 0.0}
"""What an optimizer keeps for each trained weight. Adafactor's rows and columns of a matrix are next to nothing."""


_WHOLE_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Entries of a model's configuration that change logits behind the head, so that the head alone does not give them."""


@dataclass(frozen=True)
class Kept:
    """Bytes that a forward pass keeps for the backward pass, beside weights."""

    per_token: float
    per_pass: float


def kept_by(language_model: LanguageModel) -> Kept:
    """Run two short passes in training mode and count what they keep. Nothing is passed backwards."""
    language_model.core.train()
    try:
        short, long = (_kept_bytes(language_model, length) for length in _LENGTHS)
    finally:
        language_model.core.eval()
    per_token = (long - short) / (_LENGTHS[1] - _LENGTHS[0])
    return Kept(per_token, max(0.0, short - _LENGTHS[0] * per_token))


def footprint_of(
    language_model: LanguageModel, kept: Kept, optimization: OptimizationSpec, *, on_gpu: bool
) -> Footprint:
    """What memory depends on, for a model as it is loaded."""
    core = language_model.core
    config = core.config.get_text_config()
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in core.parameters()]
    number = torch.finfo(language_model.dtype).bits // 8
    residual = core.get_input_embeddings().weight.element_size()
    return Footprint(
        weights=sum(tensor.nbytes for tensor in own_tensors(core)),
        parameters=sum(count for count, _ in sizes),
        trained=sum(count for count, is_trained in sizes if is_trained),
        moment_bytes=MOMENT_BYTES[optimization.optimizer],
        per_token=kept.per_token,
        per_pass=kept.per_pass,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        number_bytes=number,
        residual_bytes=residual,
        head=head_of(core),
        on_gpu=on_gpu,
        can_recompute=core.supports_gradient_checkpointing,
        largest_matrix=0,
        pictures=language_model.picture_bytes,
    )


def head_of(core: Any) -> Head:
    """The layer that gives logits, as its configuration describes it."""
    config = core.config.get_text_config()
    layer = core.get_output_embeddings()
    if layer is None:
        return Head(0, config.hidden_size, trained=False, whole=False)
    whole = type(layer) is not torch.nn.Linear or any(getattr(config, name, None) for name in _WHOLE_LOGITS)
    return Head(layer.weight.shape[0], config.hidden_size, trained=layer.weight.requires_grad, whole=whole)


def own_tensors(core: torch.nn.Module) -> Iterator[Tensor]:
    """What a model holds at all times: its weights, and what else belongs to its layers."""
    yield from core.parameters()
    yield from core.buffers()


def _kept_bytes(language_model: LanguageModel, length: int) -> int:
    own = {tensor.untyped_storage()._cdata for tensor in own_tensors(language_model.core)}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no other storage gets the same place

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    ids = np.zeros(length, dtype=np.int32)
    batch = language_model.batch([TokenRow(0, ids, np.arange(length) > 0)])
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        language_model.hidden(batch)
    return sum(storage.nbytes() for storage in kept.values())
