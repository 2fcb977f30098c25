"""Rows of a large file, prepared a piece at a time while the training goes on."""

from collections.abc import Iterator
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.indexed_rows import IndexedRows
from tunesmith.training.order import permutation
from tunesmith.training.preparation import Preparation
from tunesmith.training.processes import Helpers, cores
from tunesmith.training.row_block import RowBlock, joined
from tunesmith.training.text import TokenRow

PIECE_ROWS = 1024
_PART_ROWS = 64
"""What one helper prepares at a time."""

_AHEAD = 2
"""Pieces that are prepared before they are needed."""


class Pieces:
    """Every pass over the rows in an order of its own, cut into pieces. Pieces are numbered through all passes."""

    def __init__(self, rows: IndexedRows, preparation: Preparation[TokenRow], seed: int) -> None:
        self.rows = rows
        self.per_pass = -(-len(rows) // PIECE_ROWS)
        self._seed = seed
        self._preparation = preparation
        self._under_way: dict[int, list[Future[RowBlock]]] = {}
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
                self._under_way[each] = list(self._begun(each))
        self._under_way = {each: parts for each, parts in self._under_way.items() if each >= piece}
        return joined([self._helpers.result(part) for part in self._under_way[piece]])

    def close(self) -> None:
        """End the helpers."""
        self._helpers.close()

    def _begun(self, piece: int) -> Iterator[Future[RowBlock]]:
        numbers = self.numbers(piece)
        for start in range(0, len(numbers), _PART_ROWS):
            yield self._helpers.submit(numbers[start : start + _PART_ROWS])

    def _prepared(self, numbers: NDArray[np.int64]) -> RowBlock:
        return self._preparation.block(self.rows.examples(numbers.tolist()))

    def _numbers_of_pass(self, epoch: int) -> Any:
        return permutation(self._seed, epoch, len(self.rows)).numpy()
