"""A training that a real signal hits in any phase ends with the same bytes as an undisturbed one."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from attempts import LORA, attempt, chat, losses, of_kind, preferences, run, write_rows
from interrupting_worker import InterruptingWorkers
from tunesmith.spec.events import CheckpointRemoved, CheckpointSaved, Evaluated, Resumed, Stopped, WorkerEvent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_kept")]

DROPOUT = LORA | {"dropout": 0.3}


@pytest.fixture(scope="module")
def workers() -> Iterator[InterruptingWorkers]:
    parent = InterruptingWorkers()
    yield parent
    parent.close()


class Trial:
    """One training in attempts, as the server would order them."""

    def __init__(self, model: Path, rows: Path, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self._order = lambda **more: attempt(model, rows, **changes, **more)
        self.events: list[list[WorkerEvent]] = []

    def interrupted(self, workers: InterruptingWorkers, phase: Any, step: int, number: int) -> list[WorkerEvent]:
        order = self._next()
        self.events.append(workers.run(order, self.folder / str(order.attempt), phase, step, number))
        return self.events[-1]

    def finished(self) -> list[WorkerEvent]:
        order = self._next()
        code, events = run(order, self.folder / str(order.attempt))
        assert code == 0
        self.events.append(events)
        return events

    def losses(self) -> dict[int, float]:
        """Of each step, of its last run."""
        return {event.step: event.loss for events in self.events for event in events if event.kind == "metrics"}

    def checkpoints(self) -> list[Path]:
        """Those that the server knows, newest first."""
        known: dict[Path, int] = {}
        for number, events in enumerate(self.events, 1):
            for event in events:
                if isinstance(event, CheckpointSaved):
                    known[self.folder / str(number) / event.path] = event.step
                elif isinstance(event, CheckpointRemoved):
                    del known[self.folder / str(number) / event.path]
        return sorted(known, key=lambda folder: known[folder], reverse=True)

    def result(self) -> dict[str, bytes]:
        """All that the last checkpoint and the artifact hold."""
        folders = (self.checkpoints()[0], self.folder / str(len(self.events)) / "artifact")
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"]
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}

    def _next(self) -> Any:
        folders = self.checkpoints()
        return self._order(attempt=len(self.events) + 1, resume_from=folders)


@pytest.fixture
def chat_rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(12))


def _trials(model: Path, rows: Path, tmp_path: Path, **changes: Any) -> tuple[Trial, Trial]:
    """An undisturbed one, finished, and another that has not begun."""
    validation = write_rows(tmp_path / "validation.jsonl", [json.loads(line) for line in rows.open()][:3] * 40)
    changes = {"validation": validation, "micro_batch_size": 1, "eval_steps": 2, "save_steps": 2, **changes}
    undisturbed = Trial(model, rows, tmp_path / "undisturbed", **changes)
    undisturbed.finished()
    return undisturbed, Trial(model, rows, tmp_path / "disturbed", **changes)


@pytest.mark.parametrize("number", [SIGKILL, SIGTERM], ids=["killed", "asked to end"])
@pytest.mark.parametrize(
    ("phase", "step", "kept_if_killed"),
    [("accumulating", 4, 2), ("evaluating", 4, 2), ("saving", 4, 2), ("telling", 4, 2), ("accumulating", 2, 0)],
)
def test_an_interruption_in_any_phase_changes_no_byte(
    tiny_model: Path,
    tmp_path: Path,
    chat_rows: Path,
    workers: InterruptingWorkers,
    phase: str,
    step: int,
    kept_if_killed: int,
    number: int,
) -> None:
    undisturbed, disturbed = _trials(tiny_model, chat_rows, tmp_path, adapter=DROPOUT, schedule="cosine")
    first = disturbed.interrupted(workers, phase, step, number)
    assert bool(of_kind(first, Stopped)) == (number == SIGTERM)
    [resumed] = of_kind(disturbed.finished(), Resumed)
    if number == SIGKILL:
        expected = (kept_if_killed, "exact" if kept_if_killed else "restarted")
        assert (resumed.step, resumed.exactness) == expected
    else:
        assert (resumed.exactness, resumed.differences) == ("exact", ())
    assert disturbed.losses() == undisturbed.losses()
    assert disturbed.result() == undisturbed.result()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("packed", {"packing": True, "max_length": 96, "adapter": DROPOUT, "batch_size": 2}),
        ("dpo", {"method": {"kind": "dpo", "parameters": {}}, "adapter": DROPOUT}),
        ("full", {"adapter": None, "learning_rate": 1e-3}),
        ("8 bits", {"optimizer": "adamw_8bit", "adapter": DROPOUT | {"rank": 64}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_interrupted_training_of_any_kind_changes_no_byte(
    tiny_model: Path, tmp_path: Path, workers: InterruptingWorkers, kind: str, changes: dict[str, Any]
) -> None:
    rows = write_rows(tmp_path / "train.jsonl", preferences(16) if kind == "dpo" else chat(16))
    undisturbed, disturbed = _trials(tiny_model, rows, tmp_path, **changes)
    disturbed.interrupted(workers, "accumulating", 3, SIGTERM)
    disturbed.interrupted(workers, "evaluating", 4, SIGKILL)
    [resumed] = of_kind(disturbed.finished(), Resumed)
    assert (resumed.step, resumed.exactness) == (3, "exact")
    assert disturbed.losses() == undisturbed.losses()
    assert disturbed.result() == undisturbed.result()


def test_checkpoints_are_counted_over_all_attempts(
    tiny_model: Path, tmp_path: Path, chat_rows: Path, workers: InterruptingWorkers
) -> None:
    trial = Trial(tiny_model, chat_rows, tmp_path / "job", save_steps=1, keep_checkpoints=2, micro_batch_size=1)
    trial.interrupted(workers, "accumulating", 4, SIGKILL)
    assert [folder.name for folder in trial.checkpoints()] == ["step-00000003", "step-00000002"]
    trial.interrupted(workers, "accumulating", 5, SIGKILL)
    assert [folder.name for folder in trial.checkpoints()] == ["step-00000004", "step-00000003"]
    trial.finished()
    there = sorted(path.name for path in (tmp_path / "job").glob("*/checkpoints/step-*"))
    assert there == [folder.name for folder in trial.checkpoints()][::-1] == ["step-00000005", "step-00000006"]


def test_the_choice_of_the_best_survives_an_interruption(
    tiny_model: Path, tmp_path: Path, chat_rows: Path, workers: InterruptingWorkers
) -> None:
    selection = {"result": "best", "patience": 2, "min_improvement": 0.5}
    changes = {"selection": selection, "eval_steps": 1, "save_steps": 3, "epochs": 20.0, "schedule": "constant"}
    undisturbed, disturbed = _trials(tiny_model, chat_rows, tmp_path, **changes)
    ends = len(losses(undisturbed.events[0]))
    disturbed.interrupted(workers, "evaluating", ends, SIGTERM)
    disturbed.finished()
    assert disturbed.losses() == undisturbed.losses()
    assert disturbed.result() == undisturbed.result()
    best = [event.is_best for events in undisturbed.events for event in of_kind(events, Evaluated)]
    assert [event.is_best for events in disturbed.events for event in of_kind(events, Evaluated)] == best


def _rewrite_state(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a checkpoint's state, and list it as if it had been written so."""
    from tunesmith.training.checkpoint import _write_manifest, read_facts

    facts = read_facts(folder)
    path = folder / "trainer/state.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    (folder / "manifest.json").unlink()
    _write_manifest(folder, facts)


