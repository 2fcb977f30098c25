"""Training on pictures: what is refused, what carries loss, what is changed, and what is left behind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from attempts import checkpoint, losses, of_kind, run
from tunesmith.spec.events import Evaluated, Failed, Note, Prepared, Succeeded
from tunesmith.training.model import load_tokenizer, load_vision_model
from tunesmith.training.text import TokenRow
from tunesmith.training.vision_model import VisionModel
from tunesmith.training.vision_processor import PictureProcessor
from vision import COLOURS, encoded, mixed_rows, says, shows, vision_attempt

pytestmark = [pytest.mark.usefixtures("signals_kept")]
ALL_PARTS = {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}}


def failure(model, folder, rows, **changes):
    code, events = run(vision_attempt(model, folder, rows, **changes), folder / "run")
    assert code == 1
    [failed] = of_kind(events, Failed)
    return failed.error


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
def test_rows_with_one_two_and_no_pictures_are_trained_and_the_adapter_works_in_plain_libraries(
    tiny_vision_model, tmp_path
):
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    order = vision_attempt(tiny_vision_model, tmp_path, mixed_rows(12), validation=mixed_rows(3))
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert len(of_kind(events, Succeeded)) == 1
    assert of_kind(events, Note) == []  # rows are concatenated
    found = losses(events)
    assert found[-1] < found[0]
    assert of_kind(events, Evaluated)
    artifact = tmp_path / "run/artifact"
    processor = AutoProcessor.from_pretrained(artifact)
    base = AutoModelForImageTextToText.from_pretrained(tiny_vision_model)
    tuned = PeftModel.from_pretrained(base, artifact).eval()
    inputs = processor(images=[[Image.new("RGB", (9, 9), "red")]], text=["<image>What?"], return_tensors="pt")
    with torch.no_grad(), tuned.disable_adapter():
        before = tuned(**inputs).logits
    with torch.no_grad():
        assert (tuned(**inputs).logits - before).abs().max() > 1e-3


def test_by_default_only_what_writes_is_changed(tiny_vision_model, tmp_path):
    run(vision_attempt(tiny_vision_model, tmp_path, mixed_rows(6), epochs=1.0), tmp_path / "run")
    config = json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())
    assert config["exclude_modules"] == r"model\.vision_model(\..*)?|model\.connector(\..*)?"


@pytest.mark.parametrize(
    ("parts", "changed"),
    [
        (None, {"language"}),
        (["language", "vision"], {"language", "vision"}),
        (["projector"], {"projector"}),
    ],
)
def test_full_tuning_changes_the_parts_that_were_asked_for(tiny_vision_model, tmp_path, parts, changed):
    from safetensors.torch import load_file

    method = {"kind": "sft", "parameters": {"parts": parts} if parts else {}}
    order = vision_attempt(
        tiny_vision_model, tmp_path, [shows(colour) for colour in COLOURS], adapter=None, method=method, max_steps=2
    )
    code, _ = run(order, tmp_path / "run")
    assert code == 0
    before = load_file(tiny_vision_model / "model.safetensors")
    after = load_file(tmp_path / "run/artifact/model.safetensors")
    names = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    of_part = {"vision_model": "vision", "connector": "projector", "text_model": "language"}
    assert {of_part[name.split(".")[1]] for name in names} == changed


def test_a_resumed_training_repeats_the_losses_of_an_undisturbed_one(tiny_vision_model, tmp_path):
    order = vision_attempt(tiny_vision_model, tmp_path, mixed_rows(12), adapter=None, method=ALL_PARTS)
    _, whole = run(order, tmp_path / "whole")
    again = order.model_copy(update={"attempt": 2, "resume_from": (checkpoint(whole, tmp_path / "whole", 3),)})
    code, rest = run(again, tmp_path / "rest")
    assert code == 0
    assert losses(rest) == losses(whole)[3:]


def test_no_token_that_stands_for_a_picture_carries_loss_even_where_everything_does(tiny_vision_model, tmp_path):
    method = {"kind": "sft", "parameters": {"train_on": "all"}}
    code, events = run(
        vision_attempt(tiny_vision_model, tmp_path, [shows("red"), shows("blue")], method=method, max_steps=1),
        tmp_path / "run",
    )
    assert code == 0
    [prepared] = of_kind(events, Prepared)
    assert "⟦<image>" not in prepared.sample
    assert prepared.tokens - prepared.trained_tokens == 2 * (16 + 1)


def test_a_row_whose_picture_would_be_cut_is_refused_with_its_line(tiny_vision_model, tmp_path):
    rows = [shows("red"), shows("red", "blue", "green", question="Which?")]
    error = failure(tiny_vision_model, tmp_path, rows, max_length=40, over_long="truncate")
    assert error.code == "row_too_long"
    assert "Line 2: its pictures reach to token" in error.message


def test_a_row_whose_text_alone_is_too_long_is_cut(tiny_vision_model, tmp_path):
    rows = [shows("red"), shows("red", answer="It is red. " * 30)]
    code, events = run(
        vision_attempt(tiny_vision_model, tmp_path, rows, max_length=60, over_long="truncate"), tmp_path / "run"
    )
    assert code == 0
    assert of_kind(events, Prepared)[0].truncated_lines == (2,)


def test_a_row_that_writes_the_mark_of_a_picture_is_refused_with_its_line(tiny_vision_model, tmp_path):
    error = failure(tiny_vision_model, tmp_path, [shows("red"), shows("red", answer="An <image>, it seems.")])
    assert "Line 2: the chat template shows 2 pictures, and the row has 1" in error.message


def test_a_picture_that_cannot_be_decoded_is_refused_with_its_line(tiny_vision_model, tmp_path):
    contents = {"blue": encoded(Image.new("CMYK", (4, 4)), "JPEG")}
    error = failure(tiny_vision_model, tmp_path, [shows("red"), shows("blue")], contents=contents)
    assert (error.code, error.message) == ("invalid_dataset", "Line 2: a picture has the colours CMYK.")


def test_a_model_with_code_of_its_own_is_refused_with_the_reason(tmp_path, tiny_vision_model):
    import shutil

    folder = shutil.copytree(tiny_vision_model, tmp_path / "ovis")
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "ovis",
        "auto_map": {"AutoModelForCausalLM": "modeling_ovis.Ovis"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    error = failure(folder, tmp_path, [shows("red")])
    assert error.code == "model_load"
    assert "'ovis' is not a vision-language model known here. It brings code of its own" in error.message


def test_parts_are_refused_for_a_model_of_text(tiny_model, tmp_path):
    from tunesmith.methods import sft
    from tunesmith.spec.errors import UnsupportedError

    order = vision_attempt(tiny_model, tmp_path, [says("Hello?", "Hello.")], method=ALL_PARTS)
    text = order.spec.model.model_copy(update={"modality": "text"})
    order = order.model_copy(update={"spec": order.spec.model_copy(update={"model": text})})
    with pytest.raises(UnsupportedError) as refused:
        sft.check(order, lambda: None)
    assert refused.value.param == "method.parameters.parts"


def test_rows_behind_each_other_and_rows_alone_get_the_same_logits(tiny_vision_model, tmp_path):
    from tunesmith.data.row_pictures import RowPictures
    from tunesmith.training.row_source import source_of
    from tunesmith.training.text_rows import preparation_of
    from tunesmith.training.vision_rows import PictureShape

    order = vision_attempt(tiny_vision_model, tmp_path, mixed_rows(6))
    tokenizer = load_tokenizer(tiny_vision_model)
    processor = PictureProcessor(tiny_vision_model, tokenizer)
    shape = PictureShape("sft", "assistant", RowPictures(order.inputs.pictures), processor)
    rows = list(preparation_of(order, tokenizer, shape, lambda: None).read(source_of(order, "train")))
    core = load_vision_model(tiny_vision_model, torch.float32, torch.device("cpu"))
    model = VisionModel(core, torch.device("cpu"), torch.float32, processor, rows[0])
    model.settle()
    assert (model.layout, model.slow_reason) == ("concatenated", None)
    plain = load_vision_model(tiny_vision_model, torch.float32, torch.device("cpu"))
    unsettled = VisionModel(plain, torch.device("cpu"), torch.float32, processor, rows[0])
    with torch.no_grad():
        alone = torch.cat([unsettled.logits(unsettled.padded([row])) for row in rows])
        torch.testing.assert_close(model.logits(model.concatenated(rows)), alone, atol=1e-4, rtol=1e-4)


def test_a_probe_of_text_has_no_token_that_stands_for_a_picture(tiny_vision_model):
    processor = PictureProcessor(tiny_vision_model, load_tokenizer(tiny_vision_model))
    core = load_vision_model(tiny_vision_model, torch.float32, torch.device("cpu"))
    row = TokenRow(1, np.arange(4, dtype=np.int32), np.arange(4) > 0)
    model = VisionModel(core, torch.device("cpu"), torch.float32, processor, row)
    model.settle()
    assert model.layout == "concatenated"
