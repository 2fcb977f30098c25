"""Adapters that begin with the principal parts of the base model's weights: Meng et al. 2024 (arXiv 2404.02948).

The paper takes these parts, B0 A0, out of the base weights and trains them on: W - s B0 A0 + s B A. Here the base stays
as it is, and the layer's output is lessened by what the first parts give. That is the same sum, but a quantized base
can have it, and the result is an adapter of the original base: one of twice the rank, [B, -B0] [A; A0], which any
library takes for plain LoRA and from which all four are read back exactly.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor
from torch.nn.functional import linear

_ADAPTER = "default"


class FirstParts(torch.nn.Module):
    """What a layer's adapter began with. R: rank."""

    a: Tensor
    """[R, inputs]"""

    b: Tensor
    """[outputs, R]"""

    def __init__(self, a: Tensor, b: Tensor, scaling: float) -> None:
        super().__init__()
        self.register_buffer("a", a.clone(), persistent=False)
        self.register_buffer("b", b.clone(), persistent=False)
        self.scaling = scaling

    def forward(self, inputs: Tensor) -> Tensor:
        """Their part of the layer's output."""
        return linear(linear(inputs, self.a), self.b) * self.scaling


@torch.no_grad()
def begin_with_principal_parts(adapted: PeftModel, poll: Callable[[], None]) -> None:
    """Give every adapter of a model its layer's principal parts, as many as its rank, and take them off the output.

    Each layer's weight is decomposed for that, which takes seconds for large ones: `poll` is called before each.
    """
    for layer in (part for part in adapted.modules() if isinstance(part, LoraLayer)):
        poll()
        a, b = _principal_parts(layer)
        layer.lora_A[_ADAPTER].weight.copy_(a)
        layer.lora_B[_ADAPTER].weight.copy_(b)
        layer.first_parts = FirstParts(a, b, layer.scaling[_ADAPTER])
        layer.register_forward_hook(_without_first_parts)


def joined(adapted: PeftModel, tensors: dict[str, Tensor]) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Config and weights of the plain adapter that does the same, from the weights as PEFT names them."""
    config = copy.copy(adapted.peft_config[_ADAPTER])
    whole = dict(tensors)
    for name, parts in _first_parts(adapted):
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        whole[a] = torch.cat([tensors[a], parts.a])
        whole[b] = torch.cat([tensors[b], -parts.b], dim=1)
        config.r = len(whole[a])
        config.lora_alpha, config.use_rslora = parts.scaling * config.r, False
    return config, whole


def parted(adapted: PeftModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trained weights from what `joined` made. The model takes the first parts back.

    Raises:
        RuntimeError: shapes or names do not match.
    """
    own = dict(tensors)
    for name, parts in _first_parts(adapted):
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        if a not in tensors or b not in tensors:
            raise RuntimeError(f"missing weight {(a if a not in tensors else b)!r}")
        rank = len(parts.a)
        own[a], own[b] = tensors[a][:rank], tensors[b][:, :rank]
        parts.a.copy_(tensors[a][rank:])
        parts.b.copy_(-tensors[b][:, rank:])
    return own


def _principal_parts(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    """A [R, inputs] and B [outputs, R]; times the scaling, their product is the nearest to the weight of this rank."""
    weight = dequantize_module_weight(layer.get_base_layer()).float()
    if layer.fan_in_fan_out:
        weight = weight.T
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    rank = layer.r[_ADAPTER]
    roots = (sizes[:rank] / layer.scaling[_ADAPTER]).sqrt()
    return roots[:, None] * right[:rank], left[:, :rank] * roots


def _first_parts(adapted: PeftModel) -> Iterator[tuple[str, FirstParts]]:
    """Names of layers and what their adapters began with; none for adapters that began otherwise."""
    for name, part in adapted.named_modules():
        if isinstance(part, FirstParts):
            yield name.rpartition(".")[0], part


def _without_first_parts(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Only while the trained adapter is in use: without it, a layer is that of the base model."""
    if layer.disable_adapters or layer.active_adapters != [_ADAPTER]:
        return output
    first: Tensor = layer.first_parts(inputs[0])
    return output - first.to(output.dtype)
