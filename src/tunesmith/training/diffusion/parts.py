"""What families share: the parts of a folder in diffusers' layout."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.spec.errors import ModelLoadError
from tunesmith.training.diffusion.family import Condition, Drawing, Family


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of a part.

    Raises:
        ModelLoadError: it cannot be read.
    """
    return _read(folder, f"{part}/config.json")


def schedule_of(folder: Path) -> dict[str, Any]:
    """The configuration of the noise schedule.

    Raises:
        ModelLoadError: it cannot be read.
    """
    return _read(folder, "scheduler/scheduler_config.json")


def _read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"The base model has no readable {name}: {error}.") from error
    if not isinstance(config, dict):
        raise ModelLoadError(f"The base model's {name} is no JSON object.")
    return config


def library_class(name: str) -> Any:
    """A class of diffusers, whose import takes seconds and is not needed to check a job."""
    diffusers = importlib.import_module("diffusers")
    return getattr(diffusers, name)


def load_pipeline(family: Family, folder: Path, dtype: Any, **parts: Any) -> Any:
    """The pipeline with some parts given, or left out as None.

    Raises:
        ModelLoadError: a part cannot be loaded.
    """
    return loaded(
        family.pipeline_class, library_class(family.pipeline_class).from_pretrained, folder, dtype=dtype, **parts
    )


def load_part(name: str, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A part by its class in diffusers, in evaluation mode and without gradients.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    model = loaded(name, library_class(name).from_pretrained, folder / part, dtype=dtype)
    return model.eval().requires_grad_(False)


def loaded(what: str, load: Any, folder: Path, **arguments: Any) -> Any:
    """What a loader of diffusers gives, from safetensors alone and without the network.

    Raises:
        ModelLoadError: it fails.
    """
    try:
        return load(folder, local_files_only=True, use_safetensors=True, **arguments)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelLoadError(f"{what} of the base model cannot be loaded: {reason}") from error


def hollow(family: Family, folder: Path) -> Any:
    """The transformer without weights."""
    transformer = library_class(family.transformer_class)
    with torch.device("meta"):
        return transformer.from_config(config_of(folder, "transformer"))


def load_scheduler(folder: Path) -> Any:
    """The noise schedule.

    Raises:
        ModelLoadError: it is none of flow matching.
    """
    scheduler = library_class("FlowMatchEulerDiscreteScheduler")
    return loaded("The scheduler", scheduler.from_pretrained, folder / "scheduler")


def kl_scale(folder: Path) -> int:
    """Pixels along the edge of one latent of an `AutoencoderKL`."""
    return int(2 ** (len(config_of(folder, "vae")["block_out_channels"]) - 1))


def encode_kl(vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents by an `AutoencoderKL`, scaled."""
    found = vae.encode(pixels[None]).latent_dist
    shift, scale = vae.config.shift_factor or 0.0, vae.config.scaling_factor
    return (found.mean[0] - shift) * scale, found.std[0] * scale


def stacked(conditions: Sequence[Condition]) -> dict[str, Tensor]:
    """Conditions of equal shapes as one batch."""
    return {name: torch.stack([each[name] for each in conditions]) for name in conditions[0]}


def common_arguments(drawing: Drawing) -> dict[str, Any]:
    """Arguments that all pipelines take."""

    def between(_pipeline: Any, _step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        drawing.between()
        return kept

    return {
        "width": drawing.width,
        "height": drawing.height,
        "num_inference_steps": drawing.steps,
        "generator": torch.Generator().manual_seed(drawing.seed),
        "callback_on_step_end": between,
    }


def single(condition: Mapping[str, Tensor], name: str) -> Tensor:
    """An entry of a condition as a batch of one."""
    return condition[name][None].float()
