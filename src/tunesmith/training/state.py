"""Everything beside the weights that a resumed run needs to go on as if it had not stopped."""

import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from tunesmith.spec.errors import CheckpointError
from tunesmith.spec.events import Portion
from tunesmith.spec.exactness import Fingerprints
from tunesmith.spec.job import Frozen
from tunesmith.training.adapters import write_tensors
from tunesmith.training.selection import Choice
from tunesmith.training.watch import Levels

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
    """Optimizer steps done. With the spec it determines the learning rate, and epoch and position in the data."""

    order: dict[str, Any] = Field(default={})
    """Position in the data where the step does not determine it: an `Order` knows what this means."""

    tokens: int = 0
    """Tokens processed."""

    evaluated_step: int = 0
    """The last step after which the validation rows were scored."""

    score: float | None = None
    """What that evaluation brought: the figure of the job's `selection`; none without validation rows."""

    window: Window = Window()
    """Figures of the steps since metrics were last reported."""

    choice: Choice = Choice()
    """The best of the evaluations."""

    levels: Levels = Levels()
    """What the steps so far were like."""

    portion: Portion | None = None
    """What went through the model at once; none = before the first checkpoint."""

    sampled_step: int = -1
    """The last step after which the prompts were asked; -1 = not even before training."""

    base_samples: tuple[str, ...] = ()
    """What the base model answered to each prompt."""


def save_state(
    folder: Path,
    progress: Progress,
    fingerprints: Fingerprints,
    optimizer: torch.optim.Optimizer,
    model: torch.nn.Module,
) -> None:
    """Write progress, optimizer and random generators into `folder/trainer`."""
    target = folder / FOLDER
    target.mkdir()
    write_tensors(_optimizer_tensors(optimizer, model), target / "optimizer.safetensors")
    state = {
        "progress": progress.model_dump(),
        "fingerprints": fingerprints.model_dump(),
        "random": random_state(),
    }
    target.joinpath("state.json").write_text(json.dumps(state))


def load_state(folder: Path, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> Progress:
    """Put back what `save_state` wrote."""
    state = _read(folder)
    tensors = load_file(folder / FOLDER / "optimizer.safetensors")
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = names[parameter] + ":"
            own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            if own:
                optimizer.state[parameter] = {key: _restored(value, parameter.device) for key, value in own.items()}
    set_random_state(state["random"])
    return Progress.model_validate(state["progress"])


def fingerprints_in(folder: Path, expected: Fingerprints) -> Fingerprints:
    """What the training of a checkpoint depended on.

    Raises:
        CheckpointError: it belongs to another training than the one with the expected fingerprints, or to another
            version of this program that wrote other states.
    """
    state = _read(folder)
    try:
        found = Fingerprints.model_validate(state.get("fingerprints"))
        Progress.model_validate(state.get("progress"))
    except ValidationError as error:
        raise CheckpointError(f"{folder.name} was written by a version with another form of states.") from error
    for name, what in (("data", "other data"), ("spec", "another spec")):
        if getattr(found, name) != getattr(expected, name):
            raise CheckpointError(f"{folder.name} belongs to another training: it had {what}.")
    return found


def read_progress(folder: Path) -> Progress:
    """How far the training of a checkpoint was, once its fingerprints were looked at."""
    return Progress.model_validate(_read(folder)["progress"])


def seed_all(seed: int) -> None:
    """Start every random generator from one seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Where every random generator stands, as plain JSON."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state().numpy().tobytes().hex() if torch.cuda.is_available() else None,
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every random generator back to where it stood."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes(state["torch"]))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(state["cuda"]))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, all that is random follows from a seed; afterwards it goes on as if nothing had been drawn."""
    before = random_state()
    seed_all(seed)
    try:
        yield
    finally:
        set_random_state(before)


def _read(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / FOLDER / "state.json").read_text())
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


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
