"""Folders in diffusers' layout: which family they are of, and whether all parts are there. Reads no weights."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tunesmith.spec.errors import ModelLoadError
from tunesmith.training.diffusion.family import Family
from tunesmith.training.diffusion.flux import Flux
from tunesmith.training.diffusion.qwen_image import QwenImage
from tunesmith.training.diffusion.sd3 import StableDiffusion3

FAMILIES: tuple[Family, ...] = (Flux(), StableDiffusion3(), QwenImage())

_INDEX = "model_index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def family_of(folder: Path) -> Family:
    """The family of a folder whose parts are all there.

    Raises:
        ModelLoadError: the folder is of no known family, lacks a part, or has weights that are not in safetensors.
    """
    index = _index(folder)
    family = next((each for each in FAMILIES if each.pipeline_class == index.get("_class_name")), None)
    if family is None:
        known = ", ".join(f"{each.name} ({each.pipeline_class})" for each in FAMILIES)
        raise ModelLoadError(
            f"The base model is of the class {index.get('_class_name')!r}, which cannot be trained here.",
            param="model.base",
            hint=f"Known families: {known}.",
        )
    for part, expected in (("transformer", family.transformer_class), ("vae", family.vae_class)):
        _require_class(index, part, expected)
        _require_weights(folder, part)
    for part in family.encoders:
        _require_encoder(folder, index, part, part in family.optional)
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise _missing("scheduler/scheduler_config.json")
    return family


def block_matrices(folder: Path, family: Family) -> dict[str, tuple[int, int]]:
    """Names and shapes [out, in] of the linear layers on which adapters can be put."""
    below = tuple(f"{block}." for block in family.blocks)
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in _shapes(folder / "transformer")
        if name.startswith(below) and name.endswith(".weight") and len(shape) == 2
    }


def parameters_of(folder: Path) -> int:
    """Weights of the transformer."""
    return sum(math.prod(shape) for _, shape in _shapes(folder / "transformer"))


def weight_files(folder: Path, part: str) -> list[Path]:
    """Files with a part's weights, those that the libraries read.

    Raises:
        ModelLoadError: one is missing, or there are none in safetensors.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        index = folder / part / f"{stem}.safetensors.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            absent = [name for name in names if not (folder / part / name).is_file()]
            if absent:
                raise _missing(f"{part}/{absent[0]}")
            return [folder / part / name for name in names]
        single = folder / part / f"{stem}.safetensors"
        if single.is_file():
            return [single]
    pickles = sorted(path.name for path in (folder / part).glob("*") if path.suffix in _PICKLES)
    if pickles:
        raise ModelLoadError(
            f"The base model's weights {part}/{pickles[0]} are pickled, which are never loaded: unpickling runs code.",
            param="model.base",
            hint="Convert them to safetensors.",
        )
    raise _missing(f"{part}/*.safetensors")


def _index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / _INDEX).read_bytes())
    except FileNotFoundError as error:
        raise ModelLoadError(
            f"The base model has no {_INDEX}: it is no text-to-image model in diffusers' layout.",
            param="model.base",
            hint=f"Known families: {', '.join(each.name for each in FAMILIES)}.",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"The base model's {_INDEX} cannot be read: {error}.", param="model.base") from error
    if not isinstance(index, dict):
        raise ModelLoadError(f"The base model's {_INDEX} is no JSON object.", param="model.base")
    return index


def _class_of(index: dict[str, Any], part: str) -> str | None:
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _require_class(index: dict[str, Any], part: str, expected: str) -> None:
    found = _class_of(index, part)
    if found != expected:
        raise ModelLoadError(
            f"The base model's {part} is of the class {found!r}; {index['_class_name']} has {expected!r}.",
            param="model.base",
        )


def _require_encoder(folder: Path, index: dict[str, Any], part: str, is_optional: bool) -> None:
    if _class_of(index, part) is None:
        if not is_optional:
            raise _missing(part)
    elif part.startswith("tokenizer"):
        if not any((folder / part).glob("*")):
            raise _missing(part)
    else:
        _require_weights(folder, part)


def _require_weights(folder: Path, part: str) -> None:
    if not (folder / part / "config.json").is_file():
        raise _missing(f"{part}/config.json")
    try:
        weight_files(folder, part)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelLoadError(
            f"The list of the base model's {part} weights cannot be read: {error}", param="model.base"
        ) from error


def _missing(what: str) -> ModelLoadError:
    return ModelLoadError(f"The base model lacks {what}.", param="model.base", hint="Fetch the whole repository again.")


def _shapes(part: Path) -> Iterator[tuple[str, list[int]]]:
    for file in weight_files(part.parent, part.name):
        try:
            with safe_open(file, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - the reader is no mapping
                    yield name, tensors.get_slice(name).get_shape()
        except Exception as error:  # the reader's own errors have no common class
            raise ModelLoadError(
                f"The base model's {part.name}/{file.name} is damaged: {error}", param="model.base"
            ) from error
