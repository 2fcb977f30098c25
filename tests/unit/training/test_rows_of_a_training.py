"""Which rows are trained and scored, what is said about them, and which are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attempts import attempt, chat, losses, of_kind, run, write_rows
from tunesmith.spec.events import Checked, Evaluated, Note, Prepared, Succeeded
from tunesmith.training.model import load_tokenizer
from tunesmith.training.row_source import source_of
from tunesmith.training.seen import histogram
from tunesmith.training.text import Encoder

pytestmark = pytest.mark.usefixtures("signals_kept")


def _plain(count: int) -> list[Any]:
    return [{"text": f"Row number {number}."} for number in range(count)]


def _prepared(tmp_path: Path, model: Path, rows: list[Any], **changes: Any) -> tuple[Prepared, list[Any]]:
    train = write_rows(tmp_path / "train.jsonl", rows)
    code, events = run(attempt(model, train, epochs=1.0, warmup_ratio=0.0, **changes), tmp_path / "run")
    assert code == 0
    return of_kind(events, Prepared)[0], events


def _lines(model: Path, rows: Path, part: Any, **changes: Any) -> list[int]:
    source = source_of(attempt(model, rows, **changes), part)
    assert source is not None
    return [row.line for row in source.drawn(lambda: None)]


# --- parts and shares ------------------------------------------------------------------------------------------------


def test_a_split_gives_the_rows_to_score_and_keeps_rows_for_a_test_apart(tiny_model: Path, tmp_path: Path) -> None:
    split = {"by": "random", "ratios": [0.5, 0.3, 0.2]}
    prepared, events = _prepared(tmp_path, tiny_model, _plain(20), split=split)
    assert (prepared.rows, prepared.validation_rows, prepared.test_rows) == (10, 6, 4)
    assert of_kind(events, Evaluated)


def test_the_parts_of_a_split_share_no_row_and_depend_on_the_seed(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", _plain(30))
    split = {"by": "random", "ratios": [0.6, 0.2, 0.2]}
    parts = {part: _lines(tiny_model, rows, part, split=split) for part in ("train", "validation", "test")}
    assert sorted(line for lines in parts.values() for line in lines) == list(range(1, 31))
    assert parts["train"] == _lines(tiny_model, rows, "train", split=split)
    assert parts["train"] != _lines(tiny_model, rows, "train", split=split, seed=8)


def test_a_column_can_say_what_each_row_is_for(tiny_model: Path, tmp_path: Path) -> None:
    rows = [row | {"part": ("train", "validation", "test")[index % 3]} for index, row in enumerate(_plain(9))]
    prepared, _ = _prepared(tmp_path, tiny_model, rows, split={"by": "column", "column": "part"})
    assert (prepared.rows, prepared.validation_rows, prepared.test_rows) == (3, 3, 3)


@pytest.mark.parametrize("purpose", ["train", "check"])
def test_a_split_that_leaves_nothing_to_train_names_the_part(tiny_model: Path, tmp_path: Path, purpose: str) -> None:
    rows = [row | {"part": "test"} for row in _plain(4)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    order = attempt(tiny_model, train, split={"by": "column", "column": "part"}, purpose=purpose)
    code, events = run(order, tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "nothing_to_train"
    assert "the part `train`" in events[-1].error.message


def test_too_few_rows_for_a_validation_part_are_a_note(tiny_model: Path, tmp_path: Path) -> None:
    split = {"by": "sequential", "ratios": [0.9, 0.1]}
    prepared, events = _prepared(tmp_path, tiny_model, _plain(3), split=split)
    assert (prepared.rows, prepared.validation_rows) == (3, 0)
    assert "too few rows" in of_kind(events, Note)[0].message
    assert not of_kind(events, Evaluated)


def test_a_validation_part_of_which_no_row_fits_is_an_error_that_names_it(tiny_model: Path, tmp_path: Path) -> None:
    rows = [*_plain(8), {"text": "long " * 300}, {"text": "long " * 300}]
    train = write_rows(tmp_path / "train.jsonl", rows)
    order = attempt(tiny_model, train, split={"by": "sequential", "ratios": [0.8, 0.2]})
    code, events = run(order, tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "nothing_to_train"
    assert "the part `validation`" in events[-1].error.message


def test_validation_data_of_its_own_makes_a_split_without_effect_which_is_said(
    tiny_model: Path, tmp_path: Path
) -> None:
    own = write_rows(tmp_path / "validation.jsonl", _plain(5))
    split = {"by": "random", "ratios": [0.5, 0.5]}
    prepared, events = _prepared(tmp_path, tiny_model, _plain(10), split=split, validation=own)
    assert (prepared.rows, prepared.validation_rows) == (10, 5)
    assert "split has no effect" in of_kind(events, Note)[0].message


def test_a_share_of_the_rows_is_drawn_by_the_seed(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", _plain(40))
    drawn = _lines(tiny_model, rows, "train", sample_ratio=0.25)
    assert len(drawn) == 10
    assert drawn == sorted(drawn) == _lines(tiny_model, rows, "train", sample_ratio=0.25)
    assert drawn != _lines(tiny_model, rows, "train", sample_ratio=0.25, seed=8)
    assert _lines(tiny_model, rows, "train", sample_ratio=0.25, max_samples=3) == drawn[:3]
    assert _lines(tiny_model, rows, "train", sample_ratio=0.001) != []


def test_a_share_is_drawn_of_every_part(tiny_model: Path, tmp_path: Path) -> None:
    split = {"by": "random", "ratios": [0.5, 0.5]}
    prepared, _ = _prepared(tmp_path, tiny_model, _plain(40), split=split, sample_ratio=0.5)
    assert (prepared.rows, prepared.validation_rows) == (10, 10)


def test_rows_are_read_as_the_job_says(tiny_model: Path, tmp_path: Path) -> None:
    reading = {
        "format": "prompt_completion",
        "columns": {"completion": "reply"},
        "template": "Q: {question}\n",
        "system": None,
    }
    rows = [{"question": f"What is {number}?", "reply": f"It is {number}."} for number in range(4)]
    prepared, _ = _prepared(tmp_path, tiny_model, rows, reading=reading)
    assert prepared.sample == "Q: What is 0?\n⟦It is 0.<|im_end|>⟧"


# --- what is said about them -----------------------------------------------------------------------------------------


def test_lengths_are_counted_between_powers_of_two() -> None:
    assert histogram([1, 2, 3, 4, 5, 8, 9, 1000, 1024, 1025]) == {1: 1, 2: 1, 4: 2, 8: 2, 16: 1, 1024: 2, 2048: 1}


def test_lengths_and_the_trained_share_are_reported(tiny_model: Path, tmp_path: Path) -> None:
    prepared, _ = _prepared(tmp_path, tiny_model, chat(9))
    assert sum(rows for _, rows in prepared.lengths) == prepared.rows == 9
    assert prepared.trained_share == prepared.trained_tokens / prepared.tokens
    assert 0 < prepared.trained_share < 1


# --- shapes of rows --------------------------------------------------------------------------------------------------

TURN = {"role": "user", "content": "Hello?"}
ANSWER = {"role": "assistant", "content": "Hello."}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "`preference` row"),
        ({"prompt": "a", "completion": "b", "label": True}, "`kto` row"),
        ({"text": "a", "label": 1}, "`classification` row"),
        ({"messages": [TURN | {"content": [PICTURE]}, ANSWER]}, "conversation with pictures"),
    ],
    ids=["preference", "kto", "classification", "pictures"],
)
def test_rows_that_are_trained_otherwise_are_refused_at_the_check_with_their_line(
    row: Any, name: str, tiny_model: Path, tmp_path: Path
) -> None:
    train = write_rows(tmp_path / "train.jsonl", [row])
    code, events = run(attempt(tiny_model, train, purpose="check"), tmp_path / "run")
    assert code == 1
    error = events[-1].error
    assert error.code == "invalid_dataset"
    assert error.message.startswith(f"Line 1 is a {name}")
    assert "the method `sft`" in error.message
    assert "plain text" in (error.hint or "")


def test_rows_of_tokens_are_trained_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    conversations = write_rows(tmp_path / "chat.jsonl", chat(8))
    from tunesmith.data.rows import read_examples

    encoded = Encoder(load_tokenizer(tiny_model), 384).encode(list(read_examples(conversations)))
    tokens = [
        {
            "input_ids": [*row.ids.tolist(), 0, 0],
            "labels": [*np.where(row.trained, row.ids, -100).tolist(), -100, -100],
            "attention_mask": [1] * len(row.ids) + [0, 0],
        }
        for row in encoded
    ]
    code, as_tokens = run(attempt(tiny_model, write_rows(tmp_path / "t.jsonl", tokens)), tmp_path / "tokens")
    assert code == 0
    _, as_text = run(attempt(tiny_model, conversations), tmp_path / "text")
    assert losses(as_tokens) == losses(as_text)
    assert of_kind(as_tokens, Prepared)[0].sample == of_kind(as_text, Prepared)[0].sample
    assert of_kind(as_tokens, Succeeded)


def test_rows_of_tokens_obey_the_length_limit(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"input_ids": list(range(10))}, {"input_ids": list(range(300))}]
    prepared, _ = _prepared(tmp_path, tiny_model, rows)
    assert (prepared.rows, prepared.dropped, prepared.dropped_lines) == (1, 1, (2,))
    assert (prepared.tokens, prepared.trained_tokens) == (10, 9)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"input_ids": [1, 2, 384]}, "no token 384; its tokens go from 0 to 383"),
        ({"input_ids": [1, 2, 3], "labels": [-100, 2, 4]}, "label 4 stands where the token is 3"),
    ],
)
def test_rows_of_tokens_that_do_not_fit_the_model_are_refused_with_their_line(
    row: Any, words: str, tiny_model: Path, tmp_path: Path
) -> None:
    train = write_rows(tmp_path / "train.jsonl", [row])
    code, events = run(attempt(tiny_model, train, purpose="check"), tmp_path / "run")
    assert code == 1
    assert "Line 1: " in events[-1].error.message
    assert words in events[-1].error.message


def test_text_and_turns_may_mix_where_the_shape_allows_it(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "What comes after 3?", "completion": " 4"},
        {"prompt": [TURN], "completion": [ANSWER]},
        {"prompt": "What comes after 4?", "completion": " 5"},
    ]
    train = write_rows(tmp_path / "train.jsonl", rows)
    from tunesmith.data.rows import read_examples

    encoder = Encoder(load_tokenizer(tiny_model), 384)
    examples = list(read_examples(train))
    together = encoder.encode(examples)
    alone = [encoder.encode([example])[0] for example in examples]
    assert [row.line for row in together] == [1, 2, 3]
    for one, two in zip(together, alone, strict=True):
        assert one.ids.tolist() == two.ids.tolist()
        assert one.trained.tolist() == two.trained.tolist()


def test_a_check_of_a_split_finds_a_row_of_the_training_part(tiny_model: Path, tmp_path: Path) -> None:
    rows = [row | {"part": index} for index, row in enumerate(reversed(_plain(3)))]
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    order = attempt(tiny_model, train, split={"by": "column", "column": "part"}, purpose="check")
    _, events = run(order, tmp_path / "run")
    assert of_kind(events, Checked)
