"""Each family of vision-language models: its loss is that of plain transformers, and what was trained loads there."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attempts import losses, of_kind, run
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.events import Checked, Failed, Note, Succeeded
from tunesmith.training.model import load_tokenizer
from tunesmith.training.vision_processor import PictureProcessor
from vision import png, says, shows, vision_attempt
from vision_families import FAMILIES, write_mllama

pytestmark = [pytest.mark.usefixtures("signals_kept"), pytest.mark.filterwarnings("ignore")]

ROWS = [shows("red", answer="It is red."), says("How many?", "Two."), shows("blue", "green", answer="Blue and green.")]
WHOLE = {"adapter": None, "method": {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}}}
PADDED = {"gemma3"}
"""Those whose pictures are seen as a whole, for which rows are not concatenated."""


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def model(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(family)
    FAMILIES[family](folder)
    return folder


def test_the_loss_of_a_family_is_that_of_plain_transformers_on_each_row(
    family: str, model: Path, tmp_path: Path
) -> None:
    order = vision_attempt(model, tmp_path, ROWS, batch_size=3, epochs=3.0, **WHOLE)
    code, events = run(order, tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    assert losses(events)[0] == pytest.approx(_plain_loss(model), abs=2e-5)
    assert losses(events)[2] < losses(events)[0]
    notes = [note.message for note in of_kind(events, Note)]
    assert any("not concatenated" in note or "padded" in note for note in notes) == (family in PADDED), notes
    assert of_kind(events, Succeeded)[0].logit_change > 0


def test_an_adapter_of_a_family_loads_in_plain_libraries_and_changes_the_answer(model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    code, events = run(vision_attempt(model, tmp_path, ROWS, batch_size=3, epochs=3.0), tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    base = AutoModelForImageTextToText.from_pretrained(model)
    tuned = PeftModel.from_pretrained(base, tmp_path / "run/artifact").eval()
    inputs, _ = _plain_inputs(tmp_path / "run/artifact", base.config.model_type, ROWS[0])
    with torch.no_grad():
        after = tuned(**inputs).logits
        with tuned.disable_adapter():
            before = tuned(**inputs).logits
    assert (after - before).abs().max() > 1e-3
    assert not any(".vision" in name for name, _ in tuned.named_modules() if name.endswith("lora_A"))


def test_a_family_is_checked_and_planned_before_it_is_trained(model: Path, tmp_path: Path) -> None:
    code, events = run(vision_attempt(model, tmp_path, ROWS, purpose="check"), tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    [checked] = of_kind(events, Checked)
    assert checked.plan.rows.rows.low == 3
    assert checked.plan.trained_parameters > 0


def test_a_picture_of_a_shape_that_the_family_does_not_take_is_refused_with_its_line(tmp_path: Path) -> None:
    FAMILIES["qwen2_5_vl"](tmp_path / "model")
    thread = {"thread": png("red", (300, 1))}
    order = vision_attempt(tmp_path / "model", tmp_path, [*ROWS, shows("thread")], contents=thread, purpose="check")
    code, events = run(order, tmp_path / "run")
    [failed] = of_kind(events, Failed)
    assert (code, failed.error.code) == (1, "invalid_dataset")
    assert failed.error.message.startswith("Line 4: the base model's processor takes no such picture: ")


def test_a_model_that_looks_at_pictures_through_cross_attention_is_refused(tmp_path: Path) -> None:
    write_mllama(tmp_path / "model")
    with pytest.raises(UnsupportedError, match="cross-attention"):
        PictureProcessor(tmp_path / "model", load_tokenizer(tmp_path / "model"))


def _plain_loss(model: Path) -> float:
    """Mean over all trained tokens of all rows, each row run alone, positions and masks left to the model."""
    from transformers import AutoModelForImageTextToText

    core = AutoModelForImageTextToText.from_pretrained(model).eval()
    core.train(mode=True)  # some want to be told the kinds of tokens in training alone; there is no dropout
    total, count = 0.0, 0
    for row in ROWS:
        inputs, trained = _plain_inputs(model, core.config.model_type, row)
        labels = inputs["input_ids"].masked_fill(~trained, -100)
        with torch.no_grad():
            total += core(**inputs, labels=labels).loss.item() * int(trained.sum())
        count += int(trained.sum())
    return total / count


def _plain_inputs(folder: Path, kind: str, row: dict[str, Any]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What the family's own processor makes of a row, and which tokens are the answer with its end."""
    asked, answered = row["messages"]
    parts = asked["content"] if isinstance(asked["content"], list) else [{"type": "text", "text": asked["content"]}]
    turns = [
        {"role": "user", "content": [{"type": "image"} if part["type"] == "image" else part for part in parts]},
        {"role": "assistant", "content": [{"type": "text", "text": answered["content"]}]},
    ]
    pictures = [Image.open(io.BytesIO(png(part["image"]))) for part in parts if part["type"] == "image"]
    tokenizer = load_tokenizer(folder)
    whole, begun = (
        _processed(folder, kind, pictures, tokenizer.apply_chat_template(shown, tokenize=False, **prompt))
        for shown, prompt in ((turns, {}), (turns[:1], {"add_generation_prompt": True}))
    )
    ids = whole["input_ids"]
    trained = torch.zeros_like(ids, dtype=torch.bool)
    end = int(np.flatnonzero(ids[0].numpy() == tokenizer.eos_token_id)[-1])
    trained[0, begun["input_ids"].shape[1] : end + 1] = True
    return whole, trained


def _processed(folder: Path, kind: str, pictures: list[Image.Image], text: str) -> dict[str, torch.Tensor]:
    """The tensors of the composite processor; put together by hand where that needs torchvision or num2words."""
    from transformers import AutoImageProcessor, AutoProcessor

    if kind not in ("qwen2_5_vl", "qwen3_vl", "smolvlm"):
        images = [pictures] if pictures else None
        return dict(AutoProcessor.from_pretrained(folder)(images=images, text=[text], return_tensors="pt"))
    sees, features = AutoImageProcessor.from_pretrained(folder), {}
    if pictures and kind == "smolvlm":
        features = dict(sees(images=[pictures], return_row_col_info=True, return_tensors="pt"))
        for rows, columns in zip(features.pop("rows")[0], features.pop("cols")[0], strict=True):
            text = text.replace("<image>", _smolvlm_prompt(rows, columns), 1)
        text = text.replace("<here>", "<image>")
    elif pictures:
        features = dict(sees(images=pictures, return_tensors="pt"))
        for grid in features["image_grid_thw"]:
            text = text.replace("<|image_pad|>", "<here>" * (int(grid.prod()) // 4), 1)
        text = text.replace("<here>", "<|image_pad|>")
    tokenizer = load_tokenizer(folder)
    inputs = dict(tokenizer([text], return_tensors="pt"))
    if kind != "smolvlm":
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
    return inputs | features


def _smolvlm_prompt(rows: int, columns: int) -> str:
    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    return str(get_image_prompt_string(rows, columns, 4, "<fake_token_around_image>", "<here>", "<global-img>"))
