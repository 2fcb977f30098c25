"""Token losses without the memory of full logits.

Shapes: N trained positions, H hidden size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_BYTES = 64 * 2**20
"""Size of one chunk's float32 logits."""


@dataclass(frozen=True)
class Sums:
    """Sums over a micro-batch's trained tokens, as scalars on the model's device."""

    loss: Tensor
    """Negative log-likelihood in nats; carries the graph."""

    correct: Tensor
    """Tokens that were the model's first choice."""


def loss_from_logits(logits: Tensor, targets: Tensor) -> Sums:
    """Sums for logits [N, V] and targets [N]."""
    loss = functional.cross_entropy(logits.float(), targets, reduction="sum")
    return Sums(loss, (logits.argmax(-1) == targets).sum())


def loss_from_hidden(hidden: Tensor, head: torch.nn.Linear, targets: Tensor, dtype: torch.dtype) -> Sums:
    """Sums for hidden states [N, H] under a linear head, with matrix products in `dtype`.

    The gradients are computed together with the loss, chunk by chunk, so that logits exist for one chunk only and the
    head is multiplied once forward and once back. A frozen head costs no gradient of its own.
    """
    loss, correct = _HeadLoss.apply(hidden, head.weight, head.bias, targets, dtype)  # type: ignore[no-untyped-call]
    return Sums(loss, correct)


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight) if wants_weight else None
        bias_gradient = torch.zeros_like(bias) if bias is not None and wants_bias else None
        loss = torch.zeros((), device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            size = max(1, _CHUNK_BYTES // (4 * weight.shape[0]))
            for start in range(0, len(hidden), size):
                rows = slice(start, start + size)
                states, wanted = hidden[rows].to(dtype), targets[rows]
                logits = functional.linear(states, matrix, None if bias is None else bias.to(dtype)).float()
                correct += (logits.argmax(-1) == wanted).sum()
                scores = logits.log_softmax(-1)
                loss -= scores.gather(1, wanted[:, None]).sum()
                if not (wants_hidden or wants_weight or wants_bias):
                    continue
                gradient = scores.exp_()
                gradient[torch.arange(len(wanted), device=wanted.device), wanted] -= 1
                products = gradient.to(dtype)
                if hidden_gradient is not None:
                    hidden_gradient[rows] = products @ matrix
                if weight_gradient is not None:
                    weight_gradient += products.t() @ states
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0)
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        scaled = [None if saved is None else saved * scale for saved in ctx.saved_tensors]
        return (*scaled, None, None)
