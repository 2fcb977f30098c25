"""Which rows of which file a training reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tunesmith.data.examples import Example
from tunesmith.data.rows import read_examples
from tunesmith.data.split import part_sizes, parts_at_random
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.reading import PARTS, Part, Reading, SplitSpec


@dataclass(frozen=True)
class RowSource:
    """One part of a file's rows, or a share of them."""

    path: Path
    reading: Reading
    split: SplitSpec | None
    part: Part
    share: float
    """How many of the part's rows take part, from 0 to 1; drawn by `seed`."""

    limit: int | None
    """At most so many of these, the first."""

    seed: int

    def rows(self) -> Iterator[Example]:
        """All rows of the part, in the order of the file.

        Raises:
            DatasetError: the file or a row cannot be used.
        """
        return read_examples(self.path, self.reading, split=self.split, part=self.part, seed=self.seed)

    def drawn(self, poll: Callable[[], None]) -> Iterator[Example]:
        """The rows that take part, in the order of the file. The same every time.

        Raises:
            DatasetError: the file or a row cannot be used.
        """
        return islice(self._share(poll), self.limit)

    def count(self, poll: Callable[[], None]) -> int:
        """Rows of the part.

        Raises:
            DatasetError: the file or a row cannot be used.
        """
        rows = 0
        for _ in self.rows():
            poll()
            rows += 1
        return rows

    def rows_of(self, file_rows: int) -> int:
        """Rows of the part in a file of so many, unless a column shares them out."""
        return file_rows if self.split is None else part_sizes(self.split.ratios, file_rows)[PARTS.index(self.part)]

    def taken(self, rows: int) -> int:
        """How many rows of a part of so many take part."""
        drawn = rows if self.share == 1 else part_sizes(_shares(self.share), rows)[0]
        return drawn if self.limit is None else min(drawn, self.limit)

    def _share(self, poll: Callable[[], None]) -> Iterator[Example]:
        if self.share == 1:
            return self.rows()
        # Drawing is sharing out: what takes part, and what does not.
        kept = parts_at_random(_shares(self.share), self.count(poll), self.seed)
        return (row for row, part in zip(self.rows(), kept, strict=True) if part == "train")


def _shares(share: float) -> tuple[float, float]:
    return share, 1 - share


def source_of(attempt: AttemptSpec, part: Part) -> RowSource | None:
    """Where the rows of a part come from; none if there are none."""
    data, inputs = attempt.spec.data, attempt.inputs
    split = data.split if inputs.validation is None else None
    if part == "validation" and inputs.validation is not None:
        return RowSource(inputs.validation, data.reading, None, "train", 1.0, None, attempt.spec.optimization.seed)
    if part != "train" and (split is None or not has_share(split, part)):
        return None
    limit = data.max_samples if part == "train" else None
    return RowSource(inputs.train, data.reading, split, part, data.sample_ratio, limit, attempt.spec.optimization.seed)


def has_share(split: SplitSpec, part: Part) -> bool:
    """Whether a part may have rows."""
    index = PARTS.index(part)
    return split.by == "column" or (index < len(split.ratios) and split.ratios[index] > 0)
