"""From the rows that were read to all rows of a training: what is known of these, and ranges for what is not."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tunesmith.spec.job import OptimizationSpec
from tunesmith.spec.plan import Count
from tunesmith.training.optim import steps_per_epoch
from tunesmith.training.row_source import RowSource

FIRST_ROWS_DIFFER = 0.1
"""Share by which the rows of a file may differ from the first ones, beside what chance makes."""

_LONGER = 2


def longest_of_all(longest: int, limit: int) -> int:
    """Tokens of the longest sequence, allowing for longer ones among rows that were not read."""
    return min(_LONGER * longest, limit)


@dataclass(frozen=True, eq=False)
class Scaling:
    """What was read, and how many rows there are. Ranges hold nothing that contradicts either."""

    source: RowSource
    lengths: Sequence[int]
    """Tokens of each row that was read and is not left out."""

    read: int
    last_line: int
    """Of the rows read."""

    is_whole: bool
    """Whether all rows of the part were read, or where none are drawn, all that the limit of the source allows."""

    file_rows: int
    """Rows of the file."""

    most_tokens: int
    """That a row may have."""

    @property
    def is_exact(self) -> bool:
        """Whether every row that the training reads was read, and no other."""
        return self.is_whole and self.source.share == 1

    @cached_property
    def rows(self) -> Count:
        """Rows that take part."""
        kept, asked = len(self.lengths), self._asked
        left_out = self.read - kept
        share = kept / self.read
        off = 2 * math.sqrt(share * (1 - share) / self.read) + FIRST_ROWS_DIFFER
        least, most = 1, asked.high
        if self.source.share == 1:
            least, most = kept, asked.high - left_out
        elif self._read_all:
            least, most = max(1, asked.low - left_out), min(asked.high, kept)
        return _range(asked.low * (share - off), asked.high * (share + off), least, most)

    @cached_property
    def tokens(self) -> Count:
        """Tokens of an epoch."""
        rows, seen = self.rows, sum(self.lengths)
        least, most = 1, rows.high * self.most_tokens
        if self.source.share == 1:
            least, most = seen, seen + (rows.high - len(self.lengths)) * self.most_tokens
        elif self._read_all:
            by_length = sorted(self.lengths)
            least, most = sum(by_length[: rows.low]), sum(by_length[-rows.high :])
        return self._scaled(seen, least, most)

    def trained_tokens(self, seen: int) -> Count:
        """Tokens of an epoch that carry loss, of which so many were read."""
        is_all = self._read_all or self.is_exact
        most = min(seen, self.tokens.high) if is_all else self.tokens.high
        return self._scaled(seen, seen if self.source.share == 1 else min(seen, 1), most)

    def packed(self, sequences: int) -> Count:
        """Sequences of an epoch, if the rows that were read are packed into so many."""
        if self.is_exact:
            return Count(low=sequences, high=sequences)
        # The last sequence of those packed so far may have room for many more rows.
        seen, tokens = sum(self.lengths), self.tokens
        least = math.ceil(tokens.low / self.most_tokens)
        return _range(tokens.low * (sequences - 1) / seen, tokens.high * sequences / seen, least, self.rows.high)

    def job_tokens(
        self, optimization: OptimizationSpec, steps: Count, per_epoch: Count, lengths: Sequence[int]
    ) -> Count:
        """Tokens of a whole job of so many steps, whose sequences that were read have these lengths."""
        ends = [
            end
            for of_epoch, sequences, taken in (
                (self.tokens.low, per_epoch.low, steps.low),
                (self.tokens.high, per_epoch.high, steps.high),
            )
            for end in self._of_steps(taken, steps_per_epoch(optimization, sequences), of_epoch, optimization, lengths)
        ]
        return Count(low=min(ends), high=max(ends))

    def _of_steps(
        self, steps: int, per_epoch: int, of_epoch: int, optimization: OptimizationSpec, lengths: Sequence[int]
    ) -> tuple[int, int]:
        """Tokens of whole epochs, and the range of those of the part of an epoch that is left."""
        epochs, rest = divmod(steps, per_epoch)
        low, high = self._of_some(rest * optimization.batch_size, lengths)
        return epochs * of_epoch + min(low, of_epoch), epochs * of_epoch + min(high, of_epoch)

    def _of_some(self, count: int, lengths: Sequence[int]) -> tuple[int, int]:
        """Tokens of so many sequences, drawn from all."""
        if not count:
            return 0, 0
        if self.is_exact:
            by_length = sorted(lengths)
            return sum(by_length[:count]), sum(by_length[-count:])
        mean, off = statistics.fmean(lengths), _spread(lengths, count)
        return math.floor(count * mean * (1 - off)), math.ceil(count * mean * (1 + off))

    @property
    def _read_all(self) -> bool:
        """Whether all rows of the part were read, also those that are not drawn."""
        limit = self.source.limit if self.source.share == 1 else None
        return self.is_whole and (limit is None or self.read < limit)

    @property
    def _asked(self) -> Count:
        """Rows that the training reads, before any is left out."""
        part = self._of_part
        return Count(low=self.source.taken(part.low), high=self.source.taken(part.high))

    @property
    def _of_part(self) -> Count:
        """Rows of the part of the file."""
        split = self.source.split
        if self._read_all:
            return Count(low=self.read, high=self.read)
        if split is None or split.by != "column":
            rows = self.source.rows_of(self.file_rows)
            return Count(low=rows, high=rows)
        share = min(1.0, self.read / self.last_line)
        off = 2 * math.sqrt(share * (1 - share) / self.last_line) + FIRST_ROWS_DIFFER
        most = self.read + max(0, self.file_rows - self.last_line)
        return _range(self.file_rows * (share - off), self.file_rows * (share + off), self.read, most)

    def _scaled(self, seen: int, least: int, most: int) -> Count:
        rows = self.rows
        a_row, off = seen / len(self.lengths), _spread(self.lengths, rows.high)
        return _range(rows.low * a_row * (1 - off), rows.high * a_row * (1 + off), least, most)


def _spread(lengths: Sequence[int], count: int) -> float:
    """Share by which the mean of so many rows may be off: twice the standard error, and somewhat more."""
    if len(lengths) < 2:
        return 1.0
    error = statistics.stdev(lengths) / (statistics.fmean(lengths) * math.sqrt(min(count, len(lengths))))
    return min(1.0, 2 * error + FIRST_ROWS_DIFFER)


def _range(low: float, high: float, least: int, most: int) -> Count:
    """A range within what is known."""
    least = min(least, most)
    return Count(low=min(max(math.floor(low), least), most), high=max(min(math.ceil(high), most), least))
