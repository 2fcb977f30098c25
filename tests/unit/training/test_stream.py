"""Rows that are prepared as the training goes on: the same training, begun sooner."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attempts import attempt, chat, checkpoint, losses, of_kind, run, write_rows
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Failed, Metrics, Note, Prepared, Succeeded
from tunesmith.training import streamed_rows

pytestmark = pytest.mark.usefixtures("signals_kept")

ROWS = 21_000


def _large(path: Path, count: int = ROWS, row: Callable[[int], Any] | None = None) -> Path:
    """A file with more rows than are prepared before the first step."""
    made = row or (lambda number: {"text": f"Row {number}." + " More." * (number % 7)})
    return write_rows(path, (made(number) for number in range(count)))


def test_a_large_file_is_trained_like_a_small_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    order = attempt(tiny_model, rows, batch_size=512, max_steps=5, epochs=1.0, max_length=64)
    code, streamed = run(order, tmp_path / "streamed")
    monkeypatch.setattr(streamed_rows, "IndexedRows", lambda *_: [])
    _, whole = run(order, tmp_path / "whole")
    assert code == 0
    assert losses(streamed) == losses(whole)
    assert of_kind(streamed, Prepared)[0].sampled_rows == 1024
    assert of_kind(whole, Prepared)[0].sampled_rows is None
