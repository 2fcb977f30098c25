"""Has a vision model describe pictures: BLIP, Florence-2 and models that answer to a chat with a picture in it."""

from collections.abc import Callable
from typing import Any

import torch

from tunesmith.spec import events
from tunesmith.spec.errors import ModelLoadError
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.reporting import Reporter

_LONGEST = 128
"""In tokens."""

_INSTRUCTION = "Describe this picture in detail."
_FLORENCE_TASK = "<MORE_DETAILED_CAPTION>"


def caption_pictures(attempt: AttemptSpec, reporter: Reporter, poll: Callable[[], None]) -> None:
    """Report a caption for each PNG file of the folder `inputs.train`, in the order of their names. Equal pictures get
    equal captions: nothing is drawn at random.

    Raises:
        ModelLoadError: the model of `inputs.model` cannot be loaded, or does not describe pictures.
    """
    from PIL import Image

    assert attempt.spec.data.images is not None
    model, processor = _load(attempt)
    prompt = attempt.spec.data.images.caption_prompt
    for file in sorted(attempt.inputs.train.glob("*.png")):
        poll()
        with Image.open(file) as picture:
            caption = _describe(model, processor, picture.convert("RGB"), prompt)
        reporter.write(events.Captioned, picture=file.name, caption=caption)


def _load(attempt: AttemptSpec) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    where = attempt.inputs.model
    try:
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(
            where, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ModelLoadError(
            f"The captioning model cannot be loaded: {lines[0] if lines else type(error).__name__}",
            hint="An operator chooses it with captioning_model: BLIP, Florence-2, or a chat model that sees pictures.",
        ) from error
    return model.eval(), processor


@torch.no_grad()
def _describe(model: Any, processor: Any, picture: Any, prompt: str | None) -> str:
    given = _given(model, processor, picture, prompt).to(model.dtype)
    tokens = model.generate(**given, max_new_tokens=_LONGEST, do_sample=False)
    if not getattr(model.config, "is_encoder_decoder", False) and _repeats(given, tokens):
        tokens = tokens[:, given["input_ids"].shape[1] :]
    return str(processor.batch_decode(tokens, skip_special_tokens=True)[0]).strip()


def _given(model: Any, processor: Any, picture: Any, prompt: str | None) -> Any:
    if getattr(processor, "chat_template", None):
        parts = [{"type": "image", "image": picture}, {"type": "text", "text": prompt or _INSTRUCTION}]
        turns = [{"role": "user", "content": parts}]
        return processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    if model.config.model_type == "florence2":
        return processor(text=_FLORENCE_TASK, images=picture, return_tensors="pt")
    # BLIP goes on with the text that it is given.
    return processor(images=picture, text=prompt, return_tensors="pt")


def _repeats(given: Any, tokens: torch.Tensor) -> bool:
    """Whether an answer begins with the question, as that of a decoder does."""
    asked = given.get("input_ids")
    if asked is None or tokens.shape[1] < asked.shape[1]:
        return False
    return bool(torch.equal(tokens[:, : asked.shape[1]], asked))
