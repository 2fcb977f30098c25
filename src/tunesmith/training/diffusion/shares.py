"""Which pictures of a set are trained on, and which are only scored."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.data.split import parts_at_random, parts_in_order
from tunesmith.spec.job import JobSpec
from tunesmith.spec.reading import PARTS


@dataclass(frozen=True)
class Shares:
    """Places of pictures in their set, from 0."""

    trained: tuple[int, ...]
    scored: tuple[int, ...]
    """None without a split."""

    kept_apart: tuple[int, ...]
    """For tests: they take no part."""


def shares_of(spec: JobSpec, places: Sequence[int]) -> Shares:
    """How the pictures at these places of a set are shared out."""
    split = spec.data.split
    if split is None:
        return Shares(tuple(places), (), ())
    in_order = split.by == "sequential"
    parts = list(
        parts_in_order(split.ratios, len(places))
        if in_order
        else parts_at_random(split.ratios, len(places), spec.optimization.seed)
    )
    trained, scored, kept_apart = (
        tuple(place for place, found in zip(places, parts, strict=True) if found == part) for part in PARTS
    )
    return Shares(trained, scored, kept_apart)
