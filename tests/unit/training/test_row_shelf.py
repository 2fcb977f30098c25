"""Prepared rows on disk: what is broken is prepared again, and what cannot be written leaves nothing."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tunesmith.training import row_shelf
from tunesmith.training.row_block import FINDINGS, RowBlock
from tunesmith.training.row_shelf import RowShelf

PART = 4


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_shelf, "_PART_ROWS", PART)
    monkeypatch.setattr(row_shelf, "_MIN_ROWS", 1)


def _numbers(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.int64)


def _rows(numbers: np.ndarray, tokens: int = 2) -> RowBlock:
    """Rows whose tokens are all their number."""
    count = len(numbers)
    return RowBlock(
        lines=numbers + 1,
        fates=np.zeros(count, dtype=np.uint8),
        labels=np.zeros(count, dtype=np.int64),
        lengths=np.full((count, 1), tokens, dtype=np.int32),
        findings=np.zeros((count, len(FINDINGS)), dtype=np.uint8),
        tokens=np.repeat(numbers, tokens).astype(np.int32),
    )


def _two_parts(folder: Path) -> tuple[RowShelf, Path]:
    """A shelf with rows 0 to 3 in one part and rows 4 to 7 in another, and the tokens of the first."""
    shelf = RowShelf(folder, 9)
    shelf.add(_numbers(0, 4), _rows(_numbers(0, 4)))
    [first] = folder.glob("*.tokens")
    shelf.add(_numbers(4, 8), _rows(_numbers(4, 8)))
    return shelf, first


@contextmanager
def _volume_with_room_for(size: int) -> Iterator[None]:
    """No file can be larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("spoil", [lambda _: b"", bytes], ids=["truncated", "overwritten"])
def test_broken_rows_are_left_out_however_often_they_are_asked_for(tmp_path, spoil) -> None:
    shelf, first = _two_parts(tmp_path)
    first.write_bytes(spoil(first.stat().st_size))
    for _ in range(3):
        found, rows = shelf.take(_numbers(1, 6))
        assert found.tolist() == [4, 5]
        assert rows is not None
        assert rows.lines.tolist() == [5, 6]
        assert rows.tokens.tolist() == [4, 4, 5, 5]
    assert shelf.has(_numbers(0, 9)).tolist() == [True, False, False, False, True, True, True, True, False]


def test_rows_that_were_never_left_are_not_taken(tmp_path) -> None:
    shelf, _ = _two_parts(tmp_path)
    found, rows = shelf.take(_numbers(8, 9))
    assert (found.tolist(), rows) == ([], None)


@pytest.mark.parametrize("room", [1000, 7000], ids=["for a piece of the tokens", "for the tokens alone"])
def test_a_part_that_does_not_fit_leaves_nothing_and_no_other_is_tried(tmp_path, room) -> None:
    folder, numbers = tmp_path / "kept", _numbers(0, 4)
    shelf = RowShelf(folder, 2000)
    shelf.add(numbers, _rows(numbers))
    kept = sorted(folder.iterdir())
    many = _numbers(4, 804)
    with _volume_with_room_for(room), pytest.raises(OSError):  # noqa: PT011 - safetensors words it in its own way
        shelf.add(many, _rows(many))
    assert sorted(folder.iterdir()) == kept
    shelf.add(_numbers(804, 1000), _rows(_numbers(804, 1000)))
    shelf.keep()
    assert sorted(folder.iterdir()) == kept
    assert shelf.take(numbers)[0].tolist() == numbers.tolist()


def test_a_part_is_found_by_the_next_training_whole(tmp_path) -> None:
    _two_parts(tmp_path)
    found, rows = RowShelf(tmp_path, 9).take(_numbers(0, 9))
    assert rows is not None
    assert sorted(found.tolist()) == list(range(8))
    assert rows.tokens.tolist() == np.repeat(found, 2).tolist()
    assert {path.suffix for path in tmp_path.iterdir()} == {".tokens", ".safetensors"}


def test_a_shelf_in_use_marks_its_folder(tmp_path) -> None:
    shelf, _ = _two_parts(tmp_path)
    os.utime(tmp_path, (1, 1))
    shelf.keep()
    assert tmp_path.stat().st_mtime > 1


def test_a_shelf_whose_folder_was_removed_makes_no_empty_one(tmp_path) -> None:
    shelf = RowShelf(tmp_path / "kept", 9)
    shelf.keep()
    assert not (tmp_path / "kept").exists()
