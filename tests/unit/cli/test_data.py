"""`tunesmith data inspect`."""

import json
import os
import pty
import shutil
import zipfile

import pytest

from rows import chat_rows
from vision import png, says, shows


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(chat_rows(12))
    return file


def test_a_model_without_a_name_here_is_refused(shell, rows):
    done = shell.run("data", "inspect", rows, "--model", "nothing")
    assert (done.code, "'nothing'" in done.err) == (4, True)


def test_rows_that_cannot_be_used_are_named_with_their_lines(shell, tiny_model, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"messages": [{"role": "user", "content": "Hi."}]}\n' + chat_rows(1).decode())
    done = shell.run("data", "inspect", tmp_path / "rows.jsonl", "--model", tiny_model)
    assert done.code == 1
    assert "Line 1: no message has the role `assistant`" in done.err
    assert "1 of 2 rows cannot be used" in done.err


def test_an_interpreter_that_does_not_start_is_named(shell, tiny_model, rows):
    done = shell.run("data", "inspect", rows, "--model", tiny_model, TUNESMITH_WORKER_PYTHON="/nowhere/python")
    assert (done.code, "/nowhere/python" in done.err) == (1, True)


@pytest.mark.slow
def test_rows_are_shown_with_what_is_trained_in_them(shell, tiny_model, rows):
    done = shell.run("data", "inspect", rows, "--model", tiny_model)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "12, of which 12 end with a token at which the model stops" in done.out
    assert "Line 5:" in done.out
    assert done.out.count("<|im_end|>⟧") == 5


@pytest.mark.slow
def test_a_name_of_the_settings_and_json_work(shell, tiny_model, rows):
    done = shell.run(
        "data", "inspect", rows, "--model", tiny_model.name, "--json", TUNESMITH_MODEL_ROOTS=str(tiny_model.parent)
    )
    assert done.json["rows"] == 12
    assert 0 < done.json["trained_share"] < 1


@pytest.mark.slow
def test_a_terminal_gets_colours(shell, tiny_model, rows):
    ours, theirs = pty.openpty()
    process = shell.start("data", "inspect", rows, "--model", tiny_model, stdout=theirs)
    assert process.wait(timeout=120) == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[32m⟦" in shown


@pytest.mark.slow
def test_a_template_that_does_not_teach_to_stop_is_refused_with_the_reason(shell, tiny_model, rows, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    template = model / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", ""))
    done = shell.run("data", "inspect", rows, "--model", model)
    assert done.code == 1
    assert "would not learn when to stop" in done.err
    assert "eos_token_id" in done.err
    assert json.loads((model / "generation_config.json").read_text())["eos_token_id"] == 2


@pytest.mark.slow
def test_rows_of_an_archive_are_shown_with_the_tokens_of_their_pictures(shell, tiny_vision_model, tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr(
            "rows.jsonl", json.dumps(shows("red.png")) + "\n" + json.dumps(says("Hello?", "Hello.")) + "\n"
        )
        archive.writestr("red.png", png("red"))
    done = shell.run("data", "inspect", tmp_path / "rows.zip", "--model", tiny_vision_model)
    assert done.code == 0, done.err
    assert done.out.count("<image>") == 16
    assert "⟦It is red.png.<|im_end|>⟧" in done.out


@pytest.mark.slow
def test_rows_without_pictures_are_shown_for_a_model_that_reads_them(shell, tiny_vision_model, rows):
    done = shell.run("data", "inspect", rows, "--model", tiny_vision_model)
    assert (done.code, done.out.count("<|im_end|>⟧")) == (0, 5), done.err


def test_a_picture_at_an_address_is_not_fetched(shell, tiny_vision_model, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(shows("https://pictures.example/red.png?sig=canary")))
    done = shell.run("data", "inspect", tmp_path / "rows.jsonl", "--model", tiny_vision_model)
    assert done.code == 1
    assert "Line 1: the picture https://pictures.example/red.png lies elsewhere" in done.err
    assert "canary" not in done.err
