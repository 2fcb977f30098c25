"""LoRA adapters in PEFT's format."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunesmith.spec.errors import AdapterError
from tunesmith.spec.job import AdapterSpec

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def new_adapter(model: Any, adapter: AdapterSpec, seed: int) -> PeftModel:
    """Put an untrained adapter into a model: without effect at first, initialised under `seed`, in float32.

    Raises:
        AdapterError: the model has no layers of these names.
    """
    targets = "all-linear" if adapter.targets == ("all-linear",) else list(adapter.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
    )
    torch.manual_seed(seed)
    try:
        return _adapted(model, config)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
        raise AdapterError(
            f"No adapter can be put on the layers {', '.join(adapter.targets)}: {error}",
            param="adapter.targets",
            hint=f"This model's linear layers: {', '.join(sorted(linear))}; or use `all-linear`.",
        ) from error


def adapter_to_continue(model: Any, folder: Path) -> PeftModel:
    """Put a trained adapter into a model, to be trained further.

    Raises:
        AdapterError: it is missing, not LoRA, not in safetensors, or made for another model.
    """
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise AdapterError(f"The adapter to continue from lacks {WEIGHTS} or {CONFIG}.")
    kind = json.loads((folder / CONFIG).read_text()).get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"The adapter to continue from is of the kind {kind!r}; only LORA can be trained.")
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = False
        adapted = _adapted(model, config)
        load_adapter(adapted, folder)
    except (RuntimeError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AdapterError(f"The adapter to continue from does not fit the base model: {reason}") from error
    return adapted


def differences(adapted: PeftModel, adapter: AdapterSpec) -> list[str]:
    """How an adapter's own shape differs from the one asked for, as `rank 8 instead of 16`."""
    config = adapted.peft_config["default"]
    pairs = (("rank", config.r, adapter.rank), ("alpha", config.lora_alpha, adapter.alpha))
    return [f"{name} {own:g} instead of {asked:g}" for name, own, asked in pairs if own != asked]


def save_adapter(adapted: PeftModel, folder: Path, base: Path) -> None:
    """Write the adapter as PEFT does."""
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = str(base)
    training = config.inference_mode
    config.inference_mode = True
    config.save_pretrained(folder)
    config.inference_mode = training
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    write_tensors({name: tensor.detach() for name, tensor in state.items()}, folder / WEIGHTS)


def load_adapter(adapted: PeftModel, folder: Path) -> None:
    """Take the adapter's weights from a folder.

    Raises:
        RuntimeError: shapes or names do not match.
    """
    result = set_peft_model_state_dict(adapted, load_file(folder / WEIGHTS))
    if result.unexpected_keys:
        raise RuntimeError(f"unknown weight {result.unexpected_keys[0]!r}")
    absent = [name for name in result.missing_keys if ".lora_" in name]
    if absent:
        raise RuntimeError(f"missing weight {absent[0]!r}")


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _adapted(model: Any, config: PeftConfig) -> PeftModel:
    """Trained weights in float32. PEFT's own casts are off: under autocast they only cost time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = False
    return adapted
