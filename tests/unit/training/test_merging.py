"""Merged exports of what trainings leave: adapters over plain and quantized bases, classifiers, whole weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification, AutoProcessor

from attempts import attempt, chat, labelled, preferences, run, write_rows
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.events import Exported
from tunesmith.spec.export import ExportOptions, ExportSpec, Finish, Number, Origin, RowsToAsk, Verification
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.reading import Reading
from tunesmith.training.exporting import make_export
from tunesmith.training.reporting import Reporter
from vision import mixed_rows, vision_attempt

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("signals_kept"), pytest.mark.slow]


def merged(job: AttemptSpec, folder: Path, dtype: Number = "float32", **changes: Any) -> Verification:
    """Train, and export what came of it."""
    code, _ = run(job, folder / "run")
    assert code == 0
    artifact = folder / "run/artifact"
    whole = not (artifact / "adapter_config.json").is_file()
    wish = ExportSpec(
        model="ft:x", base_name="x", base_revision=None,
        base=artifact if whole else job.inputs.model, adapter=None if whole else artifact,
        options=ExportOptions(format="merged", dtype=dtype, quantization=None), trained_dtype=job.spec.model.dtype,
        origin=Origin(job_id="a" * 32, spec=job.spec, finish=Finish(steps=4, train_loss=1.5, validation_loss=None)),
        held_out=None, texts=("a question", "another one"),
    ).model_copy(update=changes)  # fmt: skip
    directory = RunDirectory(folder / "export")
    directory.write_spec(wish)
    writer = EventWriter(directory)
    read = directory.read_spec()
    assert isinstance(read, ExportSpec)
    make_export(read, directory, Reporter(writer), lambda: None)
    last = directory.read_events(0)[0][-1]
    assert isinstance(last, Exported)
    return last.verification


def test_an_adapter_trained_in_bfloat16_over_a_quantized_base_is_merged_into_the_plain_one(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(16))
    job = attempt(tiny_model, rows, dtype="bfloat16", quantization={"bits": 4}, max_steps=4)
    found = merged(job, tmp_path, "bfloat16")
    assert found.kl_divergence <= found.tolerance == pytest.approx(0.04)
    assert "quantized to 4 bits (nf4)" in (tmp_path / "export/artifact/README.md").read_text()


@pytest.mark.parametrize("options", [
    ExportOptions(format="merged", dtype="float32", quantization=None),
    ExportOptions(format="gguf", dtype=None, quantization="f32"),
], ids=["merged", "gguf"])  # fmt: skip
@pytest.mark.parametrize("variant", [
    {"init": "pissa"}, {"init": "pissa", "scaling": "rank_stabilized"}, {"decomposed": True},
    {"decomposed": True, "scaling": "rank_stabilized"},
], ids=str)  # fmt: skip
def test_variants_of_lora_are_exported_as_they_were_trained(
    tiny_model: Path, tmp_path: Path, variant: dict[str, Any], options: ExportOptions
) -> None:
    job = attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(16)), max_steps=4)
    adapter = job.spec.adapter
    assert adapter is not None
    spec = job.spec.model_copy(update={"adapter": adapter.model_copy(update=variant)})
    found = merged(job.model_copy(update={"spec": spec}), tmp_path, options=options)
    assert found.base_kl_divergence is not None
    assert found.kl_divergence < 1e-5 < found.base_kl_divergence


def test_principal_parts_of_a_quantized_base_are_merged_into_the_plain_one(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(16))
    job = attempt(tiny_model, rows, dtype="bfloat16", quantization={"bits": 4}, max_steps=4)
    adapter = job.spec.adapter
    assert adapter is not None
    spec = job.spec.model_copy(update={"adapter": adapter.model_copy(update={"init": "pissa"})})
    found = merged(job.model_copy(update={"spec": spec}), tmp_path, "bfloat16")
    assert found.kl_divergence <= found.tolerance


def test_held_out_rows_are_continued_from_their_first_answer(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(16))
    held = RowsToAsk(path=rows, reading=Reading(), split=None, seed=1)
    found = merged(attempt(tiny_model, rows, max_steps=4), tmp_path, held_out=held)
    assert (found.prompts, found.prompts_from) == (8, "validation")
    assert found.base_kl_divergence is not None
    assert found.kl_divergence < 1e-5 < found.base_kl_divergence


def test_rows_that_cannot_be_asked_give_way_to_rows_of_the_training(tiny_model: Path, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", preferences(8))
    held = RowsToAsk(path=pairs, reading=Reading(), split=None, seed=1)
    job = attempt(tiny_model, pairs, method={"kind": "dpo", "parameters": {}}, max_steps=2)
    found = merged(job, tmp_path, held_out=held)
    assert (found.prompts, found.prompts_from) == (2, "training")


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_a_classifier_keeps_its_scores(tiny_model: Path, tmp_path: Path, adapted: bool) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", labelled(16))
    changes = {} if adapted else {"adapter": None}
    method = {"kind": "classification", "parameters": {"labels": 3}}
    job = attempt(tiny_model, rows, method=method, task="sequence_classification", max_steps=4, **changes)
    found = merged(job, tmp_path)
    assert (found.kl_divergence < 1e-6, found.same_choice) == (True, 1.0)
    folder = tmp_path / "export/artifact"
    assert AutoModelForSequenceClassification.from_pretrained(folder).config.num_labels == 3
    assert "AutoModelForSequenceClassification" in (folder / "README.md").read_text()


def test_the_card_tells_digests_and_no_addresses(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", chat(16))
    merged(attempt(tiny_model, rows, max_steps=2), tmp_path)
    card = (tmp_path / "export/artifact/README.md").read_text()
    recipe = json.loads(card.partition("```json\n")[2].partition("```")[0])
    assert recipe["data"]["train"] == {"kind": "file", "sha256": "0" * 64, "pictures": None}
    assert "last validation loss: not measured" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize("adapted", [True, False], ids=["adapter", "whole"])
def test_a_model_that_reads_pictures_is_merged_and_is_asked_about_a_picture(
    tiny_vision_model: Path, tmp_path: Path, adapted: bool
) -> None:
    whole = {"method": {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}}}
    job = vision_attempt(
        tiny_vision_model, tmp_path, mixed_rows(12), max_steps=4, **(whole if adapted else {**whole, "adapter": None})
    )
    found = merged(job, tmp_path)
    assert (found.prompts, found.prompts_from) == (5, "fixed")
    assert found.kl_divergence <= found.tolerance
    assert (found.base_kl_divergence or 0) > (0.01 if adapted else -1)
    processor = AutoProcessor.from_pretrained(tmp_path / "export/artifact")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "export/artifact")
    inputs = processor(images=[[Image.new("RGB", (9, 9), "red")]], text=["<image>What?"], return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()
