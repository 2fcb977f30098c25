"""A job's progress in the terminal: a bar and a loss curve, or plain lines where the output is no terminal."""

import time
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

_PLOT_HEIGHT = 13
_PLOT_WIDTH = 90
_LINE_EVERY_SECONDS = 5.0


class Display(Protocol):
    """What is shown of a job."""

    def message(self, text: str, *, warning: bool) -> None:
        """Something the server says about the job."""

    def step(self, data: dict[str, Any]) -> None:
        """Metrics of one training step."""

    def validation(self, data: dict[str, Any]) -> None:
        """Metrics of one pass over the validation rows."""

    def update(self, step: int | None, total: int | None, finish: int | None) -> None:
        """Where the job stands, and when it will end (seconds since the epoch)."""

    def __enter__(self) -> Self:
        """Begin to draw."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End drawing."""


def display_for(console: Console) -> Display:
    """Live where the console can redraw, else plain."""
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


class PlainDisplay:
    """One line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._latest: dict[str, Any] | None = None
        self._printed = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def message(self, text: str, *, warning: bool) -> None:
        """See `Display`."""
        self._line(f"warning: {text}" if warning else text)

    def step(self, data: dict[str, Any]) -> None:
        """See `Display`."""
        self._latest = data

    def validation(self, data: dict[str, Any]) -> None:
        """See `Display`."""
        self._line(_validation_text(data))

    def update(self, step: int | None, total: int | None, finish: int | None) -> None:
        """See `Display`."""
        is_last = step is not None and step == total
        if self._latest and (is_last or time.monotonic() - self._printed >= _LINE_EVERY_SECONDS):
            count = f"step {self._latest['step']}/{self._latest['total_steps']}"
            self._line(", ".join(part for part in (count, _metrics_text(self._latest), _left_text(finish)) if part))
            self._printed, self._latest = time.monotonic(), None

    def _line(self, text: str) -> None:
        self._console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """A loss curve above a progress bar, messages scrolling by above both."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._losses: dict[int, float] = {}
        columns = (TextColumn("  step"), MofNCompleteColumn(), BarColumn(30), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("waiting for the first step ...", total=None)
        self._metrics = ""
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._live.stop()

    def message(self, text: str, *, warning: bool) -> None:
        """See `Display`."""
        self._console.print(f"  [{'yellow' if warning else 'dim'}]{escape(text)}[/]", highlight=False)

    def step(self, data: dict[str, Any]) -> None:
        """See `Display`."""
        self._losses[data["step"]] = data["train_loss"]
        self._metrics = _metrics_text(data)

    def validation(self, data: dict[str, Any]) -> None:
        """See `Display`."""
        self._console.print(f"  [cyan]{_validation_text(data)}[/]", highlight=False)

    def update(self, step: int | None, total: int | None, finish: int | None) -> None:
        """See `Display`."""
        if step and total:
            text = ", ".join(part for part in (self._metrics, _left_text(finish)) if part)
            self._progress.update(self._task, completed=step, total=total, description=text)

    def _render(self) -> Group:
        enough_room = self._console.height >= _PLOT_HEIGHT + 8
        curve = _curve(self._losses, min(_PLOT_WIDTH, self._console.width - 2)) if enough_room else Text()
        return Group(curve, self._progress)


def _curve(losses: dict[int, float], width: int) -> Text:
    if len(losses) < 2:
        return Text()
    import plotext

    steps = sorted(losses)
    figure = plotext.figure.clear()
    figure.plot_size(width, _PLOT_HEIGHT)
    figure.title("training loss")
    figure.label("step", "x")
    figure.draw(figure.signal(steps, [losses[step] for step in steps], marker="braille").lines())
    return Text.from_ansi(str(figure.build()))


def _metrics_text(data: dict[str, Any]) -> str:
    return (
        f"loss {data['train_loss']:.3f}, token accuracy {data['train_mean_token_accuracy']:.0%}, "
        f"{data['tokens_per_second']:.0f} tokens/s"
    )


def _validation_text(data: dict[str, Any]) -> str:
    accuracy = data["full_valid_mean_token_accuracy"]
    return f"validation after step {data['step']}: loss {data['full_valid_loss']:.3f}, token accuracy {accuracy:.0%}"


def _left_text(finish: int | None) -> str:
    left = finish - time.time() if finish else 0
    return f"about {left:.0f} s left" if left >= 1 else ""