def _spoiled(folders: Sequence[Path], copy: Path, name: str, value: Any) -> Path:
    """A copy of the newest checkpoint that was written under other circumstances."""
    shutil.copytree(folders[0], copy)
    _rewrite_state(copy, lambda state: state["fingerprints"].update({name: value}))
    return copy


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("libraries", {"torch": "1.0"}, "instead of 1.0"),
        ("device", "Imaginary GPU", "instead of Imaginary GPU"),
        ("tokenizer", "other", "chat template has changed"),
        ("model", "other", "base model has changed"),
    ],
)
def test_a_difference_is_named_and_the_training_goes_on(
    tiny_model: Path, tmp_path: Path, chat_rows: Path, name: str, value: Any, words: str
) -> None:
    trial = Trial(tiny_model, chat_rows, tmp_path / "job", save_steps=2)
    trial.finished()
    other = _spoiled(trial.checkpoints(), tmp_path / "other", name, value)
    code, events = run(attempt(tiny_model, chat_rows, save_steps=2, attempt=2, resume_from=[other]), tmp_path / "more")
    assert code == 0
    [resumed] = of_kind(events, Resumed)
    assert (resumed.step, resumed.exactness) == (6, "approximate")
    assert any(words in difference for difference in resumed.differences)


@pytest.mark.parametrize(("name", "words"), [("spec", "another spec"), ("data", "other data")])
def test_a_checkpoint_of_another_spec_or_other_data_is_never_used(
    tiny_model: Path, tmp_path: Path, chat_rows: Path, name: str, words: str
) -> None:
    trial = Trial(tiny_model, chat_rows, tmp_path / "job", save_steps=2)
    trial.finished()
    other = _spoiled(trial.checkpoints(), tmp_path / "other", name, "other")
    _, events = run(attempt(tiny_model, chat_rows, save_steps=2, attempt=2, resume_from=[other]), tmp_path / "more")
    [resumed] = of_kind(events, Resumed)
    assert (resumed.step, resumed.exactness) == (0, "restarted")
    assert words in resumed.differences[0]
    assert losses(events) == list(trial.losses().values())


def test_losing_what_the_evaluations_have_shown_changes_when_the_training_ends(
    tiny_model: Path, tmp_path: Path, chat_rows: Path
) -> None:
    changes: Any = {
        "validation": chat_rows,
        "selection": {"patience": 3, "min_improvement": 1000},
        "eval_steps": 1,
        "save_steps": 1,
    }
    trial = Trial(tiny_model, chat_rows, tmp_path / "job", **changes)
    assert len(losses(trial.finished())) == 4
    copy = tmp_path / "copy"
    shutil.copytree(trial.checkpoints()[1], copy)
    _rewrite_state(copy, lambda state: state["progress"].update(choice={}))
    code, events = run(attempt(tiny_model, chat_rows, **changes, attempt=2, resume_from=[copy]), tmp_path / "more")
    assert code == 0
    assert len(losses(events)) == 3
