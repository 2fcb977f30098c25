"""Looks at the figures of each step for what is out of the ordinary. It warns, and changes nothing.

The thresholds are meant to be silent on a training that is only noisy: on small batches, a step's loss may well be half
as high again as its neighbours'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from pydantic import Field

from tunesmith.spec.frozen import Frozen

WINDOW = 64
"""Steps that a step is compared with."""

MIN_STEPS = 20
"""Fewer than these are not compared with."""

SPREADS = 10.0
"""A spike is this many times the usual spread above the median (the spread is told by the median deviation), and"""

TIMES_THE_HIGHEST: Mapping[str, float] = {"loss": 1.5, "grad_norm": 4.0}
"""this many times the highest value in the window; and"""

MIN_RISE: Mapping[str, float] = {"loss": 1.0, "grad_norm": 0.0}
"""this much above the median: rows that are known by heart have losses near 0, of which any other is a multiple."""

SMOOTHED = 32
"""Steps over which the loss is averaged to tell a divergence."""

DIVERGED_TIMES = 1.5
"""A divergence is an averaged loss of more than this many times its lowest, and"""

DIVERGED_RISE = 0.5
"""this much above that,"""

DIVERGED_STEPS = 50
"""for this many steps in a row."""

# Of a normal distribution, the standard deviation is this many times the median deviation.
_DEVIATIONS = 1.4826

Figure = Literal["loss", "grad_norm"]


class Levels(Frozen):
    """What the steps so far were like."""

    recent: dict[Figure, tuple[float, ...]] = Field(default={"loss": (), "grad_norm": ()})
    """Values of the newest `WINDOW` steps, oldest first."""

    lowest: float | None = None
    """The lowest averaged loss; none before there were enough steps for one."""

    high_steps: int = 0
    """Steps in a row whose averaged loss was far above it."""


@dataclass(frozen=True)
class Alarm:
    """Something out of the ordinary."""

    what: Literal["spike", "divergence"]
    figure: Figure
    value: float
    usual: float
    """What it is held against."""


def watched(levels: Levels, loss: float, norm: float) -> tuple[Levels, list[Alarm]]:
    """The levels after one more step, and what is out of the ordinary about it."""
    alarms = [*_spikes("loss", levels.recent["loss"], loss), *_spikes("grad_norm", levels.recent["grad_norm"], norm)]
    losses = (*levels.recent["loss"], loss)[-WINDOW:]
    norms = (*levels.recent["grad_norm"], norm)[-WINDOW:]
    recent: dict[Figure, tuple[float, ...]] = {"loss": losses, "grad_norm": norms}
    if len(losses) < SMOOTHED:
        return Levels(recent=recent), alarms
    mean = fmean(losses[-SMOOTHED:])
    lowest = mean if levels.lowest is None else min(levels.lowest, mean)
    is_high = mean > lowest * DIVERGED_TIMES and mean > lowest + DIVERGED_RISE
    high_steps = levels.high_steps + 1 if is_high else 0
    if high_steps == DIVERGED_STEPS:
        alarms.append(Alarm("divergence", "loss", mean, lowest))
    return Levels(recent=recent, lowest=lowest, high_steps=high_steps), alarms


def _spikes(figure: Figure, before: Sequence[float], value: float) -> Iterator[Alarm]:
    if len(before) < MIN_STEPS:
        return
    usual = median(before)
    spread = _DEVIATIONS * median(abs(each - usual) for each in before)
    bounds = (
        usual + SPREADS * spread,
        max(before) * TIMES_THE_HIGHEST[figure],
        usual + MIN_RISE[figure],
    )
    if value > max(bounds):
        yield Alarm("spike", figure, value, usual)
