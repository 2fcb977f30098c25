"""Token losses without the memory of full logits.

Shapes: N trained positions, H hidden size, V vocabulary.
"""

from collections.abc import Iterator
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


def log_probs_from_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [N] in nats of each target under logits [N, V]."""
    return logits.float().log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


def log_probs_from_hidden(hidden: Tensor, head: torch.nn.Linear, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-probability [N] in nats of each target [N] for hidden states [N, H] under a linear head.

    What each token weighs in the loss is known only later, so the backward pass computes the logits again, chunk by
    chunk.
    """
    found: Tensor = _HeadLogProbs.apply(hidden, head.weight, head.bias, targets, dtype)  # type: ignore[no-untyped-call]
    return found


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, _CHUNK_BYTES // (4 * vocabulary))
    for start in range(0, rows, size):
        yield slice(start, start + size)


class _HeadLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.dtype = dtype
        found = torch.empty(len(hidden), device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(dtype)
            for rows in _chunks(len(hidden), len(weight)):
                logits = functional.linear(hidden[rows].to(dtype), matrix, None if bias is None else bias.to(dtype))
                found[rows] = log_probs_from_logits(logits, targets[rows])
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight) if wants_weight else None
        bias_gradient = torch.zeros_like(bias) if bias is not None and wants_bias else None
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(ctx.dtype)
            for rows in _chunks(len(hidden), len(weight)):
                states, weights = hidden[rows].to(ctx.dtype), gradients[0][rows]
                logits = functional.linear(states, matrix, None if bias is None else bias.to(ctx.dtype)).float()
                gradient = logits.softmax(-1).mul_(-weights[:, None])
                gradient[torch.arange(len(weights), device=weights.device), targets[rows]] += weights
                products = gradient.to(ctx.dtype)
                if hidden_gradient is not None:
                    hidden_gradient[rows] = products @ matrix
                if weight_gradient is not None:
                    weight_gradient += products.t() @ states
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0)
        return hidden_gradient, weight_gradient, bias_gradient, None, None


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
            for rows in _chunks(len(hidden), len(weight)):
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
