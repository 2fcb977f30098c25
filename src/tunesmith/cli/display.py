"""A job in the making on stderr: a bar on a terminal, lines elsewhere."""

import sys
from types import TracebackType
from typing import Protocol, Self

from tunesmith.cli.following import Standing, Update, standing_at
from tunesmith.cli.output import duration, printable, say

_METRICS = "metrics"


class Display(Protocol):
    """Shows updates as they come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def show(self, update: Update) -> None:
        """Show what is new."""
        ...


def display() -> Display:
    """The one that fits stderr."""
    return Bar() if sys.stderr.isatty() else Lines()


class Lines:
    """For logs: every event but the metrics, of which there is a line for every tenth of the way."""

    def __init__(self) -> None:
        self._tenth = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to clear away."""

    def show(self, update: Update) -> None:
        """Print new lines."""
        for event in update.events:
            if event["kind"] == _METRICS:
                self._progress(standing_at(update.standing.state, event["data"]))
            else:
                say(event["message"])

    def _progress(self, standing: Standing) -> None:
        tenth = standing.percent // 10
        if tenth > self._tenth:
            self._tenth = tenth
            say(f"{standing.percent} %  {summary(standing)}")


class Bar:
    """For people: one bar that moves, below the events."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[summary]}", markup=False),
            console=Console(stderr=True, highlight=False),
        )
        self._task = self._progress.add_task("queued", total=None, summary="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, update: Update) -> None:
        """Move the bar."""
        for event in update.events:
            if event["kind"] != _METRICS:
                self._progress.console.print(printable(event["message"]), markup=False)
        standing = update.standing
        self._progress.update(
            self._task,
            description=standing.state,
            total=standing.total_steps,
            completed=standing.step,
            summary=summary(standing),
        )


def summary(standing: Standing) -> str:
    """Step, epoch, loss, speed and remaining time, as far as they are known."""
    parts = []
    if standing.total_steps:
        parts.append(f"step {standing.step}/{standing.total_steps}")
    if standing.epoch is not None:
        parts.append(f"epoch {standing.epoch:.2f}")
    if standing.loss is not None:
        parts.append(f"loss {standing.loss:.4f}")
    if standing.tokens_per_second is not None:
        parts.append(f"{standing.tokens_per_second:,.0f} tokens/s")
    if standing.eta_seconds is not None and standing.state == "running":
        parts.append(f"ETA {duration(standing.eta_seconds)}")
    return "  ".join(parts)
