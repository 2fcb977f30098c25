"""LoRA on the blocks of a transformer, in the format of diffusers' pipelines."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from tunesmith.spec.job import AdapterSpec

_PREFIX = "transformer."
NAME = "default"


def add_adapter(transformer: Any, names: Iterable[str], adapter: AdapterSpec, seed: int) -> None:
    """Put an untrained adapter into a frozen transformer: without effect at first, drawn under `seed`, in float32."""
    config = LoraConfig(
        r=adapter.rank, lora_alpha=adapter.alpha, lora_dropout=adapter.dropout, target_modules=list(names)
    )
    torch.manual_seed(seed)
    transformer.add_adapter(config, adapter_name=NAME)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in transformer.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = False  # under autocast, PEFT's own casts only cost time


def is_adapted(transformer: Any) -> bool:
    """Whether an adapter is trained."""
    return NAME in getattr(transformer, "peft_config", {})


def write_adapter(transformer: Any, path: Path, facts: Mapping[str, str]) -> None:
    """Write the adapter to a file that `load_lora_weights` reads. `facts` go into the file's metadata."""
    config = transformer.peft_config[NAME]
    shape = {
        f"{_PREFIX}r": config.r,
        f"{_PREFIX}lora_alpha": config.lora_alpha,
        f"{_PREFIX}target_modules": sorted(config.target_modules),
    }
    state = get_peft_model_state_dict(transformer, adapter_name=NAME)
    save_file(
        {f"{_PREFIX}{name}": tensor.detach().contiguous().cpu() for name, tensor in state.items()},
        path,
        metadata={"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(shape, sort_keys=True), **facts},
    )


def read_adapter(transformer: Any, path: Path) -> None:
    """Take the adapter's weights from a file that `write_adapter` wrote.

    Raises:
        RuntimeError: names or shapes do not match.
    """
    state = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(path).items()}
    result = set_peft_model_state_dict(transformer, state, adapter_name=NAME)
    absent = [name for name in result.missing_keys if ".lora_" in name]
    if absent or result.unexpected_keys:
        raise RuntimeError(f"weights that do not match: {[*absent, *result.unexpected_keys][0]!r}")
