"""Rows of a plain JSON Lines file by their number, without reading those before them."""

import codecs
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.data.containers import GZIP, HEAD_BYTES, ZIP, container_of
from tunesmith.data.examples import Example, RowError
from tunesmith.data.json_rows import json_row
from tunesmith.data.shaping import Shaper
from tunesmith.data.text_lines import text_of
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import Reading

if TYPE_CHECKING:
    import numpy as np

_BLOCK = 2**26
_SPACE = b" \t\r\n"


def is_json_lines(path: Path) -> bool:
    """Whether a file is JSON Lines that are not packed in an archive.

    Raises:
        DatasetError: it is of no kind that rows come in.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return bool(head) and not head.startswith((ZIP, GZIP)) and container_of(head) == "jsonl"


class IndexedRows:
    """The first rows of a file of JSON Lines: all, or up to a limit.

    The file is searched once for the ends of its lines. Row numbers go from 0; blank lines are no rows.
    """

    def __init__(self, path: Path, reading: Reading, limit: int | None) -> None:
        import numpy as np

        content = np.memmap(path, dtype=np.uint8, mode="r")
        ends = _ends_of_lines(content)
        starts = np.concatenate([[0], ends[:-1] + 1])
        is_blank = np.zeros(len(starts), dtype=np.bool_)
        suspects = np.flatnonzero(np.isin(content[starts], np.frombuffer(_SPACE, dtype=np.uint8)))
        for line in {0, *suspects.tolist()}:
            text = content[starts[line] : ends[line]].tobytes()
            is_blank[line] = not text.removeprefix(b"" if line else codecs.BOM_UTF8).strip(_SPACE)
        rows = np.flatnonzero(~is_blank)[:limit]
        self._starts, self._ends, self._lines = starts[rows], ends[rows], rows + 1
        self._file = os.open(path, os.O_RDONLY)
        self._shaper = Shaper(reading)

    def __len__(self) -> int:
        return len(self._lines)

    def bytes_of(self, numbers: "np.ndarray") -> int:
        """What these rows take up in the file."""
        return int((self._ends[numbers] - self._starts[numbers]).sum())

    @property
    def bytes(self) -> int:
        """What all rows take up in the file."""
        return int((self._ends - self._starts).sum())

    def settle(self) -> None:
        """Learn the shape of all rows from the first. Due once, before any is read.

        Raises:
            DatasetError: the row does not tell it.
        """
        row, line = self._row(0)
        try:
            self._shaper.learn(row, line)
        except RowError as error:
            raise DatasetError(f"Line {line}: {error.reason}", param=error.path) from error

    def examples(self, numbers: Iterable[int]) -> list[Example]:
        """The examples of some rows, in the order of the numbers.

        Raises:
            DatasetError: a row cannot be used; the message names its line.
        """
        return [self._example(number) for number in numbers]

    def _example(self, number: int) -> Example:
        row, line = self._row(number)
        try:
            return self._shaper.example(row, line)
        except RowError as error:
            raise DatasetError(f"Line {line}: {error.reason}", param=error.path) from error

    def _row(self, number: int) -> tuple[dict[str, Any], int]:
        start, end, line = int(self._starts[number]), int(self._ends[number]), int(self._lines[number])
        return json_row(text_of(os.pread(self._file, end - start, start), line), line), line


def _ends_of_lines(content: "np.ndarray") -> "np.ndarray":
    """Where each line's end stands, which for the last may be the end of the file."""
    import numpy as np

    blocks = range(0, len(content), _BLOCK)
    found = [np.flatnonzero(content[start : start + _BLOCK] == ord("\n")) + start for start in blocks]
    ends = np.concatenate(found)
    return ends if len(ends) and ends[-1] == len(content) - 1 else np.append(ends, len(content))
