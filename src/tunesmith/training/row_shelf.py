"""Prepared rows of a large file on disk, by their numbers: some are there, others not yet.

A part is two files: `part-ID.tokens`, the tokens of its rows one behind the other, and `part-ID.safetensors`, all else
with a checksum of each row's tokens. So a row costs one short read, and no file is read whole.
"""

import os
import uuid
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunesmith.training.row_block import RowBlock, joined
from tunesmith.training.row_cache import read_arrays, whole_file, write_arrays

_PART_ROWS = 8192
_MIN_ROWS = 1024
"""Rows of a part, and of one that is written before it is full."""

_TOKEN_BYTES = 4


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows that lie behind each other."""

    tokens: Path
    rows: RowBlock
    """Without tokens."""

    ends: NDArray[np.int64]
    """[N]; in tokens."""

    checks: NDArray[np.uint32]
    """[N]; CRC-32 of each row's tokens."""


class RowShelf:
    """Finds what earlier trainings left in a folder, and leaves what this one prepares. Without one, does nothing."""

    def __init__(self, folder: Path | None, rows: int) -> None:
        self._folder = folder
        self._parts: list[_Part] = []
        self._part_of = np.full(rows, -1, dtype=np.int32)
        self._place_of = np.zeros(rows, dtype=np.int32)
        self._taken_up = np.zeros(rows, dtype=np.bool_)
        self._waiting: list[tuple[NDArray[np.int64], RowBlock]] = []
        self._is_full = False
        if folder is not None and folder.is_dir():
            os.utime(folder)
            for path in sorted(folder.glob("part-*.safetensors")):
                self._find(path)

    def has(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows are on disk."""
        return self._part_of[numbers] >= 0

    def take(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], RowBlock | None]:
        """Rows that are on disk, in any order, with their numbers. Others are left out, broken ones forgotten."""
        by_part: defaultdict[int, list[int]] = defaultdict(list)
        for number in numbers[self.has(numbers)].tolist():
            by_part[int(self._part_of[number])].append(number)
        found: list[int] = []
        blocks: list[RowBlock] = []
        for index, members in by_part.items():
            part = self._parts[index]
            texts = _read(part, [int(self._place_of[number]) for number in members])
            whole = [number for number, text in zip(members, texts, strict=True) if text is not None]
            found += whole
            block = part.rows.taken(self._place_of[whole].astype(np.intp))
            blocks.append(replace(block, tokens=np.frombuffer(b"".join(filter(None, texts)), dtype=np.int32)))
        found_numbers = np.array(found, dtype=np.int64)
        self._part_of[np.setdiff1d(numbers, found_numbers)] = -1
        return found_numbers, joined(blocks) if blocks else None

    def add(self, numbers: NDArray[np.int64], rows: RowBlock) -> None:
        """Leave rows that were prepared, once there are enough of them.

        Raises:
            OSError: they cannot be written. No more are then left, as every part would fill the volume again.
        """
        if self._folder is None or self._is_full or self._taken_up[numbers].any():
            return
        self._taken_up[numbers] = True
        self._waiting.append((numbers, rows))
        self._write(_PART_ROWS)

    def keep(self) -> None:
        """Leave what waits, if it is worth a part of its own, and mark the folder as used.

        Raises:
            OSError: it cannot be written.
        """
        self._write(_MIN_ROWS)
        if self._folder is not None and self._folder.is_dir():
            os.utime(self._folder)

    def _write(self, least: int) -> None:
        if self._folder is None or sum(len(numbers) for numbers, _ in self._waiting) < least:
            return
        numbers = np.concatenate([numbers for numbers, _ in self._waiting])
        rows = joined([rows for _, rows in self._waiting])
        self._waiting = []
        ends = np.cumsum(rows.lengths.sum(1), dtype=np.int64)
        pieces = np.split(rows.tokens, ends[:-1])
        checks = np.array([zlib.crc32(piece.tobytes()) for piece in pieces], dtype=np.uint32)
        path = self._folder / f"part-{uuid.uuid4().hex}.safetensors"
        bare = vars(replace(rows, tokens=rows.tokens[:0]))
        tokens = path.with_suffix(".tokens")
        try:
            with whole_file(tokens) as aside:
                aside.write_bytes(rows.tokens.tobytes())
            write_arrays(path, {**bare, "numbers": numbers, "checks": checks})
        except OSError:
            self._is_full = True
            tokens.unlink(missing_ok=True)
            raise
        self._find(path)

    def _find(self, path: Path) -> None:
        arrays = read_arrays(path)
        if arrays is None:
            return
        numbers, checks = arrays.pop("numbers"), arrays.pop("checks")
        rows = RowBlock(**arrays)
        ends = np.cumsum(rows.lengths.sum(1), dtype=np.int64)
        self._part_of[numbers] = len(self._parts)
        self._place_of[numbers] = np.arange(len(numbers))
        self._taken_up[numbers] = True
        self._parts.append(_Part(path.with_suffix(".tokens"), rows, ends, checks))


def _read(part: _Part, places: list[int]) -> list[bytes | None]:
    """The tokens of rows; none for one that is not as it was written."""
    try:
        file = os.open(part.tokens, os.O_RDONLY)
    except OSError:
        return [None] * len(places)
    try:
        return [_read_row(file, part, place) for place in places]
    finally:
        os.close(file)


def _read_row(file: int, part: _Part, place: int) -> bytes | None:
    size = int(part.rows.lengths[place].sum())
    text = os.pread(file, size * _TOKEN_BYTES, (int(part.ends[place]) - size) * _TOKEN_BYTES)
    return text if len(text) == size * _TOKEN_BYTES and zlib.crc32(text) == part.checks[place] else None
