"""Trained weights: written as diffusers reads them, then loaded again by diffusers and compared."""

import importlib.metadata
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.spec.errors import ArtifactError
from tunesmith.spec.job import AttemptSpec, JobSpec
from tunesmith.training.diffusion import adapter
from tunesmith.training.diffusion.family import Family
from tunesmith.training.export import require_finite

RECIPE = "recipe.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "tunesmith")
_CHECKED_NAME = "artifact"


@dataclass(frozen=True)
class Card:
    """What is said about the weights."""

    base: Path
    job_id: str
    name: str
    """Of the files."""

    spec: JobSpec
    family: Family

    @property
    def trigger_word(self) -> str:
        """The word that the model learnt; empty if there is none."""
        return self.spec.data.images.trigger_word if self.spec.data.images else ""

    def facts(self, step: int) -> dict[str, str]:
        """The recipe as text values, without the pictures' addresses, which may hold signatures."""
        recipe = self.spec.model_dump_json(exclude={"data": {"images": {"sources"}}})
        return {
            "name": self.name,
            "trigger_word": self.trigger_word,
            "base_model": self.spec.model.base,
            "step": str(step),
            "recipe": recipe,
            "software": f"tunesmith {importlib.metadata.version('tunesmith')}",
        }


def card_of(attempt: AttemptSpec, family: Family) -> Card:
    """What is said about an attempt's weights."""
    return Card(attempt.inputs.model, attempt.job_id, file_name(attempt.name or attempt.job_id), attempt.spec, family)


def file_name(name: str) -> str:
    """A user's name as the name of a file: letters, digits, `-` and `_`."""
    return re.sub(r"[^\w-]+", "_", name, flags=re.ASCII).strip("_")[:100] or "model"


def write_weights(transformer: Any, card: Card, folder: Path, step: int, file: str) -> None:
    """Write an adapter as `file`, or all weights as diffusers does; and the recipe."""
    facts = card.facts(step)
    if adapter.is_adapted(transformer):
        adapter.write_adapter(transformer, folder / file, facts)
    else:
        transformer.save_pretrained(folder)
    folder.joinpath(RECIPE).write_text(json.dumps(facts | {"recipe": json.loads(facts["recipe"])}, indent=2))


def step_of(folder: Path) -> int:
    """The step whose weights lie in a folder that `write_weights` wrote."""
    return int(json.loads((folder / RECIPE).read_bytes())["step"])


def adapter_file(folder: Path) -> Path:
    """The adapter in a folder that `write_weights` wrote."""
    [path] = folder.glob("*.safetensors")
    return path


@torch.no_grad()
def verify(transformer: Any, card: Card, folder: Path, answer: Callable[[Any], Tensor], base: Tensor | None) -> float:
    """Load written weights by diffusers. Returns the largest change of a predicted value.

    `answer` gives a transformer's prediction on a probe; `base` is that before training, where all weights are trained.

    Raises:
        ArtifactError: they do not load, differ from the trained ones or change nothing.
    """
    require_finite(folder)
    trained = answer(transformer)
    exact = card.spec.model.dtype == "float32"
    if adapter.is_adapted(transformer):
        base, found = _with_written_adapter(transformer, card, folder, answer)
        return _compare(base, found, trained, exact=exact)
    assert base is not None
    dtype = next(transformer.parameters()).dtype
    try:
        model = type(transformer).from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
        found = answer(model.to(transformer.device).eval())
    except Exception as error:
        raise ArtifactError(f"The written transformer does not load: {error}") from error
    return _compare(base, found, trained, exact=exact)


def _with_written_adapter(
    transformer: Any, card: Card, folder: Path, answer: Callable[[Any], Tensor]
) -> tuple[Tensor, Tensor]:
    """Predictions of the base, and of the base with the adapter that a pipeline loads from its file."""
    transformer.disable_adapters()
    base = answer(transformer)
    transformer.enable_adapters()
    pipeline = card.family.sampling_pipeline(card.base, transformer, None)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
            pipeline.load_lora_weights(
                folder, weight_name=adapter_file(folder).name, adapter_name=_CHECKED_NAME, local_files_only=True
            )
        transformer.set_adapter(_CHECKED_NAME)
        found = answer(transformer)
    except Exception as error:
        raise ArtifactError(f"The written adapter does not load: {error}") from error
    finally:
        transformer.set_adapter(adapter.NAME)
    transformer.delete_adapters(_CHECKED_NAME)
    return base, found


def _compare(base: Tensor, found: Tensor, trained: Tensor, *, exact: bool) -> float:
    tolerance = 1e-3 if exact else 1e-1
    off = (found - trained).abs().max().item()
    if not off <= tolerance * max(1.0, trained.abs().max().item()):
        raise ArtifactError(
            f"The reloaded weights predict differently from the trained ones: a value differs by {off:.3g}."
        )
    change = (found - base).abs().max().item()
    if not change > 0:
        raise ArtifactError(
            "Training changed nothing: the reloaded result predicts exactly what the base model does.",
            hint="Raise the learning rate or the number of steps.",
        )
    return change


def write_card(card: Card, folder: Path) -> None:
    """Write README.md."""
    is_adapter = card.spec.adapter is not None
    load = (_LOAD_ADAPTER if is_adapter else _LOAD_MODEL).format(
        pipeline=card.family.pipeline_class,
        transformer=card.family.transformer_class,
        base=card.spec.model.base,
        file=adapter_file(folder).name if is_adapter else "",
    )
    facts = card.facts(0)
    folder.joinpath("README.md").write_text(
        _CARD.format(
            kind="adapter" if is_adapter else "transformer",
            base=card.spec.model.base,
            job_id=card.job_id,
            trigger=f"\nTrigger word: `{card.trigger_word}`\n" if card.trigger_word else "",
            load=load,
            recipe=json.dumps(json.loads(facts["recipe"]), indent=2),
            versions="\n".join(f"- {name} {importlib.metadata.version(name)}" for name in _LIBRARIES),
        )
    )


_CARD = """\
# Fine-tuned {kind} of {base}

Made by Tunesmith, job `{job_id}`.
{trigger}
## Use

```python
{load}
```

## Recipe

```json
{recipe}
```

## Made with

{versions}
"""

_LOAD_ADAPTER = """\
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{base}")
pipeline.load_lora_weights(".", weight_name="{file}")"""

_LOAD_MODEL = """\
from diffusers import {pipeline}, {transformer}

transformer = {transformer}.from_pretrained(".")
pipeline = {pipeline}.from_pretrained("{base}", transformer=transformer)"""
