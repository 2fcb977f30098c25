"""What a model's folder tells of tokens and masks, for a resume and for kept rows alike."""

import shutil
from pathlib import Path

import pytest
import torch

from attempts import attempt, chat, write_rows
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.fingerprint import fingerprints_of
from tunesmith.training.model import load_tokenizer
from tunesmith.training.row_cache import kept_rows
from tunesmith.training.row_source import source_of
from tunesmith.training.supervised_rows import SupervisedShape
from tunesmith.training.text_rows import preparation_of


@pytest.fixture
def order(tiny_model: Path, tmp_path: Path) -> AttemptSpec:
    """An attempt on a model of its own, with a folder for its rows."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    made = attempt(model, write_rows(tmp_path / "rows.jsonl", chat(4)))
    return made.model_copy(update={"inputs": made.inputs.model_copy(update={"rows": tmp_path / "kept"})})


def _tokenizer(order: AttemptSpec) -> str:
    return fingerprints_of(order, torch.device("cpu")).tokenizer


def _model(order: AttemptSpec) -> str:
    return fingerprints_of(order, torch.device("cpu")).model


def _folder(order: AttemptSpec) -> Path:
    """Where the prepared rows are kept."""
    source, shape = source_of(order, "train"), SupervisedShape("sft", "assistant")
    assert source is not None
    tokenizer = load_tokenizer(order.inputs.model)
    kept = kept_rows(order, source, preparation_of(order, tokenizer, shape, lambda: None))
    assert kept is not None
    return kept.folder


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "qwen.tiktoken",
        "vocab.bpe",
        "bpe.codes",
        "source.spm",
        "tokenizer.model.v3",
        "additional_chat_templates/short.jinja",
    ],
)
def test_a_file_that_makes_tokens_or_masks_makes_a_resume_inexact_and_finds_no_kept_rows(
    order: AttemptSpec, name: str
) -> None:
    before = _tokenizer(order), _folder(order)
    path = order.inputs.model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"eos_token_id": 7}')
    assert _tokenizer(order) != before[0]
    assert _folder(order) != before[1]


def test_the_configuration_belongs_to_the_model_and_kept_rows_depend_on_it(order: AttemptSpec) -> None:
    before = _tokenizer(order), _model(order), _folder(order)
    config = order.inputs.model / "config.json"
    config.write_text(config.read_text() + "\n")
    assert _tokenizer(order) == before[0]
    assert _model(order) != before[1]
    assert _folder(order) != before[2]


def test_weights_make_no_tokens(order: AttemptSpec) -> None:
    before = _tokenizer(order), _model(order), _folder(order)
    weights = order.inputs.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    (order.inputs.model / "model.safetensors.index.json").write_text("{}")
    (order.inputs.model / "README.md").write_text("A model.")
    assert _tokenizer(order) == before[0]
    assert _model(order) != before[1]
    assert _folder(order) == before[2]
