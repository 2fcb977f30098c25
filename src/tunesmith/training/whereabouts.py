"""Where a worker is: what it does, at which step, and with which rows."""

from dataclasses import dataclass
from typing import Literal

from tunesmith.training.task import MicroBatch

Phase = Literal[
    "check", "loading", "forward", "backward", "optimizer", "evaluation", "sampling", "saving", "verification"
]

LINES_SHOWN = 20
"""Lines that are told of a forward pass, at most."""


@dataclass
class Whereabouts:
    """What the worker does at the moment."""

    phase: Phase
    step: int | None = None
    """1-based; none outside of the training."""

    batch: MicroBatch | None = None
    """What goes through the model."""

    changes_weights: bool = False
    """Whether the optimizer was told to do its step: from then on, it may have changed some weights."""

    def enter(self, phase: Phase, step: int | None = None, batch: MicroBatch | None = None) -> None:
        """Begin with something else."""
        self.phase, self.step, self.batch, self.changes_weights = phase, step, batch, False

    @property
    def lines(self) -> tuple[int, ...]:
        """First lines of the rows that go through the model."""
        return tuple(sorted(set(self.batch.lines)))[:LINES_SHOWN] if self.batch is not None else ()
