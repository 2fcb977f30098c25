"""Which row belongs to which part of the data."""

import random
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import PARTS, Part, SplitSpec

_WORDS: dict[str, Part] = {**{str(number): part for number, part in enumerate(PARTS)}, **{part: part for part in PARTS}}


def part_sizes(ratios: tuple[float, ...], rows: int) -> tuple[int, ...]:
    """How many rows each part has. They add up to all rows; each differs by at most 1 from its share.

    Training has at least one row, if there are any.
    """
    ends = [round(share * rows) for share in accumulate(ratios)]
    ends[-1] = rows  # the sum of the shares may differ from 1 by a rounding error
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    if rows and not sizes[0]:
        sizes[0] = 1
        surplus = [size - ratio * rows for size, ratio in zip(sizes[1:], ratios[1:], strict=True)]
        sizes[1 + surplus.index(max(surplus))] -= 1
    return tuple(sizes)


def parts_in_order(ratios: tuple[float, ...], rows: int) -> Iterator[Part]:
    """The part of each row: the first rows are for training, the next for validation, the last for test."""
    for part, size in zip(PARTS, part_sizes(ratios, rows), strict=False):
        for _ in range(size):
            yield part


def parts_at_random(ratios: tuple[float, ...], rows: int, seed: int) -> Iterator[Part]:
    """The part of each row, drawn without replacement: the parts' sizes are exact, and every choice of rows is equally
    likely. The same arguments give the same parts. In constant memory.
    """
    left = list(part_sizes(ratios, rows))
    draw = random.Random(seed)
    for remaining in range(rows, 0, -1):
        ticket = draw.randrange(remaining)
        part = 0
        while ticket >= left[part]:
            ticket -= left[part]
            part += 1
        left[part] -= 1
        yield PARTS[part]


def part_by_column(split: SplitSpec, row: Mapping[str, Any], line: int) -> Part:
    """The part that a row's column names.

    Raises:
        DatasetError: the column is missing or holds something else.
    """
    assert split.column is not None
    if split.column not in row:
        present = ", ".join(f"`{key}`" for key in list(row)[:20]) or "none"
        raise DatasetError(
            f"Line {line}: the split column `{split.column}` is missing; the row's columns: {present}.",
            param="split.column",
        )
    value = row[split.column]
    part = _WORDS.get(str(value).strip().lower()) if isinstance(value, int | str) else None
    if part is None:
        raise DatasetError(
            f"Line {line}: the split column `{split.column}` holds {value!r}.",
            param="split.column",
            hint="Allowed are 0, 1 and 2, or train, validation and test.",
        )
    return part
