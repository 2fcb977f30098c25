"""A stream of few rows, from its plan to its end."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from attempts import attempt, write_rows
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.events import Note
from tunesmith.spec.job import AttemptSpec
from tunesmith.training import row_shelf
from tunesmith.training.model import load_tokenizer
from tunesmith.training.reporting import Reporter
from tunesmith.training.stream import StreamOrder
from tunesmith.training.streamed_rows import stream_rows
from tunesmith.training.supervised_rows import SupervisedShape
from tunesmith.training.workplace import Workplace

Open = Callable[..., StreamOrder]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens streams of an attempt, which are closed at the end."""
    streams: list[StreamOrder] = []

    def open_stream(order: AttemptSpec) -> StreamOrder:
        run = RunDirectory(tmp_path / f"run-{len(streams)}")
        run.write_spec(order)
        workplace = Workplace(torch.device("cpu"), run, Reporter(EventWriter(run)), lambda: None)
        shape = SupervisedShape("sft", "assistant")
        streamed = stream_rows(order, load_tokenizer(order.inputs.model), shape, workplace, above=10)
        assert streamed is not None
        streams.append(streamed.train)
        return streamed.train

    yield open_stream
    for stream in streams:
        stream.close()


def _keeping(order: AttemptSpec, folder: Path) -> AttemptSpec:
    return order.model_copy(update={"inputs": order.inputs.model_copy(update={"rows": folder})})


def _pass(stream: StreamOrder) -> list[tuple[int, list[int]]]:
    """Line and tokens of every row of the first pass, in order."""
    rows = []
    for step in range(stream.total):
        rows += [(row.line, row.ids.tolist()) for sequence in stream.batch(step) for row in stream[sequence]]
    return rows


def test_a_packed_stream_has_every_row_once_where_a_part_on_disk_is_broken(
    tiny_model: Path, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_shelf, "_PART_ROWS", 64)
    rows = write_rows(tmp_path / "rows.jsonl", ({"text": f"Row {number} word"} for number in range(300)))
    order = _keeping(attempt(tiny_model, rows, batch_size=4, epochs=1.0, packing=True), tmp_path / "kept")
    undisturbed = _pass(opened(order))
    parts = sorted((tmp_path / "kept").rglob("*.tokens"))
    assert len(parts) > 1
    parts[0].write_bytes(parts[0].read_bytes()[:10])
    disturbed = _pass(opened(order))
    assert disturbed == undisturbed
    assert sorted(line for line, _ in disturbed) == list(range(1, 301))


def test_a_stream_that_ends_early_tells_how_far_it_came(tiny_model: Path, tmp_path: Path, opened: Open) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ({"text": f"Row {number} more"} for number in range(60)))
    stream = opened(attempt(tiny_model, rows, batch_size=4, epochs=4.0))
    for step in range(18):
        stream.batch(step)
    stream.finish()
    notes = [event for event in RunDirectory(tmp_path / "run-0").read_events(0)[0] if isinstance(event, Note)]
    assert notes[-1].message == (
        "60 of 60 rows were prepared as the training went on, and 72 rows trained in 1.200 passes."
    )


@pytest.mark.parametrize(
    ("packing", "max_length", "expected"),
    [(False, 256, 18), (False, 15, 15), (True, 256, 256)],
    ids=["twice the longest", "the limit", "full sequences"],
)
def test_memory_is_to_suffice_for_twice_the_longest_sequence_and_at_most_the_limit(
    tiny_model: Path, tmp_path: Path, opened: Open, packing: bool, max_length: int, expected: int
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ({"text": "a" * (1 + number % 8)} for number in range(600)))
    stream = opened(attempt(tiny_model, rows, packing=packing, max_length=max_length, epochs=1.0))
    assert max(len(ids) for _, ids in _pass(stream)) == 9
    assert stream.plan.longest == expected


def test_a_checkpoint_marks_the_rows_on_disk_as_used(
    tiny_model: Path, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_shelf, "_MIN_ROWS", 1)
    rows = write_rows(tmp_path / "rows.jsonl", ({"text": f"Row {number} more"} for number in range(60)))
    stream = opened(_keeping(attempt(tiny_model, rows), tmp_path / "kept"))
    stream.batch(0)
    stream.state(1)
    [part] = (tmp_path / "kept").rglob("*.tokens")
    os.utime(part.parent, (1, 1))
    stream.state(1)
    assert part.parent.stat().st_mtime > 1
