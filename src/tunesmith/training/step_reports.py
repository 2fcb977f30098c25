"""Figures of steps, read from the device without making it wait, held against NaN, and reported every so often."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.spec import events
from tunesmith.spec.errors import NonFiniteError
from tunesmith.training.order import Order
from tunesmith.training.reporting import Pace, Reporter, peak_memory
from tunesmith.training.state import Progress, Window
from tunesmith.training.task import TOKEN_ACCURACY, Figure, Measured, Task
from tunesmith.training.watch import watched

_PROGRESS_SECONDS = 1.0
"""Between two reports there is word of the step reached at most this often."""

_LINES_SHOWN = 20


@dataclass
class Outcome:
    """A step whose figures are on their way from the device."""

    step: int
    sequences: Sequence[int]
    numbers: Tensor
    """[2 + figures] on the host: gradient norm, sum of losses, totals. Valid once `ready` has passed."""

    counts: Mapping[str, int]
    """Names of the totals, in order, and what each is a sum over."""

    ready: torch.cuda.Event | None
    """None on a processor."""

    trained: int
    tokens: int
    tokens_total: int
    rate: float


class StepReports:
    """Turns outcomes into events."""

    def __init__(
        self, task: Task, order: Order, total: int, every: int, progress: Progress, reporter: Reporter
    ) -> None:
        self._task = task
        self._order = order
        self._total = total
        self._every = every
        self._reporter = reporter
        self._pending: Outcome | None = None
        self._told = -math.inf
        self.window = progress.window
        """What a step read so far adds to the next report."""

        self.levels = progress.levels
        """What the steps read so far were like."""

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
        norm, loss, *totals = outcome.numbers.tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise self._non_finite(outcome, loss)
        self.window = Window(
            steps=self.window.steps + 1,
            trained=self.window.trained + outcome.trained,
            loss=self.window.loss + loss,
            norms=self.window.norms + norm,
            figures=_added(self.window.figures, outcome.counts, totals),
        )
        self.pace.step(outcome.tokens)
        self._watch(outcome, loss / outcome.trained, norm)
        if outcome.step % self._every == 0 or outcome.step == self._total:
            eta = self.pace.outlook(self._total - outcome.step)
            self._report(outcome.step, outcome.tokens_total, outcome.rate, eta)
        elif time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._reporter.write(
                events.Progressed,
                step=outcome.step,
                total_steps=self._total,
                tokens_total=outcome.tokens_total,
                eta_seconds=self.pace.outlook(self._total - outcome.step),
            )

    def end(self, progress: Progress, rate: float) -> None:
        """Report the steps that were not yet, where the training ends before its total. `rate` is of the last."""
        if self.window.steps:
            self._report(progress.step, progress.tokens, rate, 0.0)

    def _watch(self, outcome: Outcome, loss: float, norm: float) -> None:
        self.levels, alarms = watched(self.levels, loss, norm)
        for alarm in alarms:
            self._reporter.write(
                events.Anomaly,
                what=alarm.what,
                step=outcome.step,
                figure=alarm.figure,
                value=alarm.value,
                usual=alarm.usual,
                lines=tuple(self._task.lines(outcome.sequences)[:_LINES_SHOWN]),
            )

    def _report(self, step: int, tokens_total: int, rate: float, eta: float) -> None:
        window, self.window = self.window, Window()
        self._told = time.monotonic()
        means = means_of(window.figures)
        self._reporter.write(
            events.Metrics,
            step=step,
            total_steps=self._total,
            epoch=self._order.epochs_after(step),
            loss=window.loss / window.trained,
            token_accuracy=means.pop(TOKEN_ACCURACY, None),
            learning_rate=rate,
            grad_norm=window.norms / window.steps,
            tokens_total=tokens_total,
            tokens_per_second=self.pace.speed(),
            memory_bytes=peak_memory(self._task.device),
            eta_seconds=eta,
            extra=means,
        )

    def _non_finite(self, outcome: Outcome, loss: float) -> NonFiniteError:
        lines = self._task.lines(outcome.sequences)
        shown = ", ".join(map(str, lines[:_LINES_SHOWN])) + (", ..." if len(lines) > _LINES_SHOWN else "")
        what = "gradient" if math.isfinite(loss) else "loss"
        return NonFiniteError(
            f"The {what} of step {outcome.step} is not finite. Lines of its rows: {shown}.",
            hint="Lower the learning rate, or look at these rows.",
        )


def totals_of(passes: Sequence[Measured]) -> tuple[Tensor, dict[str, int]]:
    """What forward passes found together: [1 + figures] sum of losses and totals, and names with counts in order."""
    names = passes[0].figures if passes else {}
    found: dict[str, list[Figure]] = {name: [each.figures[name] for each in passes] for name in names}
    sums = [torch.stack([each.loss.detach() for each in passes]).sum()]
    sums += [torch.stack([figure.total for figure in figures]).sum() for figures in found.values()]
    counts = {name: sum(figure.count for figure in figures) for name, figures in found.items()}
    return torch.stack([each.float() for each in sums]), counts


def means_of(figures: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """Means by name; nothing of what was not seen."""
    return {name: total / count for name, (total, count) in figures.items() if count}


def _added(
    window: Mapping[str, tuple[float, int]], counts: Mapping[str, int], totals: Sequence[float]
) -> dict[str, tuple[float, int]]:
    added = {}
    for (name, count), total in zip(counts.items(), totals, strict=True):
        before, seen = window.get(name, (0.0, 0))
        added[name] = (before + total, seen + count)
    return added


def recorded_event(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind all that the device was told so far; none on a processor."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event
