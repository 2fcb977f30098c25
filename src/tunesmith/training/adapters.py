"""LoRA adapters in PEFT's format."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

from tunesmith.spec.errors import AdapterError
from tunesmith.spec.job import AdapterSpec

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (None, False),
    "use_rslora": (None, False),
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "velora_config": (None,),
    "kasa_config": (None,),
    "monteclora_config": (None,),
    "megatron_config": (None,),
    # Others take their beginnings out of the base model's weights, which then differ from those on disk.
    "init_lora_weights": (None, True, False, "gaussian", "orthogonal"),
}
"""Values of an adapter's config that plain LoRA has."""


def new_adapter(model: Any, adapter: AdapterSpec, seed: int, head: str | None = None) -> PeftModel:
    """Put an untrained adapter into a model: without effect at first, initialised under `seed`, in float32.

    `head` names the head of a sequence classifier, which is then trained whole and belongs to the adapter.

    Raises:
        AdapterError: the model has no layers of these names.
    """
    targets = "all-linear" if adapter.targets == ("all-linear",) else list(adapter.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM" if head is None else "SEQ_CLS",
        modules_to_save=None if head is None else [head],
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
    )
    torch.manual_seed(seed)
    try:
        return _adapted(model, config)
    except ValueError as error:
        linear = {_last(name) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
        raise AdapterError(
            f"No adapter can be put on the layers {', '.join(adapter.targets)}: {error}",
            param="adapter.targets",
            hint=f"This model's linear layers: {', '.join(sorted(linear))}; or use `all-linear`.",
        ) from error


def adapter_to_continue(model: Any, folder: Path, asked: AdapterSpec | None) -> PeftModel:
    """Put a trained adapter into a model, to be trained further with the dropout asked for. Its shape is its own.

    Raises:
        AdapterError: it is missing, not LoRA, not in safetensors, or made for another model.
    """
    require_trainable(folder)
    try:
        config = PeftConfig.from_pretrained(folder)
        config.inference_mode = False
        if asked is not None:
            config.lora_dropout = asked.dropout
        adapted = _adapted(model, config)
        load_adapter(adapted, folder)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a config from elsewhere can be wrong in any way
        reason = " ".join(line.strip() for line in str(error).strip().splitlines()[:2]) or type(error).__name__
        raise AdapterError(
            f"The adapter to continue from does not fit the base model: {reason}", param="init_from"
        ) from error
    return adapted


def require_trainable(folder: Path) -> None:
    """Refuse an adapter that cannot be trained further here, without reading its weights.

    Raises:
        AdapterError: it is missing, broken, not in safetensors, or not plain LoRA.
    """
    absent = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if absent:
        raise AdapterError(f"The adapter to continue from lacks {' and '.join(absent)}.", param="init_from")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise AdapterError(f"The adapter's {CONFIG} cannot be read: {error}", param="init_from") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(
            f"The adapter to continue from is of the kind {kind!r}; only LORA can be trained.", param="init_from"
        )
    variants = [f"`{name}` is {config[name]!r}" for name, plain in _PLAIN.items() if config.get(name) not in plain]
    if variants:
        raise AdapterError(
            f"The adapter to continue from is a variant of LoRA that cannot be trained here: {', '.join(variants)}.",
            param="init_from",
            hint="Merge it into its base model, and start from the result.",
        )


def adapter_spec_of(folder: Path) -> AdapterSpec:
    """The shape of an adapter that was accepted by `require_trainable`, as a job would ask for it."""
    config = json.loads((folder / CONFIG).read_bytes())
    targets = config["target_modules"]
    names = ("all-linear",) if isinstance(targets, str) else tuple(targets)
    return AdapterSpec(rank=config["r"], alpha=config["lora_alpha"], dropout=config["lora_dropout"], targets=names)


def differences(adapted: PeftModel, adapter: AdapterSpec) -> list[str]:
    """How an adapter's own shape differs from the one asked for, as `rank 8 instead of 16`."""
    config = adapted.peft_config["default"]
    pairs = (("rank", config.r, adapter.rank), ("alpha", config.lora_alpha, adapter.alpha))
    found = [f"{name} {own:g} instead of {asked:g}" for name, own, asked in pairs if own != asked]
    own, asked = _targets(adapted), _targets_asked(adapted, adapter)
    if own != asked:
        found.append(f"targets {', '.join(sorted(own))} instead of {', '.join(sorted(asked))}")
    return found


def _targets(adapted: PeftModel) -> set[str]:
    """Names of the layers that the adapter changes."""
    return {_last(name) for name, part in adapted.named_modules() if isinstance(part, BaseTunerLayer)}


def _targets_asked(adapted: PeftModel, adapter: AdapterSpec) -> set[str]:
    if adapter.targets != ("all-linear",):
        return {_last(target) for target in adapter.targets}
    head = adapted.get_base_model().get_output_embeddings()
    layers = (
        _last(name.removesuffix(".base_layer"))
        for name, part in adapted.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not head and ".lora_" not in name
    )
    return set(layers)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


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
    absent = [name for name in result.missing_keys if ".lora_" in name or ".modules_to_save." in name]
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
