"""At which sizes pictures are trained: each once per resolution, in its own shape, never larger than it is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.data.picture_set import Picture
from tunesmith.training.diffusion.family import Grid

_GRAIN = 64
"""Edges are multiples of so many pixels, as in ai-toolkit, so that pictures share shapes and can share a pass."""


@dataclass(frozen=True)
class Item:
    """One picture at one size: what an epoch counts."""

    picture: int
    """Place in the set, from 0."""

    width: int
    """In pixels."""

    height: int
    """In pixels."""

    patch: int
    """Pixels along the edge of one token."""

    @property
    def tokens(self) -> int:
        """What the transformer reads of the picture."""
        return (self.width // self.patch) * (self.height // self.patch)


def fitting(pictures: Sequence[Picture], resolutions: Sequence[int], grid: Grid) -> list[int]:
    """Places, from 0, of the pictures that have room for a token along each edge, at every resolution."""
    return [
        place
        for place, picture in enumerate(pictures)
        if all(min(_size(picture, resolution, grid)) > 0 for resolution in resolutions)
    ]


def items_of(pictures: Sequence[Picture], places: Iterable[int], resolutions: Sequence[int], grid: Grid) -> list[Item]:
    """All items of an epoch over the pictures at these places, which must fit."""
    return [
        Item(place, *_size(pictures[place], resolution, grid), grid.patch)
        for place in places
        for resolution in resolutions
    ]


def _size(picture: Picture, resolution: int, grid: Grid) -> tuple[int, int]:
    """Width and height; an edge without room for a token is 0."""
    width, height = picture.width, picture.height
    scale = min(1.0, resolution / math.sqrt(width * height))
    # A coarse grain would cost small pictures most of themselves.
    grain = max(grid.patch, min(_GRAIN, resolution // 8) // grid.patch * grid.patch)
    return _edge(width, scale, grain, grid), _edge(height, scale, grain, grid)


def _edge(edge: int, scale: float, grain: int, grid: Grid) -> int:
    """The multiple of the grain nearest to the scaled edge, up to the edge itself; of the patch, where that is none."""
    size = min(round(edge * scale / grain) * grain, edge // grain * grain)
    size = size or int(edge * scale) // grid.patch * grid.patch
    return size if grid.longest_edge is None else min(size, grid.longest_edge)
