"""Pictures and captions as the transformer reads them, computed once and kept in the cache.

Encoders are loaded only where something is missing, one after the other, and are gone before the transformer comes.
"""

import gc
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from tunesmith.data.picture_set import PictureSet
from tunesmith.spec.errors import DatasetError, ModelLoadError
from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.buckets import Item
from tunesmith.training.diffusion.cache import TensorCache, digest_of, key_of
from tunesmith.training.diffusion.family import Condition, Family
from tunesmith.training.workplace import Workplace

_FORM = 1  # of what is kept; to be raised when it changes


@dataclass(frozen=True)
class Encoder:
    """A base model's encoders and what they found before."""

    family: Family
    folder: Path
    cache: TensorCache
    workplace: Workplace

    def pictures(self, pictures: PictureSet, items: Sequence[Item]) -> list[str]:
        """Encode each item. Returns the keys of their latents.

        Raises:
            ModelLoadError: the autoencoder cannot be loaded.
            DatasetError: a picture cannot be read.
        """
        vae = digest_of(self.folder / "vae", self.workplace.poll)
        keys = [
            key_of(
                kind="latents",
                form=_FORM,
                family=self.family.name,
                vae=vae,
                picture=pictures.pictures[item.picture].sha256,
                size=[item.width, item.height],
            )
            for item in items
        ]
        missing = {key: item for key, item in zip(keys, items, strict=True) if not self.cache.has(key)}
        if missing:
            self._encode_pictures(pictures, missing)
        self._tell(len(missing), len(set(keys)), "latents")
        return keys

    def captions(self, captions: Iterable[str], tokens: int, dtype: torch.dtype) -> dict[str, str]:
        """Encode each caption, of which up to `tokens` count. Returns the keys of their conditions.

        Raises:
            ModelLoadError: a text encoder cannot be loaded.
        """
        encoders = {
            part: digest_of(self.folder / part, self.workplace.poll)
            for part in self.family.encoders
            if (self.folder / part).is_dir()
        }
        keys = {
            caption: key_of(
                kind="caption",
                form=_FORM,
                family=self.family.name,
                encoders=encoders,
                caption=caption,
                tokens=tokens,
                dtype=str(dtype),
            )
            for caption in captions
        }
        missing = [caption for caption, key in keys.items() if not self.cache.has(key)]
        if missing:
            self._encode_captions({caption: keys[caption] for caption in missing}, tokens, dtype)
        self._tell(len(missing), len(keys), "captions")
        return keys

    def latents(self, key: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [C, H, W] of an item's latents."""
        kept = self.cache.read(key)
        return kept["mean"], kept["std"]

    def condition(self, key: str) -> Condition:
        """What the transformer reads of a caption."""
        return self.cache.read(key)

    @torch.no_grad()
    def _encode_pictures(self, pictures: PictureSet, missing: dict[str, Item]) -> None:
        # In full precision: it is done once, and errors in what is learnt from cannot be learnt away.
        vae = parts.load_part(self.family.vae_class, self.folder, "vae", torch.float32).to(self.workplace.device)
        for key, item in missing.items():
            self.workplace.poll()
            pixels = pixels_of(pictures, item).to(self.workplace.device)
            mean, std = self.family.encode_picture(vae, pixels)
            self.cache.write(key, {"mean": mean.float(), "std": std.float()})
        del vae
        _free(self.workplace.device)

    @torch.no_grad()
    def _encode_captions(self, missing: dict[str, str], tokens: int, dtype: torch.dtype) -> None:
        pipeline = self.family.text_pipeline(self.folder, dtype)
        for part in self.family.encoders:
            if isinstance(getattr(pipeline, part), torch.nn.Module):
                getattr(pipeline, part).to(self.workplace.device)
        for caption, key in missing.items():
            self.workplace.poll()
            self.cache.write(key, dict(self.family.encode_caption(pipeline, caption, tokens)))
        del pipeline
        _free(self.workplace.device)

    def _tell(self, computed: int, all_of_them: int, what: str) -> None:
        self.workplace.reporter.note(f"Encoded {computed} of {all_of_them} {what}; the others were kept.", warn=False)


def cut_captions(family: Family, folder: Path, captions: Mapping[int, str], tokens: int) -> list[int]:
    """Places of the captions that are longer than the model reads.

    Raises:
        ModelLoadError: the tokenizer cannot be loaded.
    """
    part = family.caption_tokenizer if (folder / family.caption_tokenizer).is_dir() else "tokenizer"
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder / part, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise ModelLoadError(f"The base model's {part} cannot be loaded: {error}", param="model.base") from error
    limit = tokens if part == family.caption_tokenizer else min(tokens, tokenizer.model_max_length)
    lengths = {caption: len(tokenizer(caption, verbose=False)["input_ids"]) for caption in set(captions.values())}
    return [place for place, caption in captions.items() if lengths[caption] > limit]


def pixels_of(pictures: PictureSet, item: Item) -> Tensor:
    """A picture [3, H, W] at an item's size, with values from -1 to 1: scaled to cover it, and cut around the middle.

    Raises:
        DatasetError: it cannot be read.
    """
    picture = pictures.pictures[item.picture]
    try:
        with Image.open(io.BytesIO(pictures.read(picture))) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # a damaged file can fail in any way
        raise DatasetError(f"The picture {picture.source!r} cannot be read: {error}", param="data.train") from error
    scale = max(item.width / image.width, item.height / image.height)
    width, height = max(item.width, round(image.width * scale)), max(item.height, round(image.height * scale))
    left, top = (width - item.width) // 2, (height - item.height) // 2
    scaled = image.resize((width, height), Image.Resampling.LANCZOS)
    cut = scaled.crop((left, top, left + item.width, top + item.height))
    return torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1).float() / 127.5 - 1


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
