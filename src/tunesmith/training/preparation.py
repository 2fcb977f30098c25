"""The rows of a job, tokenised and held to the length limit. What is left out is counted, never silent."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, Literal

from tunesmith.data.examples import Example
from tunesmith.spec.errors import NothingToTrainError, RowTooLongError
from tunesmith.spec.receipt import FOUND
from tunesmith.training.row_source import RowSource
from tunesmith.training.shapes import R, RowShape
from tunesmith.training.text import Encoder

_LINES_SHOWN = 20
_BATCH = 256

# Of a sample, whose time is short: a group of long rows takes a while.
_LARGEST_GROUP = 32


@dataclass
class Tally:
    """Rows of one kind: how many, and the first lines."""

    count: int = 0
    lines: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Count one row."""
        self.count += 1
        if len(self.lines) < _LINES_SHOWN:
            self.lines.append(line)


@dataclass(frozen=True, eq=False)
class Sample(Generic[R]):
    """The first rows of a source."""

    rows: Sequence[R]
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
        self.dropped = Tally()
        self.truncated = Tally()
        self.untrainable = Tally()
        """Rows within the limit of which no token carries loss."""

        self._over_long = over_long
        self._poll = poll

    def read(self, source: RowSource) -> list[R]:
        """All rows that take part.

        Raises:
            DatasetError: the file or a row cannot be used.
            NothingToTrainError: no row can be trained. A part for validation or test may be empty.
        """
        rows = list(self._rows(source.drawn(self._poll), _BATCH))
        if not rows and (source.part == "train" or self._left_out()):
            raise self._nothing(source)
        return rows

    def sample(self, source: RowSource, most: int | None, seconds: float) -> Sample[R]:
        """The first rows: at most so many and, once one of them can be trained, no more than can be read in a time.
        Nothing is drawn, as that takes all rows.

        Raises:
            DatasetError: the file or a row cannot be used.
            NothingToTrainError: there is none that can be trained.
        """
        examples = islice(source.rows(), source.limit)
        found: list[R] = []
        read, last_line, size = 0, 0, 1
        deadline = time.monotonic() + seconds
        while group := list(islice(examples, size)):
            self._poll()
            kept = (self._fit(row) for row in self.shape.encode(self.encoder, group))
            found += [row for row in kept if row is not None]
            read, last_line = read + len(group), group[-1].line
            size = min(2 * size, _LARGEST_GROUP)
            if found and ((most is not None and read >= most) or time.monotonic() > deadline):
                return Sample(found, read, last_line, is_whole=next(examples, None) is None)
        if not found:
            raise self._nothing(source)
        return Sample(found, read, last_line, is_whole=True)

    def notes(self) -> list[str]:
        """What the user should know and the counts of `Prepared` do not say."""
        notes = []
        if self.untrainable.count:
            notes.append(
                f"{self.untrainable.count} rows take no part: none of their tokens carries loss. "
                f"First lines: {', '.join(map(str, self.untrainable.lines))}."
            )
        notes += [f"In {count} rows {FOUND[finding]}." for finding, count in sorted(self.encoder.findings.items())]
        return notes

    def _rows(self, rows: Iterable[Example], batch: int) -> Iterator[R]:
        examples = iter(rows)
        while group := list(islice(examples, batch)):
            self._poll()
            for row in self.shape.encode(self.encoder, group):
                kept = self._fit(row)
                if kept is not None:
                    yield kept

    def _fit(self, row: R) -> R | None:
        length = row.length
        if length > self.max_length:
            if self._over_long == "refuse":
                raise RowTooLongError(
                    f"Line {row.line}: sequence length is too long: {length} > {self.max_length}",
                    hint="Shorten the row, raise `max_length`, or let over-long rows be dropped or truncated.",
                )
            if self._over_long == "drop":
                self.dropped.add(row.line)
                return None
            row = row.truncated(self.max_length)
        if not row.trainable:
            self.untrainable.add(row.line)
            return None
        if length > self.max_length:
            self.truncated.add(row.line)
        return row

    def _left_out(self) -> int:
        return self.dropped.count + self.untrainable.count

    def _nothing(self, source: RowSource) -> NothingToTrainError:
        of_part = f" of the part `{source.part}`" if source.split is not None else ""
        if not self._left_out():
            return NothingToTrainError(f"There is no row{of_part}.", hint="Change the split.")
        return NothingToTrainError(
            f"No row{of_part} can be trained: {self.dropped.count} are longer than {self.max_length} tokens, and "
            f"{self.untrainable.count} hold no token that carries loss.",
            hint="Raise `max_length` or shorten the rows." if self.dropped.count else None,
        )


def histogram(lengths: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """How many rows have at most so many tokens and more than half as many: powers of two, and rows."""
    return tuple(sorted(Counter(1 << (length - 1).bit_length() for length in lengths).items()))
