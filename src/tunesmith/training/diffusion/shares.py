"""Which pictures of a set are trained on, and which are only scored."""

from dataclasses import dataclass

from tunesmith.data.split import parts_at_random, parts_in_order
from tunesmith.spec.job import JobSpec


@dataclass(frozen=True)
class Shares:
    """Places of pictures in their set, from 0."""

    trained: tuple[int, ...]
    scored: tuple[int, ...]
    """None without a split."""


def shares_of(spec: JobSpec, pictures: int) -> Shares:
    """How a set of so many pictures is shared out. Those of the third share of a split are in neither part."""
    split = spec.data.split
    if split is None:
        return Shares(tuple(range(pictures)), ())
    in_order = split.by == "sequential"
    parts = list(
        parts_in_order(split.ratios, pictures)
        if in_order
        else parts_at_random(split.ratios, pictures, spec.optimization.seed)
    )
    return Shares(
        trained=tuple(place for place, part in enumerate(parts) if part == "train"),
        scored=tuple(place for place, part in enumerate(parts) if part == "validation"),
    )
