"""Finished weights: written, then loaded again by plain libraries and compared."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor

from tunesmith.spec.errors import ArtifactError
from tunesmith.spec.job import JobSpec
from tunesmith.training.batching import TextBatch
from tunesmith.training.card import Card
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.shortage import is_shortage


@dataclass(frozen=True)
class ModelCard:
    """What README.md of an artifact says."""

    base: Path
    job_id: str
    spec: JobSpec
    labels: int | None = None
    """Scores of a sequence classifier; none for a model that writes."""


def save_model(model: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Write all weights as transformers does, converted to `dtype` if one is given."""
    state = None if dtype is None else {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
    if model.can_generate():
        _make_valid(model.generation_config)
    model.save_pretrained(folder, state_dict=state)
    if dtype is not None:
        path = folder / "config.json"
        config = json.loads(path.read_text()) | {"dtype": str(dtype).removeprefix("torch.")}
        path.write_text(json.dumps(config, indent=2) + "\n")


def load_model_weights(model: Any, folder: Path) -> None:
    """Take all weights from a folder that `save_model` wrote, exactly."""
    loaded = type(model).from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)
    model.load_state_dict(loaded.state_dict())


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer with its chat template."""
    tokenizer.save_pretrained(folder)


def write_card(card: ModelCard, kind: Literal["adapter", "model"], folder: Path) -> None:
    """Write README.md."""
    Card(
        kind=kind,
        base_name=card.spec.model.base,
        base=str(card.base),
        base_folder=card.base,
        job_id=card.job_id,
        spec=card.spec,
        labels=card.labels,
    ).write(folder)


def require_finite(folder: Path) -> None:
    """Refuse weights that are missing, or that hold NaN or infinity."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ArtifactError("The artifact holds no weights.")
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - the reader is no mapping
                if not torch.isfinite(tensors.get_tensor(name)).all():
                    raise ArtifactError(f"The artifact's weight {name!r} is not finite.")


@torch.no_grad()
def verify_adapter(adapted: PeftModel, language_model: LanguageModel, probe: TextBatch, folder: Path) -> float:
    """Attach the written adapter to the base by PEFT. Returns the largest change of a logit."""
    adapted.eval()
    trained = language_model.answers(probe).float()
    with adapted.disable_adapter():
        base = language_model.answers(probe).float()
    name = "artifact"
    try:
        adapted.load_adapter(folder, adapter_name=name, torch_device=str(language_model.device), local_files_only=True)
        adapted.set_adapter(name)
        loaded = language_model.answers(probe).float()
    except Exception as error:
        if is_shortage(error):
            raise
        raise ArtifactError(f"The written adapter does not load: {error}") from error
    finally:
        adapted.set_adapter("default")
    adapted.delete_adapter(name)
    return _compare(base, trained, loaded, language_model.dtype)


@torch.no_grad()
def verify_model(language_model: LanguageModel, probe: TextBatch, folder: Path, base: Tensor) -> float:
    """Load the written model by transformers. Returns the largest change of a logit."""
    core = language_model.core.eval()
    trained = language_model.answers(probe).float()
    try:
        model = type(core).from_pretrained(folder, dtype="auto", local_files_only=True, use_safetensors=True)
        extras = {name: value.to(language_model.device) for name, value in probe.extras.items()}
        logits = model.to(language_model.device).eval()(input_ids=probe.ids, use_cache=False, **extras).logits
        loaded = logits.flatten(0, -2).float()
    except Exception as error:
        if is_shortage(error):
            raise
        raise ArtifactError(f"The written model does not load: {error}") from error
    return _compare(base, trained, loaded, language_model.dtype)


def _make_valid(generation: Any) -> None:
    """Some published models set a temperature without sampling, which transformers refuses to save."""
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True


def _compare(base: Tensor, trained: Tensor, loaded: Tensor, dtype: torch.dtype) -> float:
    tolerance = 1e-3 if dtype == torch.float32 else 1e-1
    off = (loaded - trained).abs().max().item()
    if not off <= tolerance * max(1.0, trained.abs().max().item()):
        raise ArtifactError(
            f"The reloaded weights answer differently from the trained ones: a logit differs by {off:.3g}."
        )
    change = (loaded - base).abs().max().item()
    if not change > 0:
        raise ArtifactError(
            "Training changed nothing: the reloaded result gives exactly the base model's logits.",
            hint="Raise the learning rate or the number of steps.",
        )
    return change
