"""What is counted of rows that were prepared, wherever and in whatever portions that was done."""

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from typing import TypeVar

import numpy as np
from pydantic import Field

from tunesmith.spec.frozen import Frozen
from tunesmith.spec.receipt import Finding, Lines
from tunesmith.training.row_block import CUT, DROPPED, FINDINGS, UNTRAINABLE, RowBlock

K = TypeVar("K", bound=Hashable)

_LINES_SHOWN = 20

_NONE = Lines(count=0, lines=())


class Seen(Frozen):
    """Counts that add up."""

    rows: int = 0
    """Rows that take part."""

    tokens: int = 0
    trained_tokens: int = 0
    ends: dict[int, int] = Field(default={})
    """Last tokens of the stretches of trained tokens, and how often they occur; -1 for all that are no stops."""

    dropped: Lines = _NONE
    cut: Lines = _NONE
    untrained: Lines = _NONE
    """Rows within the limit that have nothing to train."""

    findings: dict[Finding, int] = Field(default={})
    lengths: dict[int, int] = Field(default={})
    """Rows by length: a power of two, and the rows of at most so many tokens and more than half as many."""

    @property
    def left_out(self) -> int:
        """Rows that take no part."""
        return self.dropped.count + self.untrained.count

    def __add__(self, other: "Seen") -> "Seen":
        """The counts of both; lines of this one come first."""
        return Seen(
            rows=self.rows + other.rows,
            tokens=self.tokens + other.tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            ends=_sum(self.ends, other.ends),
            dropped=_both(self.dropped, other.dropped),
            cut=_both(self.cut, other.cut),
            untrained=_both(self.untrained, other.untrained),
            findings=_sum(self.findings, other.findings),
            lengths=_sum(self.lengths, other.lengths),
        )


def seen_in(block: RowBlock, stops: Collection[int]) -> Seen:
    """The counts of a block. `stops` are the tokens at which the model stops."""
    kept = block.kept
    per_finding = block.findings.sum(0, dtype=np.int64).tolist()
    longest: list[int] = block.lengths[kept].max(1).tolist()
    return Seen(
        rows=len(kept),
        tokens=len(block.tokens),
        trained_tokens=int((block.tokens < 0).sum()),
        ends=_ends(block, stops),
        dropped=_lines(block, DROPPED),
        cut=_lines(block, CUT),
        untrained=_lines(block, UNTRAINABLE),
        findings={finding: count for finding, count in zip(FINDINGS, per_finding, strict=True) if count},
        lengths=histogram(longest),
    )


def histogram(lengths: Iterable[int]) -> dict[int, int]:
    """How many rows have at most so many tokens and more than half as many: powers of two, and rows."""
    return dict(Counter(1 << (length - 1).bit_length() for length in lengths))


def _ends(block: RowBlock, stops: Collection[int]) -> dict[int, int]:
    trained = block.tokens < 0
    goes_on = np.append(trained[1:], False)
    goes_on[np.cumsum(block.lengths.reshape(-1), dtype=np.int64)[block.lengths.reshape(-1) > 0] - 1] = False
    ends: Counter[int] = Counter()
    for token, count in Counter((~block.tokens[trained & ~goes_on]).tolist()).items():
        ends[token if token in stops else -1] += count
    return ends


def _lines(block: RowBlock, fate: int) -> Lines:
    lines = block.lines[block.fates == fate]
    return Lines(count=len(lines), lines=tuple(lines[:_LINES_SHOWN].tolist()))


def _both(first: Lines, second: Lines) -> Lines:
    return Lines(count=first.count + second.count, lines=(first.lines + second.lines)[:_LINES_SHOWN])


def _sum(first: dict[K, int], second: dict[K, int]) -> dict[K, int]:
    return dict(Counter(first) + Counter(second))
