"""The rows of a job, tokenised and held to the length limit. What is left out is counted, never silent."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, Literal

import numpy as np

from tunesmith.data.examples import Example
from tunesmith.spec.errors import NothingToTrainError, RowTooLongError
from tunesmith.spec.receipt import FOUND
from tunesmith.training.processes import Helpers, cores
from tunesmith.training.row_block import CUT, DROPPED, FINDINGS, UNTRAINABLE, WHOLE, BlockRows, RowBlock, joined
from tunesmith.training.row_source import RowSource
from tunesmith.training.seen import Seen, seen_in
from tunesmith.training.shapes import R, RowShape
from tunesmith.training.text import Encoder

_BATCH = 256

# Of a sample, whose time is short: a group of long rows takes a while.
_LARGEST_GROUP = 32


@dataclass(frozen=True, eq=False)
class Sample(Generic[R]):
    """The first rows of a source."""

    rows: BlockRows[R]
    """Those that take part."""

    read: int
    last_line: int
    """Of the rows read."""

    is_whole: bool
    """Whether the source has no more."""


class Preparation(Generic[R]):
    """Reads rows of one source under the job's length policy."""

    def __init__(
        self,
        tokenizer: Any,
        shape: RowShape[R],
        *,
        stops: Collection[int],
        vocabulary: int,
        max_length: int,
        over_long: Literal["drop", "truncate", "refuse"],
        poll: Callable[[], None],
    ) -> None:
        self.encoder = Encoder(tokenizer, vocabulary, stops)
        self.shape = shape
        self.max_length = max_length
        self.seen = Seen()
        self.poll = poll
        self._over_long = over_long

    def read(self, source: RowSource) -> BlockRows[R]:
        """All rows that take part.

        Raises:
            DatasetError: the file or a row cannot be used.
            NothingToTrainError: no row can be trained. A part for validation or test may be empty.
        """
        blocks = [self.block([])]
        for block in self._blocks(_groups(source.drawn(self.poll), _BATCH)):
            self.poll()
            blocks.append(block)
        return self.rows_of(joined(blocks), source)

    def rows_of(self, block: RowBlock, source: RowSource) -> BlockRows[R]:
        """The rows of a source that are prepared, once they are counted.

        Raises:
            NothingToTrainError: no row can be trained. A part for validation or test may be empty.
        """
        self.seen += seen_in(block, self.encoder.stops)
        if not self.seen.rows and (source.part == "train" or self.seen.left_out):
            raise self.nothing(source)
        return BlockRows(block, self.shape)

    def sample(self, source: RowSource, most: int | None, seconds: float) -> Sample[R]:
        """The first rows: at most so many and, once one of them can be trained, no more than can be read in a time.
        Nothing is drawn, as that takes all rows.

        Raises:
            DatasetError: the file or a row cannot be used.
            NothingToTrainError: there is none that can be trained.
        """
        # Where a share is drawn, rows behind the first so many may be among them.
        examples = islice(source.rows(), source.limit if source.share == 1 else None)
        blocks: list[RowBlock] = []
        read, last_line, size = 0, 0, 1
        deadline = time.monotonic() + seconds
        while group := list(islice(examples, size)):
            self.poll()
            blocks.append(self.block(group))
            self.seen += seen_in(blocks[-1], self.encoder.stops)
            read, last_line = read + len(group), group[-1].line
            size = min(2 * size, _LARGEST_GROUP)
            if self.seen.rows and ((most is not None and read >= most) or time.monotonic() > deadline):
                return Sample(self._rows(blocks), read, last_line, is_whole=next(examples, None) is None)
        if not self.seen.rows:
            raise self.nothing(source)
        return Sample(self._rows(blocks), read, last_line, is_whole=True)

    def notes(self) -> list[str]:
        """What the user should know and the counts of `Prepared` do not say."""
        notes = []
        if self.seen.untrained.count:
            notes.append(
                f"{self.seen.untrained.count} rows take no part: none of their tokens carries loss. "
                f"First lines: {', '.join(map(str, self.seen.untrained.lines))}."
            )
        notes += [f"In {count} rows {FOUND[finding]}." for finding, count in sorted(self.seen.findings.items())]
        return notes

    def block(self, examples: Sequence[Example]) -> RowBlock:
        """Examples as rows that take part, and rows that do not.

        Raises:
            DatasetError: an example cannot be used, or is longer than allowed.
        """
        rows = self.shape.encode(self.encoder, examples)
        count, width = len(rows), self.shape.width
        fates = np.array([self._fate(row) for row in rows], dtype=np.uint8)
        kept = [
            (place, row.truncated(self.max_length) if fates[place] == CUT else row)
            for place, row in enumerate(rows)
            if fates[place] < DROPPED
        ]
        lengths = np.zeros((count, width), dtype=np.int32)
        tokens = [np.zeros(0, dtype=np.int32)]
        for place, row in kept:
            lengths[place] = [len(sequence.ids) for sequence in row.sequences]
            tokens += [np.where(sequence.trained, ~sequence.ids, sequence.ids) for sequence in row.sequences]
        labels = np.zeros(count, dtype=np.int64)
        labels[[place for place, _ in kept]] = [self.shape.label_of(row) for _, row in kept]
        lines = np.array([row.line for row in rows], dtype=np.int64)
        return RowBlock(lines, fates, labels, lengths, self._findings(lines.tolist()), np.concatenate(tokens))

    def nothing(self, source: RowSource) -> NothingToTrainError:
        """The error that a source has no row to train."""
        of_part = f" of the part `{source.part}`" if source.split is not None else ""
        if not self.seen.left_out:
            return NothingToTrainError(f"There is no row{of_part}.", hint="Change the split.")
        return NothingToTrainError(
            f"No row{of_part} can be trained: {self.seen.dropped.count} are longer than {self.max_length} tokens, and "
            f"{self.seen.untrained.count} hold no token that carries loss.",
            hint="Raise `max_length` or shorten the rows." if self.seen.dropped.count else None,
        )

    def _rows(self, blocks: Sequence[RowBlock]) -> BlockRows[R]:
        return BlockRows(joined(blocks), self.shape)

    def _blocks(self, groups: Iterator[list[Example]]) -> Iterator[RowBlock]:
        """The first group here, as most files have no more; all others by helpers."""
        yield from map(self.block, islice(groups, 1))
        further = next(groups, None)
        if further is not None:
            with Helpers(self.block, self.poll, cores()) as helpers:
                yield from helpers.map(chain([further], groups))

    def _fate(self, row: R) -> int:
        if row.length <= self.max_length:
            return WHOLE if row.trainable else UNTRAINABLE
        if self._over_long == "refuse":
            raise RowTooLongError(
                f"Line {row.line}: sequence length is too long: {row.length} > {self.max_length}",
                hint="Shorten the row, raise `max_length`, or let over-long rows be dropped or truncated.",
            )
        if self._over_long == "drop":
            return DROPPED
        return CUT if row.truncated(self.max_length).trainable else UNTRAINABLE

    def _findings(self, lines: list[int]) -> np.ndarray:
        """How often the chat template did what to each of the rows that were encoded last."""
        places = {line: place for place, line in reversed(list(enumerate(lines)))}
        counts = np.zeros((len(lines), len(FINDINGS)), dtype=np.uint8)
        for line, finding in self.encoder.found:
            counts[places[line], FINDINGS.index(finding)] += 1
        self.encoder.found.clear()
        return counts


def _groups(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    waiting = iter(examples)
    while group := list(islice(waiting, size)):
        yield group
