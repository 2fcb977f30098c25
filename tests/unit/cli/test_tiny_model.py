"""`tunesmith tiny-model`."""

import pytest


@pytest.mark.slow
def test_a_model_is_written(shell, tmp_path):
    done = shell.run("tiny-model", "text", tmp_path / "tiny")
    assert (done.code, done.out) == (0, f"{tmp_path / 'tiny'}\n")
    assert (tmp_path / "tiny" / "config.json").exists()
    assert list((tmp_path / "tiny").glob("*.safetensors"))


@pytest.mark.slow
def test_a_model_that_reads_pictures_is_written(shell, tmp_path):
    done = shell.run("tiny-model", "vision-language", tmp_path / "tiny")
    assert (done.code, done.out) == (0, f"{tmp_path / 'tiny'}\n")
    assert (tmp_path / "tiny" / "processor_config.json").exists()
    assert list((tmp_path / "tiny").glob("*.safetensors"))


def test_an_interpreter_that_does_not_start_is_named(shell, tmp_path):
    done = shell.run("tiny-model", "text", tmp_path / "tiny", TUNESMITH_WORKER_PYTHON="/nowhere/python")
    assert done.code == 1
    assert "/nowhere/python" in done.err


def test_an_interpreter_without_torch_leads_to_the_doctor(shell, tmp_path):
    done = shell.run("tiny-model", "text", tmp_path / "tiny", TUNESMITH_WORKER_PYTHON="false")
    assert done.code == 1
    assert "tunesmith doctor" in done.err


@pytest.mark.slow
def test_a_text_to_image_model_is_written(shell, tmp_path):
    done = shell.run("tiny-model", "image", tmp_path / "tiny")
    assert (done.code, done.out) == (0, f"{tmp_path / 'tiny'}\n")
    assert (tmp_path / "tiny" / "model_index.json").exists()
    assert list((tmp_path / "tiny" / "transformer").glob("*.safetensors"))
