"""Rows that are prepared as the training goes on: the same training, begun sooner."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from attempts import attempt, checkpoint, losses, of_kind, run, write_rows
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import CheckpointSaved, Failed, Metrics, Note, Prepared, Stopped, Succeeded
from tunesmith.training.text_task import TextTask

pytestmark = [pytest.mark.usefixtures("signals_kept"), pytest.mark.slow]

ROWS = 20_500
"""More than are prepared before the first step."""


def _row(number: int) -> Any:
    return {"text": f"Row {number}." + " More." * (number % 7)}


def _large(path: Path, row: Callable[[int], Any] = _row) -> Path:
    return write_rows(path, map(row, range(ROWS)))


def _messages(events: list[Any]) -> str:
    return "\n".join(note.message for note in of_kind(events, Note))


def test_a_large_file_is_trained_like_one_that_is_prepared_whole(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    array = tmp_path / "rows.json"
    array.write_text(json.dumps([_row(number) for number in range(ROWS)]))
    changes: dict[str, Any] = {"batch_size": 5000, "epochs": 1.0, "max_length": 64}
    code, streamed = run(attempt(tiny_model, rows, **changes), tmp_path / "streamed")
    _, whole = run(attempt(tiny_model, array, **changes), tmp_path / "whole")
    assert code == 0
    assert losses(streamed) == losses(whole)
    assert len(losses(streamed)) == 5
    assert of_kind(streamed, Metrics)[-1].epoch == 1.0
    assert (of_kind(streamed, Prepared)[0].sampled_rows, of_kind(whole, Prepared)[0].sampled_rows) == (1024, None)
    receipts = [RunDirectory(tmp_path / name).read_receipt() for name in ("streamed", "whole")]
    assert receipts[0] is not None
    assert receipts[1] is not None
    assert receipts[0].model_copy(update={"samples": ()}) == receipts[1].model_copy(update={"samples": ()})
    assert "20,500 of 20,500 rows were prepared as the training went on" in _messages(streamed)


@pytest.mark.parametrize(
    ("packing", "max_length", "batch_size"),
    [(False, 256, 300), (True, 256, 20), (True, 1024, 7)],
    ids=["rows", "packed", "windows of several pieces"],
)
def test_a_resumed_stream_equals_an_undisturbed_one(
    tiny_model: Path, tmp_path: Path, packing: bool, max_length: int, batch_size: int
) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {
        "packing": packing,
        "max_length": max_length,
        "batch_size": batch_size,
        "max_steps": 9,
        "save_steps": 4,
    }
    _, undisturbed = run(attempt(tiny_model, rows, **changes), tmp_path / "first")
    again = attempt(tiny_model, rows, **changes, resume_from=[checkpoint(undisturbed, tmp_path / "first", 4)])
    code, resumed = run(again, tmp_path / "second")
    assert code == 0
    assert losses(resumed) == losses(undisturbed)[4:]
    assert [event.epoch for event in of_kind(resumed, Metrics)] == [
        event.epoch for event in of_kind(undisturbed, Metrics)
    ][4:]
    assert _messages(resumed) == _messages(undisturbed)


def test_a_stopped_stream_leaves_no_helper_and_goes_on_where_it_was(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    changes: dict[str, Any] = {"batch_size": 400, "max_steps": 5}
    _, undisturbed = run(attempt(tiny_model, rows, **changes), tmp_path / "first")
    steps: list[int] = []

    def micro_batches(self: TextTask, sequences: Any, real: Any = TextTask.micro_batches) -> Any:
        steps.append(len(sequences))
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, sequences)

    monkeypatch.setattr(TextTask, "micro_batches", micro_batches)
    before = psutil.Process().children()
    code, stopped = run(attempt(tiny_model, rows, **changes), tmp_path / "second")
    assert code == 0
    assert of_kind(stopped, Stopped)[0].step == 3
    assert psutil.Process().children() == before
    again = attempt(tiny_model, rows, **changes, resume_from=[checkpoint(stopped, tmp_path / "second", 3)])
    _, resumed = run(again, tmp_path / "third")
    assert losses(stopped) + losses(resumed) == losses(undisturbed)


def test_a_stream_goes_on_in_the_next_pass_where_fewer_rows_are_left_than_planned(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = _large(tmp_path / "rows.jsonl", lambda number: {"text": "word " * (60 if number % 2 else 3)})
    changes: dict[str, Any] = {"batch_size": 4000, "epochs": 2.0, "max_length": 32, "save_steps": "epoch"}
    code, events = run(attempt(tiny_model, rows, **changes), tmp_path / "run")
    assert code == 0
    metrics = of_kind(events, Metrics)
    assert len(metrics) == of_kind(events, Prepared)[0].total_steps
    assert 1.9 < metrics[-1].epoch <= 2.1
    assert "10,250 rows were left out: they exceed the length limit (first lines: " in _messages(events)
    ends = [step.step for step in metrics if step.epoch == 1.0]
    assert {saved.step for saved in of_kind(events, CheckpointSaved) if saved.offered} >= set(ends)
    assert len(ends) == 1


def test_a_stream_that_ends_early_succeeds_and_tells_how_far_it_came(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    validation = write_rows(tmp_path / "validation.jsonl", map(_row, range(4)))
    selection = {"patience": 1, "min_improvement": 1000.0}
    changes: dict[str, Any] = {"batch_size": 205, "epochs": 1.0, "eval_steps": 2, "selection": selection}
    code, events = run(attempt(tiny_model, rows, validation=validation, **changes), tmp_path / "run")
    assert code == 0
    assert of_kind(events, Prepared)[0].total_steps == 100
    assert "820 rows trained in 0.040 passes" in _messages(events)
    assert of_kind(events, Succeeded)


def test_passes_are_sized_by_the_rows_and_not_by_the_limit_and_a_longer_row_is_trained_all_the_same(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = _large(tmp_path / "rows.jsonl", lambda number: {"text": "long " * 300} if number == 15_000 else _row(number))
    changes: dict[str, Any] = {"batch_size": 5000, "epochs": 1.0, "max_length": 4096, "micro_batch_size": 64}
    # 64 rows of 4,096 tokens would take 4.5 GB, or 3.6 with activations computed again; rows of 100 take 1.1.
    device = {"name": "cpu", "memory": 2 * 10**9}
    code, events = run(attempt(tiny_model, rows, device=device, **changes), tmp_path / "run")
    assert code == 0
    assert "Activations are computed again" not in _messages(events)
    receipt = RunDirectory(tmp_path / "run").read_receipt()
    assert receipt is not None
    (usual, _), *_, (longest, count) = sorted(receipt.lengths)
    assert (longest > 8 * usual, count) == (True, 1)


def test_a_stream_reads_what_an_earlier_one_left_and_passes_over_what_is_broken(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    order = attempt(tiny_model, rows, batch_size=3000, max_steps=4, epochs=1.0, max_length=64)
    order = order.model_copy(update={"inputs": order.inputs.model_copy(update={"rows": tmp_path / "kept"})})
    _, first = run(order, tmp_path / "first")
    parts = sorted((tmp_path / "kept").rglob("*.tokens"))
    assert parts
    other_seed = order.spec.optimization.model_copy(update={"seed": 8})
    spec = order.spec.model_copy(update={"optimization": other_seed})
    undisturbed = losses(run(attempt(tiny_model, rows, **_same(spec)), tmp_path / "other")[1])
    content = bytearray(parts[0].read_bytes())
    content[400] ^= 1
    parts[0].write_bytes(content)
    code, second = run(order.model_copy(update={"spec": spec}), tmp_path / "second")
    assert code == 0
    assert losses(second) == undisturbed
    assert losses(run(order, tmp_path / "third")[1]) == losses(first)


def _same(spec: Any) -> dict[str, Any]:
    return {"batch_size": 3000, "max_steps": 4, "epochs": 1.0, "max_length": 64, "seed": spec.optimization.seed}


def test_a_broken_row_far_behind_is_named_by_its_line(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    lines = rows.read_text().splitlines()
    lines[15_000] = '{"text": 5}'
    rows.write_text("\n".join(lines))
    code, events = run(attempt(tiny_model, rows, batch_size=4000, epochs=1.0), tmp_path / "run")
    assert code == 1
    assert "Line 15001" in of_kind(events, Failed)[0].error.message


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    rows.write_bytes(b"\xef\xbb\xbf\n  \n" + rows.read_bytes().replace(b"\n", b"\r\n\r\n")[:-2] + b"\n \t\n")
    code, events = run(attempt(tiny_model, rows, batch_size=256, max_steps=1), tmp_path / "run")
    assert code == 0
    assert of_kind(events, Prepared)[0].rows == ROWS


def test_a_large_file_without_a_row_that_can_be_trained_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl", lambda _: {"text": "word " * 30})
    code, events = run(attempt(tiny_model, rows, max_length=8), tmp_path / "run")
    assert code == 1
    assert "20500 are longer than 8 tokens" in of_kind(events, Failed)[0].error.message


def test_at_most_so_many_samples_are_the_first_of_the_file(tiny_model: Path, tmp_path: Path) -> None:
    rows = _large(tmp_path / "rows.jsonl")
    code, events = run(attempt(tiny_model, rows, max_samples=12, max_steps=1), tmp_path / "run")
    assert code == 0
    assert (of_kind(events, Prepared)[0].rows, of_kind(events, Prepared)[0].sampled_rows) == (12, None)
    assert of_kind(events, Succeeded)
