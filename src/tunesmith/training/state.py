"""Everything beside the weights that a resumed run needs to go on as if it had not stopped."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.spec.errors import CheckpointError
from tunesmith.spec.job import Frozen
from tunesmith.training.adapters import write_tensors

FOLDER = "trainer"


class Window(Frozen):
    """Sums over some steps."""

    steps: int = 0
    trained: int = 0
    """What the loss is a mean over."""

    loss: float = 0.0
    norms: float = 0.0
    """Of the gradient, one a step."""

    figures: dict[str, tuple[float, int]] = Field(default={})
    """Other totals with their counts, by name."""


class Progress(Frozen):
    """How far the training is."""

    step: int = 0
    """Optimizer steps done. With the spec it determines epoch, position in the data and learning rate."""

    tokens: int = 0
    """Tokens processed."""

    evaluated_step: int = 0
    """The last step after which the validation rows were scored."""

    window: Window = Window()
    """Figures of the steps since metrics were last reported."""

    sampled_step: int = -1
    """The last step after which the prompts were asked; -1 = not even before training."""


def save_state(
    folder: Path, progress: Progress, fingerprint: str, optimizer: torch.optim.Optimizer, model: torch.nn.Module
) -> None:
    """Write progress, optimizer and random generators into `folder/trainer`."""
    target = folder / FOLDER
    target.mkdir()
    write_tensors(_optimizer_tensors(optimizer, model), target / "optimizer.safetensors")
    state = {"progress": progress.model_dump(), "fingerprint": fingerprint, "random": _random_state()}
    target.joinpath("state.json").write_text(json.dumps(state))


def load_state(folder: Path, fingerprint: str, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> Progress:
    """Put back what `save_state` wrote.

    Raises:
        CheckpointError: it belongs to another training.
    """
    state = _read(folder, fingerprint)
    tensors = load_file(folder / FOLDER / "optimizer.safetensors")
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = names[parameter] + ":"
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if own:
                optimizer.state[parameter] = {key: _restored(value, parameter.device) for key, value in own.items()}
    _set_random_state(state["random"])
    return Progress.model_validate(state["progress"])


def read_progress(folder: Path, fingerprint: str) -> Progress:
    """How far a checkpoint's training was.

    Raises:
        CheckpointError: it belongs to another training.
    """
    return Progress.model_validate(_read(folder, fingerprint)["progress"])


def seed_all(seed: int) -> None:
    """Start every random generator from one seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _read(folder: Path, fingerprint: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / FOLDER / "state.json").read_text())
    if state["fingerprint"] != fingerprint:
        raise CheckpointError(f"{folder.name} belongs to a training with another spec or other data.")
    return state


def _optimizer_tensors(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": _storable(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _storable(value: Tensor | int) -> Tensor:
    """A tensor of its own: 8-bit optimizers count steps in an integer, and share small tables between parameters."""
    if isinstance(value, int):
        return torch.tensor(value)
    return value.clone() if value.dim() == 1 else value


def _restored(value: Tensor, device: torch.device) -> Tensor | int:
    return int(value) if value.dtype == torch.int64 else value.to(device)


def _random_state() -> dict[str, Any]:
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state().numpy().tobytes().hex() if torch.cuda.is_available() else None,
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes(state["torch"]))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(state["cuda"]))


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
