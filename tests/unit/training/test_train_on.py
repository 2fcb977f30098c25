"""Which part of a row carries loss, by the wish of the job."""

from pathlib import Path
from typing import Any

import pytest

from attempts import attempt, of_kind, run, write_rows
from tunesmith.spec.events import Prepared, Succeeded

pytestmark = pytest.mark.usefixtures("signals_kept")

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Three?"},
    {"role": "assistant", "content": "Four."},
]


def _sample(model: Path, tmp_path: Path, row: Any, train_on: str) -> str:
    train = write_rows(tmp_path / "train.jsonl", [row] * 4)
    method = {"kind": "sft", "parameters": {"train_on": train_on}}
    code, events = run(attempt(model, train, method=method, epochs=1.0, warmup_ratio=0.0), tmp_path / "run")
    assert code == 0
    assert of_kind(events, Succeeded)
    sample: str = of_kind(events, Prepared)[0].sample
    return sample.replace("<|im_start|>", "<").replace("<|im_end|>", ">")


def test_the_assistants_turns_are_trained_by_default(tiny_model: Path, tmp_path: Path) -> None:
    sample = _sample(tiny_model, tmp_path, {"messages": TURNS}, "assistant")
    assert sample == "<system\nBe brief.>\n<user\nOne?>\n<assistant\n⟦Two.>⟧\n<user\nThree?>\n<assistant\n⟦Four.>⟧\n"


def test_the_last_turn_alone_can_be_trained(tiny_model: Path, tmp_path: Path) -> None:
    sample = _sample(tiny_model, tmp_path, {"messages": TURNS}, "last")
    assert sample == "<system\nBe brief.>\n<user\nOne?>\n<assistant\nTwo.>\n<user\nThree?>\n<assistant\n⟦Four.>⟧\n"


def test_a_last_turn_without_weight_leaves_the_one_before_it(tiny_model: Path, tmp_path: Path) -> None:
    turns = [*TURNS[:4], TURNS[4] | {"weight": 0}]
    assert "⟦Two.>⟧" in _sample(tiny_model, tmp_path, {"messages": turns}, "last")


def test_everything_can_be_trained_but_the_first_token(tiny_model: Path, tmp_path: Path) -> None:
    sample = _sample(tiny_model, tmp_path, {"messages": TURNS}, "all")
    assert sample == "<⟦system\nBe brief.>\n<user\nOne?>\n<assistant\nTwo.>\n<user\nThree?>\n<assistant\nFour.>\n⟧"


def test_everything_leaves_out_the_assistants_turns_without_weight(tiny_model: Path, tmp_path: Path) -> None:
    turns = [*TURNS[:2], TURNS[2] | {"weight": 0}, *TURNS[3:]]
    sample = _sample(tiny_model, tmp_path, {"messages": turns}, "all")
    assert sample == "<⟦system\nBe brief.>\n<user\nOne?>\n<assistant\n⟧Two.>⟦\n<user\nThree?>\n<assistant\nFour.>\n⟧"


def test_everything_includes_a_plain_prompt(tiny_model: Path, tmp_path: Path) -> None:
    row = {"prompt": "What comes after 3?", "completion": " It is 4."}
    assert _sample(tiny_model, tmp_path, row, "all").startswith("Wh⟦at comes after 3? It is 4.>⟧")


def test_rows_of_tokens_say_themselves_what_is_trained(tiny_model: Path, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", [{"input_ids": [1, 2, 3]}])
    method = {"kind": "sft", "parameters": {"train_on": "all"}}
    code, events = run(attempt(tiny_model, train, method=method, purpose="check"), tmp_path / "run")
    assert code == 1
    assert events[-1].error.message.startswith("Line 1 is a row of tokens, whose labels say what is trained")
