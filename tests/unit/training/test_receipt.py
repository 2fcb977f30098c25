"""The mask receipt says what is trained, and a job whose model would learn nothing, or never to stop, is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from attempts import attempt, of_kind, run, write_rows
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Checked, Failed, Prepared
from tunesmith.spec.receipt import REFUSED, Receipt
from tunesmith.training import receipt as program

pytestmark = pytest.mark.usefixtures("signals_kept")

_TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
_LOOP = "{%- for m in messages -%}" + _TURN + "{% endfor -%}"
_PROMPT = "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}"


def _row(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


_ROWS = [
    _row(("user", "Hi."), ("assistant", "Hello!"), ("user", "Bye."), ("assistant", "See you.")),
    _row(("user", "Why?"), ("assistant", "Because.")),
]


def _with_template(model: Path, folder: Path, template: str) -> Path:
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def _receipt(model: Path, rows: list[Any], tmp_path: Path, **changes: Any) -> Receipt:
    train = write_rows(tmp_path / "train.jsonl", rows)
    code, events = run(attempt(model, train, epochs=1.0, warmup_ratio=0.0, **changes), tmp_path / "run")
    assert code == 0, events
    (prepared,) = of_kind(events, Prepared)
    assert prepared.receipt == "receipt.json"
    found = RunDirectory(tmp_path / "run").read_receipt()
    assert found is not None
    assert (found.rows, found.tokens, found.trained_tokens) == (prepared.rows, prepared.tokens, prepared.trained_tokens)
    return found


# --- what it says ----------------------------------------------------------------------------------------------------


def test_it_counts_turns_and_what_ends_them(tiny_model: Path, tmp_path: Path) -> None:
    found = _receipt(tiny_model, _ROWS, tmp_path)
    assert (found.turns, found.ended_turns, found.ends) == (3, 3, {"<|im_end|>": 3})
    assert found.stops == ("<|im_end|>",)
    assert found.trained_share == found.trained_tokens / found.tokens
    assert found.findings == {}


def test_it_shows_the_first_rows_with_what_is_trained_in_them(tiny_model: Path, tmp_path: Path) -> None:
    found = _receipt(tiny_model, _ROWS, tmp_path)
    assert [row.line for row in found.samples] == [1, 2]
    assert [piece.text for piece in found.samples[0].pieces if piece.trained] == [
        "Hello!<|im_end|>",
        "See you.<|im_end|>",
    ]
    assert "".join(piece.text for piece in found.samples[1].pieces) == (
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause.<|im_end|>\n"
    )
    assert found.samples[1].trained_tokens < found.samples[1].tokens


def test_long_pieces_are_shortened_in_the_middle_so_that_the_end_of_the_turn_shows(
    tiny_model: Path, tmp_path: Path
) -> None:
    found = _receipt(tiny_model, [_row(("user", "Say."), ("assistant", "word " * 600))], tmp_path, max_length=4096)
    piece = next(piece for piece in found.samples[0].pieces if piece.trained)
    assert "…" in piece.text
    assert piece.text.endswith("<|im_end|>")
    assert len(piece.text) < 1500


def test_it_names_the_lines_that_are_left_out(tiny_model: Path, tmp_path: Path) -> None:
    found = _receipt(tiny_model, [*_ROWS, _row(("user", "Say."), ("assistant", "word " * 400))], tmp_path)
    assert (found.dropped.count, found.dropped.lines, found.cut.count) == (1, (3,), 0)


def test_it_names_the_lines_that_are_cut_and_counts_their_turns_as_without_an_end(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = [*_ROWS, _row(("user", "Say."), ("assistant", "word " * 400))]
    found = _receipt(tiny_model, rows, tmp_path, over_long="truncate")
    assert (found.cut.count, found.cut.lines) == (1, (3,))
    assert (found.turns, found.ended_turns, found.ends) == (4, 3, {"<|im_end|>": 3, "": 1})


def test_rows_that_an_author_tokenised_are_counted_as_they_are(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"input_ids": [5, 6, 7, 2], "labels": [-100, 6, 7, 2]}, {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}]
    found = _receipt(tiny_model, rows, tmp_path)
    assert (found.turns, found.ended_turns) == (2, 1)


def test_reasoning_that_the_template_drops_is_told(tiny_model: Path, tmp_path: Path) -> None:
    template = _LOOP.replace("m.content", "m.content.split('</think>')[-1].lstrip()") + _PROMPT
    model = _with_template(tiny_model, tmp_path / "model", template)
    found = _receipt(model, [_row(("user", "a"), ("assistant", "<think>\nHm.\n</think>\n\nYes."))], tmp_path)
    assert found.findings == {"reasoning_left_out": 1}


# --- the gate --------------------------------------------------------------------------------------------------------


def _check(model: Path, rows: list[Any], tmp_path: Path) -> Any:
    train = write_rows(tmp_path / "train.jsonl", rows)
    _, events = run(attempt(model, train, purpose="check"), tmp_path / "check")
    return events[-1]


def test_a_sound_template_passes_the_check(tiny_model: Path, tmp_path: Path) -> None:
    model = _with_template(tiny_model, tmp_path / "model", _LOOP + _PROMPT)
    assert isinstance(_check(model, _ROWS, tmp_path), Checked)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (_LOOP.replace("{{ m.content }}", "") + _PROMPT, "leaves the turn's text out"),
        (_LOOP.replace("m.content", "m.content[1:]") + _PROMPT, "messages[1]"),
        (_LOOP.replace("<|im_end|>", "") + _PROMPT, "would not learn when to stop"),
        (_LOOP.replace("<|im_end|>", "<|endoftext|>") + _PROMPT, "'<|endoftext|>\\n' behind the assistant's words"),
        (
            _LOOP.replace("<|im_end|>", "{% if m.role == 'user' %}<|im_end|>{% endif %}") + _PROMPT,
            "behind the assistant's words",
        ),
        (_LOOP.replace("<|im_end|>\n", "") + "\n<|im_start|>assistant\n", "would not learn when to stop"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{{ messages[-1].content | length }}" + _LOOP + _PROMPT, "depends on what the turn says"),
        (_LOOP.replace("in messages", "in messages[::-1]") + _PROMPT, "messages["),
        ("{% if %}", "refuses it"),
    ],
    ids=[
        "no-answer",
        "cut-answer",
        "no-end",
        "end-that-does-not-stop",
        "end-of-others-only",
        "prompt-for-an-end",
        "raises",
        "unsteady",
        "backwards",
        "no-template",
    ],
)
def test_a_broken_template_is_refused_before_the_job_is_accepted(
    template: str, reason: str, tiny_model: Path, tmp_path: Path
) -> None:
    refusal = _check(_with_template(tiny_model, tmp_path / "model", template), _ROWS, tmp_path)
    assert isinstance(refusal, Failed)
    assert refusal.error.code == "chat_template"
    assert "Line 1" in refusal.error.message
    assert reason in refusal.error.message
    assert refusal.error.hint


def test_a_mark_counts_as_an_end_if_the_generation_configuration_names_it(tiny_model: Path, tmp_path: Path) -> None:
    model = _with_template(tiny_model, tmp_path / "model", _LOOP.replace("<|im_end|>", "<|endoftext|>") + _PROMPT)
    file = model / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, 0]}))
    found = _receipt(model, _ROWS, tmp_path)
    assert (found.stops, found.ends) == (("<|endoftext|>", "<|im_end|>"), {"<|endoftext|>": 3})


def test_a_generation_configuration_that_names_no_tokens_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = _with_template(tiny_model, tmp_path / "model", _LOOP + _PROMPT)
    (model / "generation_config.json").write_text('{"eos_token_id": "</s>"}')
    refusal = _check(model, _ROWS, tmp_path)
    assert (refusal.error.code, "'</s>'" in refusal.error.message) == ("model_load", True)


def test_rows_in_which_nothing_is_trained_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    refusal = _check(tiny_model, [{"input_ids": [5, 6], "labels": [-100, -100]}], tmp_path)
    assert isinstance(refusal, Failed)


def test_a_job_that_trains_no_last_turn_is_refused_where_only_that_one_has_an_end(
    tiny_model: Path, tmp_path: Path
) -> None:
    template = _LOOP.replace("<|im_end|>", "{{ '<|im_end|>' if loop.last else '<|endoftext|>' }}") + _PROMPT
    model = _with_template(tiny_model, tmp_path / "model", template)
    rows = json.loads(json.dumps(_ROWS[:1]))
    rows[0]["messages"][3]["weight"] = 0
    _, events = run(attempt(model, write_rows(tmp_path / "train.jsonl", rows)), tmp_path / "run")
    assert "No row trains the model to stop" in events[-1].error.message


# --- without a job ---------------------------------------------------------------------------------------------------


def test_a_file_has_the_receipt_of_a_job_that_trains_on_it(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_job = _receipt(tiny_model, _ROWS, tmp_path, max_length=512)
    assert program.main([str(tmp_path / "train.jsonl"), str(tiny_model), "512"]) == 0
    assert Receipt.model_validate_json(capsys.readouterr().out) == of_job


def test_a_file_that_cannot_be_trained_on_is_refused_with_the_reason(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _with_template(tiny_model, tmp_path / "model", _LOOP.replace("<|im_end|>", ""))
    train = write_rows(tmp_path / "train.jsonl", _ROWS)
    assert program.main([str(train), str(model), "512"]) == REFUSED
    assert "would not learn when to stop" in json.loads(capsys.readouterr().err)["message"]
