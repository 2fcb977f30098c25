"""The best evaluation: chosen, kept, and made the result."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from attempts import attempt, chat, checkpoint, judged, labelled, of_kind, preferences, run, write_rows
from tunesmith.plugins import load_plugins
from tunesmith.spec.events import (
    CheckpointRemoved,
    CheckpointSaved,
    Evaluated,
    Failed,
    Metrics,
    Note,
    Sampled,
    Stopped,
    StoppedEarly,
    Succeeded,
)
from tunesmith.spec.job import SelectionSpec
from tunesmith.training.selection import Choice, is_time_to_end, with_evaluation
from tunesmith.training.text_task import TextTask

pytestmark = pytest.mark.usefixtures("signals_kept")

UNLIKE = [{"prompt": f"Name {number}", "completion": "zq" * (1 + number)} for number in range(4)]
"""Rows that a model gets worse at while it learns to count."""


def _after(values: list[float], **asked: Any) -> tuple[Choice, bool]:
    choice, spec = Choice(), SelectionSpec(**asked)
    for step, value in enumerate(values, 1):
        choice = with_evaluation(choice, spec, step, value)
    return choice, is_time_to_end(choice, spec)


@pytest.mark.parametrize(
    ("values", "asked", "step", "fruitless", "is_over"),
    [
        ([3, 2, 1], {"patience": 1}, 3, 0, False),
        ([3, 2, 2], {"patience": 1}, 2, 1, True),
        ([3, 2, 2.5, 2.5], {"patience": 3}, 2, 2, False),
        ([3, 2, 2.5, 1.9, 2], {"patience": 2}, 4, 1, False),
        ([3, 2.95, 2.9], {"patience": 2, "min_improvement": 0.1}, 3, 2, True),
        ([0.5, 0.7, 0.6], {"best": "highest", "patience": 1}, 2, 1, True),
        ([1, 2, 3, 4, 5], {}, 1, 4, False),
    ],
)
def test_the_best_evaluation_and_the_patience_are_counted(
    values: list[float], asked: Any, step: int, fruitless: int, is_over: bool
) -> None:
    choice, over = _after(values, **asked)
    assert (choice.step, choice.fruitless, over) == (step, fruitless, is_over)


@pytest.fixture
def train(tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """Train on rows whose validation loss rises, and evaluate after each step."""
    rows = write_rows(tmp_path / "rows.jsonl", [
        {"prompt": row["messages"][0]["content"], "completion": row["messages"][1]["content"]} for row in chat(16)
    ])  # fmt: skip
    unlike = write_rows(tmp_path / "unlike.jsonl", UNLIKE)

    def train(name: str = "run", **changes: Any) -> Any:
        known = {"validation": unlike, "eval_steps": 1, "save_steps": 100, "learning_rate": 0.05, "epochs": 5.0}
        return run(attempt(tiny_model, rows, **{**known, **changes}), tmp_path / name)

    return train


def test_a_job_ends_early_and_succeeds_when_evaluations_do_not_improve(train: Callable[..., Any]) -> None:
    code, events = train(selection={"patience": 3})
    assert code == 0
    [early] = of_kind(events, StoppedEarly)
    evaluations = of_kind(events, Evaluated)
    values = [event.loss for event in evaluations]
    assert early.step == len(values) == of_kind(events, Succeeded)[0].step < 20
    assert early.best_value == min(values) == values[early.best_step - 1]
    assert early.evaluations == 3
    assert [event.step for event in evaluations if event.is_best][-1] == early.best_step
    assert of_kind(events, Metrics)[-1].total_steps == 20
    assert [event.step for event in of_kind(events, CheckpointSaved) if event.offered] == [early.step]


def test_an_early_end_is_reported_and_sampled_like_any_other_and_only_once(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    sampling = {"prompts": ["Count."], "every": 50, "max_new_tokens": 2}
    order = {"selection": {"patience": 1, "min_improvement": 100.0}, "eval_steps": 3, "sampling": sampling}
    _, plain = train("plain", **order)
    _, events = train(log_steps=10, **order)
    assert of_kind(events, StoppedEarly)[0].step == 6
    [last] = of_kind(events, Metrics)
    assert (last.step, last.tokens_total) == (6, of_kind(plain, Metrics)[-1].tokens_total)
    steps = [event.loss for event in of_kind(plain, Metrics)]
    assert min(steps) < last.loss < max(steps)
    assert [event.step for event in of_kind(events, Sampled)] == [0, 6]
    _, resumed = train("resumed", log_steps=10, **order, resume_from=[checkpoint(events, tmp_path / "run", 6)])
    assert of_kind(resumed, StoppedEarly)
    assert not of_kind(resumed, Metrics) + of_kind(resumed, Sampled)


def test_an_early_end_is_reported_also_where_the_evaluation_that_decides_it_was_interrupted(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"selection": {"patience": 1, "min_improvement": 100.0}, "eval_steps": 3, "log_steps": 10}
    _, whole = train("whole", **order)
    real, calls = TextTask.validation_batches, []

    def stopping(self: TextTask) -> Any:
        calls.append(1)
        if len(calls) == 3:  # after the check that there are any, and the evaluation of step 3
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(TextTask, "validation_batches", stopping)
    _, events = train(**order)
    assert of_kind(events, Stopped)[0].step == 6
    _, resumed = train("resumed", **order, resume_from=[checkpoint(events, tmp_path / "run", 6)])
    facts = {"step", "loss", "grad_norm", "learning_rate", "tokens_total", "epoch"}
    [last], [expected] = of_kind(resumed, Metrics), of_kind(whole, Metrics)
    assert last.model_dump(include=facts) == expected.model_dump(include=facts)


def test_without_patience_all_steps_are_trained(train: Callable[..., Any]) -> None:
    _, events = train()
    assert not of_kind(events, StoppedEarly)
    assert len(of_kind(events, Metrics)) == 20


@pytest.mark.parametrize("adapter", [True, False], ids=["adapter", "all weights"])
def test_the_result_can_have_the_weights_of_the_best_evaluation(
    train: Callable[..., Any], tmp_path: Path, adapter: bool
) -> None:
    changes: Any = {} if adapter else {"adapter": None, "learning_rate": 0.01}
    _, events = train(selection={"result": "best"}, save_steps=1, **changes)
    [done] = of_kind(events, Succeeded)
    values = [event.loss for event in of_kind(events, Evaluated)]
    best = values.index(min(values)) + 1
    assert done.weights_of == best < done.step == 20
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    artifact = load_file(tmp_path / "run/artifact" / name)
    chosen = load_file(checkpoint(events, tmp_path / "run", best) / name)
    last = load_file(checkpoint(events, tmp_path / "run", 20) / name)
    assert all(artifact[key].float().equal(chosen[key].to(artifact[key].dtype).float()) for key in artifact)
    assert any(not artifact[key].float().equal(last[key].float()) for key in artifact)


def test_the_best_weights_are_there_also_where_no_checkpoint_was_asked_for_then(train: Callable[..., Any]) -> None:
    _, events = train(selection={"result": "best"})
    [done] = of_kind(events, Succeeded)
    values = [event.loss for event in of_kind(events, Evaluated)]
    assert done.weights_of == values.index(min(values)) + 1
    assert [event.step for event in of_kind(events, CheckpointSaved) if event.offered] == [20]


def test_the_best_offered_checkpoint_is_never_pruned(train: Callable[..., Any], tmp_path: Path) -> None:
    _, events = train(save_steps=1, keep_checkpoints=2)
    values = [event.loss for event in of_kind(events, Evaluated)]
    best = values.index(min(values)) + 1
    there = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert there == {f"step-{step:08d}" for step in (best, 19, 20)}
    assert best not in {event.step for event in of_kind(events, CheckpointRemoved)}
    scores = {event.step: event.score for event in of_kind(events, CheckpointSaved)}
    assert scores == dict(enumerate(values, 1))


def test_a_damaged_best_checkpoint_is_passed_over_with_a_note(
    train: Callable[..., Any], tmp_path: Path, tiny_model: Path
) -> None:
    order = {"selection": {"result": "best"}, "save_steps": 1}
    _, whole = train("whole", **order)
    values = [event.loss for event in of_kind(whole, Evaluated)]
    best, second = sorted(range(1, 21), key=lambda step: values[step - 1])[:2]
    folders = [checkpoint(whole, tmp_path / "whole", step) for step in range(20, 0, -1)]
    with (checkpoint(whole, tmp_path / "whole", best) / "adapter_model.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff\xff")
    _, events = train("resumed", **order, attempt=2, resume_from=folders)
    assert of_kind(events, Succeeded)[0].weights_of == second
    assert any(f"step {best} cannot become the result" in note.message for note in of_kind(events, Note))


def test_the_validation_rows_can_be_scored_before_the_first_step(train: Callable[..., Any]) -> None:
    _, plain = train("plain", max_steps=2)
    _, events = train("first", max_steps=2, evaluate_first=True)
    first, *others = of_kind(events, Evaluated)
    assert (first.step, first.is_best) == (0, False)
    assert [event.loss for event in others] == [event.loss for event in of_kind(plain, Evaluated)]
    assert [event.loss for event in of_kind(events, Metrics)] == [event.loss for event in of_kind(plain, Metrics)]


def test_a_split_that_leaves_no_row_for_validation_fails_before_the_first_step(train: Callable[..., Any]) -> None:
    split = {"by": "sequential", "ratios": [0.99, 0.01]}
    code, events = train(validation=None, split=split, selection={"patience": 1})
    assert code == 1
    [failed] = of_kind(events, Failed)
    assert (failed.error.code, failed.error.param) == ("invalid_request", "data.split")
    assert not of_kind(events, Metrics)


@pytest.mark.parametrize(
    ("kind", "rows", "changes"),
    [
        ("sft", chat(8), {}),
        ("dpo", preferences(8), {}),
        ("orpo", preferences(8), {}),
        ("kto", judged(8), {}),
        ("reward", preferences(8), {"task": "sequence_classification"}),
        ("classification", labelled(8), {"task": "sequence_classification"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_method_reports_the_figures_that_it_names(
    tiny_model: Path, tmp_path: Path, kind: str, rows: Any, changes: Any
) -> None:
    file = write_rows(tmp_path / "rows.jsonl", rows)
    method = {"kind": kind, "parameters": {}}
    figure = load_plugins("tunesmith.methods")[kind].FIGURES[-1]
    selection = {"metric": figure, "best": "highest", "patience": 1}
    order = attempt(tiny_model, file, validation=file, method=method, selection=selection, max_steps=1, **changes)
    code, events = run(order, tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    [evaluated] = of_kind(events, Evaluated)
    figures = evaluated.extra | ({} if evaluated.token_accuracy is None else {"token_accuracy": 0})
    assert tuple(figures) == load_plugins("tunesmith.methods")[kind].FIGURES
    [saved] = of_kind(events, CheckpointSaved)
    assert saved.score == evaluated.extra.get(figure, evaluated.token_accuracy)
