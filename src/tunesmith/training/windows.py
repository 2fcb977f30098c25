"""Rows of a large file, prepared a piece at a time while the training goes on."""

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.indexed_rows import IndexedRows
from tunesmith.training.order import permutation
from tunesmith.training.preparation import Preparation
from tunesmith.training.processes import Helpers, cores
from tunesmith.training.row_block import RowBlock, joined
from tunesmith.training.row_shelf import RowShelf
from tunesmith.training.text import TokenRow

PIECE_ROWS = 1024
_PART_ROWS = 64
"""What one helper prepares at a time."""

_AHEAD = 2
"""Pieces that are prepared before they are needed."""


class Pieces:
    """Every pass over the rows in an order of its own, cut into pieces. Pieces are numbered through all passes."""

    def __init__(self, rows: IndexedRows, preparation: Preparation[TokenRow], seed: int, shelf: RowShelf) -> None:
        self.rows = rows
        self.per_pass = -(-len(rows) // PIECE_ROWS)
        self._seed = seed
        self._preparation = preparation
        self._shelf = shelf
        self._under_way: dict[int, list[tuple[NDArray[np.int64], Future[RowBlock]]]] = {}
        self._pass = lru_cache(maxsize=2)(self._numbers_of_pass)
        rows.settle()
        self._helpers = Helpers(self._prepared, preparation.poll, max(1, cores() - 1))

    def numbers(self, piece: int) -> NDArray[np.int64]:
        """The rows of a piece."""
        epoch, within = divmod(piece, self.per_pass)
        numbers: NDArray[np.int64] = self._pass(epoch)[within * PIECE_ROWS : (within + 1) * PIECE_ROWS]
        return numbers

    def block(self, piece: int) -> RowBlock:
        """The prepared rows of a piece. Those of the next pieces are begun, earlier ones forgotten.

        Raises:
            DatasetError: a row cannot be used.
        """
        for each in range(piece, piece + 1 + _AHEAD):
            if each not in self._under_way:
                self._under_way[each] = self._begun(each)
        self._under_way = {each: parts for each, parts in self._under_way.items() if each >= piece}
        numbers, new = self.numbers(piece), self._under_way[piece]
        made = [(some, self._helpers.result(part)) for some, part in new]
        self._leave(made)
        missing = np.concatenate([some for some, _ in made]) if made else numbers[:0]
        found, block = self._shelf.take(np.setdiff1d(numbers, missing))
        if block is not None:
            made.append((found, block))
        broken = np.setdiff1d(numbers, np.concatenate([some for some, _ in made])) if made else numbers
        if len(broken):
            made.append((broken, self._prepared(broken)))
        return _in_order(numbers, made)

    def keep(self) -> None:
        """Leave on disk what is not there yet."""
        with suppress(OSError):
            self._shelf.keep()

    def close(self) -> None:
        """End the helpers."""
        self.keep()
        self._helpers.close()

    def _begun(self, piece: int) -> list[tuple[NDArray[np.int64], Future[RowBlock]]]:
        """Have helpers prepare those rows of a piece that are not on disk."""
        numbers = self.numbers(piece)
        missing = numbers[~self._shelf.has(numbers)]
        parts = [missing[start : start + _PART_ROWS] for start in range(0, len(missing), _PART_ROWS)]
        return [(part, self._helpers.submit(part)) for part in parts]

    def _leave(self, made: Sequence[tuple[NDArray[np.int64], RowBlock]]) -> None:
        """A full volume makes later trainings slower, not this one fail."""
        with suppress(OSError):
            for numbers, block in made:
                self._shelf.add(numbers, block)

    def _prepared(self, numbers: NDArray[np.int64]) -> RowBlock:
        return self._preparation.block(self.rows.examples(numbers.tolist()))

    def _numbers_of_pass(self, epoch: int) -> Any:
        return permutation(self._seed, epoch, len(self.rows)).numpy()


def _in_order(numbers: NDArray[np.int64], made: Sequence[tuple[NDArray[np.int64], RowBlock]]) -> RowBlock:
    """Rows in the order of these numbers, of which each was made once."""
    places = np.argsort(np.concatenate([some for some, _ in made]))
    return joined([block for _, block in made]).taken(places[np.argsort(np.argsort(numbers))])
