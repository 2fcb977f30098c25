import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import base_model
import compare
import display
import follow
import pytest
from rich.console import Console
from triage import Row, Score, Triage, parse, score

GOOD = '{"intent": "refund", "urgency": "low", "summary": "Refund for shoes"}'


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I am sorry to hear that.",
        f"Sure! {GOOD}",
        f"```json\n{GOOD}\n```",
        f"[{GOOD}]",
        '{"intent": "refund", "urgency": "low"}',
        '{"intent": "refund", "urgency": "low", "summary": "x", "name": "y"}',
        '{"intent": "money", "urgency": "low", "summary": "x"}',
        '{"intent": "refund", "urgency": "urgent", "summary": "x"}',
        '{"intent": "refund", "urgency": "low", "summary": " "}',
        '{"intent": ["refund"], "urgency": {}, "summary": 3}',
    ],
)
def test_other_forms_are_not_valid(answer: str):
    assert parse(answer) is None


def test_only_white_space_may_surround_an_answer():
    assert parse(f"\n {GOOD} \n") == Triage("refund", "low", "Refund for shoes")


def test_score_counts_form_apart_from_content():
    row = Row("Triage.", "The shoes are too big.", Triage("refund", "low", "Shoes too big"))
    wrong = GOOD.replace('"low"', '"high"')
    assert score([GOOD, wrong, "no"], [row] * 3) == Score(total=3, valid=2, correct=1)


@pytest.mark.parametrize(
    ("tuned", "paid_off"),
    [
        (Score(50, valid=50, correct=30), True),
        (Score(50, valid=0, correct=0), False),
        (Score(50, valid=50, correct=4), False),
    ],
)
def test_tuning_must_beat_the_base_however_it_is_asked(tuned: Score, paid_off: bool):
    comparison = compare.Comparison(
        base=Score(50, valid=0, correct=0), instructed=Score(50, valid=45, correct=4), tuned=tuned
    )
    assert (comparison.shortfall() is None) is paid_off


def test_a_whole_model_folder_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(base_model, "_packaged_gguf", lambda: pytest.fail("looked for the package"))
    for name in base_model._FILES:
        (tmp_path / name).touch()
    assert base_model.convert(tmp_path) == tmp_path


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_gguf: Path, folder: Path) -> None:
        (folder / "config.json").touch()
        raise OSError("no room")

    monkeypatch.setattr(base_model, "_packaged_gguf", lambda: Path("model.gguf"))
    monkeypatch.setattr(base_model, "_write", fail)
    with pytest.raises(OSError, match="no room"):
        base_model.convert(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


class _Jobs:
    """Answers like a server whose job runs one poll and then has ended."""

    def __init__(self, *, newest_first: bool) -> None:
        self._polls = 0
        self._newest_first = newest_first

    def retrieve(self, _id: str) -> Any:
        self._polls += 1
        status = "running" if self._polls == 1 else "succeeded"
        return SimpleNamespace(status=status, trained_steps=self._polls, total_steps=2, estimated_finish=None)

    def list_events(self, _id: str, *, limit: int) -> list[Any]:
        events = [
            _event("e0", at=5, data={}),
            _event("e1", at=5, data=_metrics(1)),
            _event("e2", at=5, data=_metrics(2)),
            _event("e3", at=6, data={"step": 2, "full_valid_loss": 0.5, "full_valid_mean_token_accuracy": 0.8}),
        ][: 1 if self._polls == 1 else 4]
        return events[::-1] if self._newest_first else events


def _metrics(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "total_steps": 2,
        "train_loss": 1 / step,
        "train_mean_token_accuracy": 0.7,
        "tokens_per_second": 300,
    }


def _event(id: str, *, at: int, data: dict[str, Any]) -> Any:
    return SimpleNamespace(id=id, created_at=at, data=data, level="info", message="The job was created.")


@pytest.mark.parametrize("newest_first", [True, False])
def test_events_are_shown_once_and_in_order(monkeypatch: pytest.MonkeyPatch, newest_first: bool):
    monkeypatch.setattr(follow, "_POLL_SECONDS", 0)
    monkeypatch.setattr(display, "_LINE_EVERY_SECONDS", 0)
    output = io.StringIO()
    client: Any = SimpleNamespace(fine_tuning=SimpleNamespace(jobs=_Jobs(newest_first=newest_first)))
    with display.display_for(Console(file=output, width=200)) as shown:
        follow.follow(client, "ftjob-1", shown)
    assert [line.strip() for line in output.getvalue().splitlines()] == [
        "The job was created.",
        "validation after step 2: loss 0.500, token accuracy 80%",
        "step 2/2, loss 0.500, token accuracy 70%, 300 tokens/s",
    ]


def test_the_live_display_draws_a_curve():
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, height=40, _environ={"TERM": "xterm"})
    with display.display_for(console) as shown:
        for step in (1, 2):
            shown.step(_metrics(step))
        shown.message("Watch [this].", warning=True)
        shown.update(2, 2, None)
    assert "training loss" in output.getvalue()
    assert "Watch [this]." in output.getvalue()
    assert "2/2" in output.getvalue()
