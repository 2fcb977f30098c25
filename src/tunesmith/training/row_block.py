"""Prepared rows as a few arrays: what processes hand to each other and what is kept on disk.

N: rows that were looked at; S: token sequences of a row; F: findings that there are; T: tokens of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Generic, get_args

import numpy as np
from numpy.typing import NDArray

from tunesmith.spec.receipt import Finding
from tunesmith.training.shapes import R, RowShape
from tunesmith.training.text import TokenRow

FINDINGS: tuple[Finding, ...] = get_args(Finding)

WHOLE, CUT, DROPPED, UNTRAINABLE = range(4)
"""What became of a row. The last two take no part, and have no tokens."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows in the order in which they were looked at, also those that take no part."""

    lines: NDArray[np.int64]
    """[N]"""

    fates: NDArray[np.uint8]
    """[N]"""

    labels: NDArray[np.int64]
    """[N]; what a row has beside its tokens, as its shape says."""

    lengths: NDArray[np.int32]
    """[N, S]"""

    findings: NDArray[np.uint8]
    """[N, F]; how often the chat template did what `FINDINGS` names."""

    tokens: NDArray[np.int32]
    """[T]; a token that carries loss as its complement, which is below 0."""

    @property
    def kept(self) -> NDArray[np.intp]:
        """Places of the rows that take part."""
        return np.flatnonzero(self.fates < DROPPED)

    def taken(self, places: NDArray[np.intp]) -> "RowBlock":
        """The rows at some places, in that order."""
        ends = np.cumsum(self.lengths.sum(1))
        pieces = [self.tokens[ends[place] - self.lengths[place].sum() : ends[place]] for place in places]
        return RowBlock(
            lines=self.lines[places],
            fates=self.fates[places],
            labels=self.labels[places],
            lengths=self.lengths[places],
            findings=self.findings[places],
            tokens=np.concatenate([self.tokens[:0], *pieces]),
        )


def joined(blocks: Sequence[RowBlock]) -> RowBlock:
    """The rows of all blocks, of which there is at least one."""
    return RowBlock(**{each.name: np.concatenate([getattr(block, each.name) for block in blocks]) for each in _FIELDS})


_FIELDS = fields(RowBlock)


@dataclass(frozen=True, eq=False)
class BlockRows(Sequence[R], Generic[R]):
    """The rows of a block that take part. Each is made when it is asked for."""

    block: RowBlock
    shape: RowShape[R]
    _places: NDArray[np.intp] = field(init=False)
    _ends: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", self.block.kept)
        object.__setattr__(self, "_ends", np.cumsum(self.block.lengths.reshape(-1), dtype=np.int64))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row's longest sequence."""
        lengths: list[int] = self.block.lengths[self._places].max(1).tolist()
        return lengths

    @property
    def tokens(self) -> list[int]:
        """Tokens of all sequences of each row."""
        tokens: list[int] = self.block.lengths[self._places].sum(1).tolist()
        return tokens

    def first(self, count: int) -> list[R]:
        """The first so many, or all."""
        return [self[index] for index in range(min(count, len(self)))]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> R:  # type: ignore[override]
        place = self._places[index]
        line, count = int(self.block.lines[place]), self.block.lengths.shape[1]
        sequences = [self._sequence(line, place * count + which) for which in range(count)]
        return self.shape.row_of(tuple(sequences), int(self.block.labels[place]))

    def _sequence(self, line: int, index: int) -> TokenRow:
        end = self._ends[index]
        tokens = self.block.tokens[end - self.block.lengths.reshape(-1)[index] : end]
        trained = tokens < 0
        return TokenRow(line, np.where(trained, ~tokens, tokens), trained)
