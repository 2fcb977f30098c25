"""What an export of a vision-language model is asked: a picture of ours, which plain models show themselves."""

import inspect
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tunesmith.training.chat import Rendered
from tunesmith.training.model import load_tokenizer
from tunesmith.training.vision_processor import PictureProcessor

_ASKED = "What does the picture show?"


def picture_prompt(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that show our picture and ask for it, for the processor in a folder.

    Raises:
        DatasetError: the chat template shows no picture where it is told to.
        ModelLoadError: the processor cannot be used.
    """
    processor = PictureProcessor(folder, tokenizer)
    if tokenizer.chat_template:
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _ASKED}]}
        text = tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
    else:
        text = processor.mark + _ASKED
    shown = processor.expanded(Rendered(text, (), frozenset()), [_picture()], 1)
    return tuple(tokenizer(shown.text, add_special_tokens=False).input_ids)


def show_picture(core: Any, folder: Path) -> None:
    """From now on, have a model see our picture wherever tokens that it reads stand for one.

    Raises:
        ModelLoadError: the processor in the folder cannot be used.
    """
    processor = PictureProcessor(folder, load_tokenizer(folder))
    known = frozenset(inspect.signature(core.forward).parameters)

    def seeing(_core: Any, given: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = inputs["input_ids"]
        pictures = [_picture()] if processor.stand_for_pictures(ids.numpy()).any() else []
        extras = processor.inputs(ids, pictures)
        return given, inputs | {name: _in_format(extras[name], core.dtype) for name in known & extras.keys()}

    core.register_forward_pre_hook(seeing, with_kwargs=True)


def _in_format(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _picture() -> Image.Image:
    """Not one colour, so that each part of it differs."""
    across, down, around = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L"), Image.radial_gradient("L")
    return Image.merge("RGB", (across, down, around)).resize((96, 64))
