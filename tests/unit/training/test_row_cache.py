"""Prepared rows are found again by whoever would prepare the same, and by nobody else."""

from pathlib import Path
from typing import Any

import pytest

from attempts import attempt, chat, judged, labelled, losses, of_kind, preferences, run, write_rows
from tunesmith.spec.events import Prepared
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.preparation import Preparation

pytestmark = pytest.mark.usefixtures("signals_kept")


def _keeping(order: AttemptSpec, folder: Path) -> AttemptSpec:
    return order.model_copy(update={"inputs": order.inputs.model_copy(update={"rows": folder})})


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were prepared in this process, a number for each time."""
    counts: list[int] = []
    real = Preparation.block

    def block(self: Any, examples: Any) -> Any:
        counts.append(len(examples))
        return real(self, examples)

    monkeypatch.setattr(Preparation, "block", block)
    return counts


@pytest.mark.parametrize(
    ("kind", "rows"), [("sft", chat), ("dpo", preferences), ("kto", judged), ("classification", labelled)]
)
def test_a_second_training_reads_what_the_first_prepared(
    tiny_model: Path, tmp_path: Path, prepared: list[int], kind: str, rows: Any
) -> None:
    changes: dict[str, Any] = {"kind": kind, "max_steps": 2}
    if kind == "classification":
        changes |= {"task": "sequence_classification"}
    train = write_rows(tmp_path / "rows.jsonl", rows(12))
    order = _keeping(attempt(tiny_model, train, **changes), tmp_path / "kept")
    code, first = run(order, tmp_path / "first")
    assert code == 0
    assert sum(prepared) == 12
    code, second = run(order, tmp_path / "second")
    assert code == 0
    assert sum(prepared) == 12
    assert losses(second) == losses(first)
    assert _facts(second) == _facts(first)


def _facts(events: list[Any]) -> dict[str, Any]:
    facts: dict[str, Any] = of_kind(events, Prepared)[0].model_dump(exclude={"at"})
    return facts


@pytest.mark.parametrize(
    "change",
    [{"max_length": 20}, {"max_samples": 5}, {"parameters": {"train_on": "all"}}, {"reading": {"system": "Be brief."}}],
    ids=["length", "samples", "method", "reading"],
)
def test_another_way_of_preparing_finds_nothing(
    tiny_model: Path, tmp_path: Path, prepared: list[int], change: dict[str, Any]
) -> None:
    train = write_rows(tmp_path / "rows.jsonl", chat(6))
    run(_keeping(attempt(tiny_model, train, max_steps=1), tmp_path / "kept"), tmp_path / "first")
    before = sum(prepared)
    run(_keeping(attempt(tiny_model, train, max_steps=1, **change), tmp_path / "kept"), tmp_path / "second")
    assert sum(prepared) > before


def test_kept_rows_that_are_broken_are_prepared_again(tiny_model: Path, tmp_path: Path, prepared: list[int]) -> None:
    train = write_rows(tmp_path / "rows.jsonl", chat(6))
    order = _keeping(attempt(tiny_model, train, max_steps=1), tmp_path / "kept")
    _, first = run(order, tmp_path / "first")
    [kept] = (tmp_path / "kept").rglob("*.safetensors")
    content = bytearray(kept.read_bytes())
    content[-3] ^= 1
    kept.write_bytes(content)
    _, second = run(order, tmp_path / "second")
    assert sum(prepared) == 12
    assert losses(second) == losses(first)


def test_a_folder_that_cannot_be_written_is_said_and_does_no_harm(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    train = write_rows(tmp_path / "rows.jsonl", chat(6))
    code, events = run(_keeping(attempt(tiny_model, train, max_steps=1), tmp_path / "kept"), tmp_path / "run")
    assert code == 0
    assert any("not kept" in getattr(event, "message", "") for event in events)
