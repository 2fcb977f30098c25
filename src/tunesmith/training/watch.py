"""Looks at the figures of each step for what is out of the ordinary. It warns, and changes nothing.

The thresholds are meant to be silent on a training that is only noisy: on small batches, a step's loss may well be
twice its neighbours'. What counts is not how high a figure is but how far it rises above the steps just before it, held
against such rises earlier in the same training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from tunesmith.spec.frozen import Frozen

Figure = Literal["loss", "grad_norm"]

MIN_STEPS = 30
"""Before so many steps are done, nothing is a spike."""

LOCAL = 16
"""A rise is measured from the median of this many steps before."""

USUAL_TIMES = 10.0
"""A spike rises by this many times the usual rise, and"""

HIGHEST_TIMES = 3.0
"""by this many times the highest rise so far, and"""

MIN_TIMES: dict[Figure, float] = {"loss": 1.0, "grad_norm": 5.0}
"""by this many times the median, and"""

MIN_RISE: dict[Figure, float] = {"loss": 1.0, "grad_norm": 0.0}
"""by this much: rows known by heart have losses near 0, of which any other is a multiple."""

SMOOTHED = 32
"""Steps over which the loss is averaged to tell a divergence."""

DIVERGED_TIMES = 1.5
"""A divergence is an averaged loss of more than this many times its lowest, and"""

DIVERGED_RISE = 0.5
"""this much above that,"""

DIVERGED_STEPS = 50
"""for this many steps in a row."""

# The usual rise is an average over about 100 steps. The highest rise is forgotten within some thousand steps: rows of a
# rare kind raise one alarm, not one each.
_USUAL_SHARE = 0.01
_HIGHEST_DECAY = 0.9995


class Rises(Frozen):
    """How far a figure has risen above the steps just before."""

    recent: tuple[float, ...] = ()
    """Values of the newest `SMOOTHED` steps, oldest first."""

    usual: float = 0.0
    """Average rise; a fall counts as none."""

    highest: float = 0.0


class Levels(Frozen):
    """What the steps so far were like."""

    steps: int = 0
    loss: Rises = Rises()
    grad_norm: Rises = Rises()
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
    alarms = []
    if levels.steps >= MIN_STEPS:
        alarms = [*_spikes("loss", levels.loss, loss), *_spikes("grad_norm", levels.grad_norm, norm)]
    known = levels.model_copy(
        update={
            "steps": levels.steps + 1,
            "loss": _with(levels.loss, loss, levels.steps),
            "grad_norm": _with(levels.grad_norm, norm, levels.steps),
        }
    )
    return _smoothed(known, alarms)


def _level(rises: Rises) -> float:
    return median(rises.recent[-LOCAL:])


def _spikes(figure: Figure, rises: Rises, value: float) -> Iterator[Alarm]:
    level = _level(rises)
    bounds = (
        USUAL_TIMES * rises.usual,
        HIGHEST_TIMES * rises.highest,
        MIN_TIMES[figure] * level,
        MIN_RISE[figure],
    )
    if value - level > max(bounds):
        yield Alarm("spike", figure, value, level)


def _with(rises: Rises, value: float, steps: int) -> Rises:
    share = max(_USUAL_SHARE, 1 / (steps + 1))
    rise = max(0.0, value - _level(rises)) if rises.recent else 0.0
    return Rises(
        recent=(*rises.recent, value)[-SMOOTHED:],
        usual=(1 - share) * rises.usual + share * rise,
        highest=max(rise, _HIGHEST_DECAY * rises.highest),
    )


def _smoothed(levels: Levels, alarms: list[Alarm]) -> tuple[Levels, list[Alarm]]:
    if levels.steps < SMOOTHED:
        return levels, alarms
    mean = fmean(levels.loss.recent)
    lowest = mean if levels.lowest is None else min(levels.lowest, mean)
    is_high = mean > lowest * DIVERGED_TIMES and mean > lowest + DIVERGED_RISE
    high_steps = levels.high_steps + 1 if is_high else 0
    if high_steps == DIVERGED_STEPS:
        alarms = [*alarms, Alarm("divergence", "loss", mean, lowest)]
    return levels.model_copy(update={"lowest": lowest, "high_steps": high_steps}), alarms
