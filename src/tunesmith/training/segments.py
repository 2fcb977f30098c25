"""The sequences of one concatenated row, and how attention is given several of them at a time.

Shapes: T tokens of the row; P slots, which are T plus some padding; S sequences of a group, of at most L tokens each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

_LEAST_FILL = 0.75
"""Sequences share a group if the shortest has at least this share of the longest one's tokens."""


@dataclass(frozen=True)
class Group:
    """Sequences of similar length, padded at the right to the longest. Causal attention needs no mask for that."""

    start: int
    """Slot of its first token."""

    count: int
    length: int


class Segments:
    """The sequences of one row."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = tuple(lengths)
        """Tokens of each, in order."""

        self.windows_seen: set[int] = set()
        """Sliding windows that layers asked for."""

        self._device = device
        self._masks: dict[tuple[int, int], Tensor] = {}

    @cached_property
    def bounds(self) -> Tensor:
        """[sequences + 1] int32: where each starts, and the end."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32).to(self._device, non_blocking=True)

    @cached_property
    def arrangement(self) -> "Arrangement":
        """The same tokens, grouped."""
        return _arrange(self.lengths, self._device)

    def window_mask(self, length: int, window: int) -> Tensor:
        """[length, length] bool: true where a position may see another at most `window - 1` before it."""
        key = (length, window)
        if key not in self._masks:
            ones = torch.ones(length, length, dtype=torch.bool, device=self._device)
            self._masks[key] = ones.tril().triu(1 - window)
        return self._masks[key]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where each token of a row lies among the slots of groups."""

    groups: tuple[Group, ...]
    sources: Tensor
    """[P] token in each slot; some token in slots of padding."""

    slots: Tensor
    """[T] slot of each token."""

    padding: Tensor
    """Slots that hold no token."""

    def into_slots(self, tokens: Tensor) -> Tensor:
        """[T, ...] to [P, ...]."""
        moved: Tensor = _Move.apply(tokens, self.sources, self.slots, None)  # type: ignore[no-untyped-call]
        return moved

    def out_of_slots(self, slots: Tensor) -> Tensor:
        """[P, ...] to [T, ...]. What lies in slots of padding is left behind."""
        moved: Tensor = _Move.apply(slots, self.slots, self.sources, self.padding)  # type: ignore[no-untyped-call]
        return moved


class _Move(torch.autograd.Function):
    """Selects rows. As each token has one slot, the gradient is a selection too, not a slow sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sources: Tensor, back: Tensor, empty: Tensor | None) -> Tensor:
        ctx.save_for_backward(back, empty)
        return rows.index_select(0, sources)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        back, empty = ctx.saved_tensors
        gradient = gradients[0].index_select(0, back)
        return gradient if empty is None else gradient.index_fill_(0, empty, 0), None, None, None


@dataclass
class _Plan:
    groups: list[Group] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    padding: list[int] = field(default_factory=list)


def _arrange(lengths: Sequence[int], device: torch.device) -> Arrangement:
    starts = [0, *accumulate(lengths)]
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    slots = [0] * starts[-1]
    plan = _Plan()
    while order:
        longest = lengths[order[0]]
        count = sum(lengths[index] >= _LEAST_FILL * longest for index in order)
        members, order = order[:count], order[count:]
        plan.groups.append(Group(start=len(plan.sources), count=count, length=longest))
        for index in members:
            slot, start, length = len(plan.sources), starts[index], lengths[index]
            slots[start : start + length] = range(slot, slot + length)
            plan.padding += range(slot + length, slot + longest)
            plan.sources += [*range(start, start + length), *[start] * (longest - length)]

    def on_device(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(device, non_blocking=True)

    return Arrangement(tuple(plan.groups), on_device(plan.sources), on_device(slots), on_device(plan.padding))
