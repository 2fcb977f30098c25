"""A model's own way to turn pictures into tokens and tensors, from transformers' processor of its architecture."""

import inspect
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor
from transformers.models.auto.processing_auto import processor_class_from_name

from tunesmith.spec.errors import DatasetError, ModelLoadError, UnsupportedError
from tunesmith.training.chat import Rendered

_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
)
"""What a model's folder holds of its processor, beside the tokenizer."""

KINDS_OF_TOKENS = ("mm_token_type_ids", "token_type_ids")
"""What models call the input that says which tokens stand for pictures."""

_SPECIAL_INPUTS = ("cross_attention_mask", "aspect_ratio_ids")
"""Inputs of models that look at pictures through layers of their own (Mllama), not in the place of tokens."""


class PictureProcessor:
    """Pictures as a model's vision tower and its tokenizer want them."""

    def __init__(self, folder: Path, tokenizer: Any) -> None:
        self._processor = _loaded(folder, tokenizer)
        self.mark: str = self._processor.image_token
        """What a chat template writes where a picture is."""

        if any(name in self._processor.image_processor.model_input_names for name in _SPECIAL_INPUTS):
            raise UnsupportedError(
                "The base model looks at pictures through cross-attention, which cannot be trained here: only models "
                "that put pictures in the place of tokens can.",
                param="model.base",
            )

    def __repr__(self) -> str:
        return type(self._processor).__name__

    def expanded(self, rendered: Rendered, pictures: Sequence[Image.Image], line: int) -> Rendered:
        """A rendered conversation with each picture's mark replaced by all that stands for the picture.

        Raises:
            DatasetError: the text has more or fewer marks than the row has pictures, or the model takes no picture of
                such a shape.
        """
        marks = rendered.text.count(self.mark)
        if marks != len(pictures):
            raise DatasetError(
                f"Line {line}: the chat template shows {marks} pictures, and the row has {len(pictures)}.",
                hint=f"Leave the text {self.mark!r} out of the row, and show no more pictures than the model takes.",
            )
        try:
            features = self._features(pictures)
        except ValueError as error:  # what a family does not take, such as a line of pixels
            raise DatasetError(
                f"Line {line}: the base model's processor takes no such picture: {error}.",
                hint="Crop the picture, or leave the row out.",
            ) from error
        replacements = [
            self._processor.replace_image_token(features, image_idx=number) for number in range(len(pictures))
        ]
        [text], [found] = self._processor.get_text_with_replacements([rendered.text], images_replacements=replacements)
        moves = [(each["span"][0], len(each["replacement"]) - len(self.mark)) for each in found]
        spans = tuple((_moved(start, moves), _moved(end, moves)) for start, end in rendered.spans)
        return replace(rendered, text=text, spans=spans)

    def inputs(self, ids: Tensor, pictures: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What a model may want beside its tokens [B, T], by the names of its inputs: what its vision tower gets of all
        pictures that some of the tokens stand for, and which tokens these are."""
        features = self._features(pictures).convert_to_tensors("pt") if pictures else {}
        stand = torch.from_numpy(self.stand_for_pictures(ids.cpu().numpy())).long()
        seen = {name: value for name, value in features.items() if isinstance(value, Tensor)}
        return seen | dict.fromkeys(KINDS_OF_TOKENS, stand)

    def measured(self, picture: Image.Image) -> tuple[int, dict[str, Tensor]]:
        """How many tokens stand for a picture alone, and what the vision tower gets of it."""
        features = self._features([picture])
        mark = self._processor.replace_image_token(features, image_idx=0)
        ids = self._processor.tokenizer(mark, add_special_tokens=False)["input_ids"]
        tokens = int(self.stand_for_pictures(np.array(ids)).sum())
        return tokens, {
            name: each for name, each in features.convert_to_tensors("pt").items() if isinstance(each, Tensor)
        }

    def stand_for_pictures(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which tokens the model replaces by parts of pictures."""
        return np.isin(ids, self._processor.image_token_ids)

    def _features(self, pictures: Sequence[Image.Image]) -> Any:
        kwargs = getattr(type(self._processor), "images_kwargs", {})
        return self._processor.image_processor(images=[list(pictures)], **kwargs)


def copy_processor(source: Path, folder: Path) -> None:
    """Write what plain libraries need to read pictures, as it stands in another folder of the model."""
    for name in _FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _moved(position: int, moves: Sequence[tuple[int, int]]) -> int:
    """Where a character comes to lie when text before it grows."""
    return position + sum(by for at, by in moves if at < position)


def _loaded(folder: Path, tokenizer: Any) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (AttributeError, ImportError, TypeError):
        # Its processor of videos needs torchvision. What pictures need is there without it.
        processor = _without_videos(folder, tokenizer)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(f"The base model's processor cannot be loaded: {error}") from error
    missing = [name for name in ("image_processor", "image_token") if getattr(processor, name, None) is None]
    if missing or not hasattr(processor, "get_text_with_replacements"):
        raise ModelLoadError(
            "The base model's folder has no processor of pictures: preprocessor_config.json or processor_config.json "
            "is missing or of an unknown kind.",
        )
    return processor


def _without_videos(folder: Path, tokenizer: Any) -> Any:
    """A processor of the model's kind, put together from its tokenizer and its processor of pictures."""
    try:
        files = [
            folder / name for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
        ]
        configs = [json.loads(path.read_text()) if path.is_file() else {} for path in files]
        name = next((str(found) for each in configs if (found := each.get("processor_class"))), "")
        kind = processor_class_from_name(name)
        pictures = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # files from elsewhere can be wrong in any way
        raise ModelLoadError(f"The base model's processor cannot be loaded: {error}") from error
    if kind is None:
        raise ModelLoadError(f"The base model's processor {name!r} is unknown here.")
    parts = {"image_processor": pictures, "tokenizer": tokenizer, "video_processor": None}
    known = inspect.signature(kind.__init__).parameters
    given = {name: value for name, value in (configs[0] | parts).items() if name in known}
    processor = kind.__new__(kind)
    try:
        kind.__init__(processor, **given)
    except (AttributeError, ImportError, TypeError, ValueError):
        processor.tokenizer, processor.image_processor = tokenizer, pictures  # it named its tokens before it failed
    return processor
