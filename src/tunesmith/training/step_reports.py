"""Figures of steps, read from the device without making it wait, held against NaN, and reported every so often."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.spec import events
from tunesmith.spec.errors import NonFiniteError
from tunesmith.training.order import DataOrder
from tunesmith.training.reporting import Pace, Reporter, peak_memory
from tunesmith.training.state import Window
from tunesmith.training.task import Task


@dataclass
class Outcome:
    """A step whose figures are on their way from the device."""

    step: int
    sequences: Sequence[int]
    figures: Tensor
    """[3] on the host: sum of losses, hits, gradient norm. Valid once `ready` has passed."""

    ready: torch.cuda.Event | None
    """None on a processor."""

    trained: int
    tokens: int
    tokens_total: int
    rate: float


class StepReports:
    """Turns outcomes into events."""

    def __init__(
        self, task: Task, order: DataOrder, total: int, every: int, window: Window, reporter: Reporter
    ) -> None:
        self._task = task
        self._order = order
        self._total = total
        self._every = every
        self._reporter = reporter
        self._pending: Outcome | None = None
        self.window = window
        """What a step read so far adds to the next report."""

        self.pace = Pace()

    def add(self, outcome: Outcome) -> None:
        """Read a step; on a GPU the one before it, so that the host never waits for the step just begun."""
        if outcome.ready is None:
            self._pending = outcome
            self.flush()
            return
        self.flush()
        self._pending = outcome

    def flush(self) -> None:
        """Read what is still under way, and report if that is due.

        Raises:
            NonFiniteError: its loss or gradient is NaN or infinite.
        """
        outcome, self._pending = self._pending, None
        if outcome is None:
            return
        if outcome.ready is not None:
            outcome.ready.synchronize()
        loss, hits, norm = outcome.figures.tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._non_finite(outcome, loss)
        self.window = Window(
            steps=self.window.steps + 1,
            trained=self.window.trained + outcome.trained,
            loss=self.window.loss + loss,
            hits=self.window.hits + hits,
            norms=self.window.norms + norm,
        )
        self.pace.step(outcome.tokens)
        if outcome.step % self._every == 0 or outcome.step == self._total:
            self._report(outcome)

    def _report(self, outcome: Outcome) -> None:
        window, self.window = self.window, Window()
        speed, eta = self.pace.read(self._total - outcome.step)
        self._reporter.write(
            events.Metrics,
            step=outcome.step,
            total_steps=self._total,
            epoch=self._order.epochs_after(outcome.step),
            loss=window.loss / window.trained,
            token_accuracy=window.hits / window.trained,
            learning_rate=outcome.rate,
            grad_norm=window.norms / window.steps,
            tokens_total=outcome.tokens_total,
            tokens_per_second=speed,
            memory_bytes=peak_memory(self._task.device),
            eta_seconds=eta,
        )

    def _non_finite(self, outcome: Outcome, loss: float) -> NonFiniteError:
        lines = self._task.lines(outcome.sequences)
        shown = ", ".join(map(str, lines[:20])) + (", ..." if len(lines) > 20 else "")
        what = "gradient" if math.isfinite(loss) else "loss"
        return NonFiniteError(
            f"The {what} of step {outcome.step} is not finite. Lines of its rows: {shown}.",
            hint="Lower the learning rate, or look at these rows.",
        )


def recorded_event(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind all that the device was told so far; none on a processor."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event
