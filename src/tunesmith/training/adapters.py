"""LoRA adapters in PEFT's format, among them rsLoRA, DoRA and PiSSA."""

import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tunesmith.spec.errors import AdapterError, ArtifactError
from tunesmith.spec.job import ALL_LINEAR, AdapterSpec
from tunesmith.training import pissa
from tunesmith.training.targets import is_outside, last_parts, require_targets

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

_WHOLE = ".modules_to_save."
_PREFIX = "base_model.model."
_REPLACED = ".original_module"
"""What PEFT calls a layer in whose place another one is trained whole."""

_LOW_RANK = ".lora_"
_MERGE = "Merge it into its base model, and start from the result."

_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_qalora": (None, False),
    "use_bdlora": (None, False),
    "bias": (None, "none"),
    "lora_bias": (None, False),
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
"""Values of an adapter's config without which it could not be trained further exactly."""


def new_adapter(
    model: Any,
    adapter: AdapterSpec,
    seed: int,
    head: str | None = None,
    outside: str | None = None,
    poll: Callable[[], None] = lambda: None,
) -> PeftModel:
    """Put an untrained adapter into a model: without effect at first, initialised under `seed`, in float32.

    `head` names the head of a sequence classifier, which is then trained whole and belongs to the adapter. `outside` is
    a regular expression of the names of layers that are left alone. `poll` is called between layers where initialising
    them takes long. Whatever it raises passes through.

    Raises:
        AdapterError: the model has no layers of these names, or PEFT cannot put an adapter on them.
    """
    require_targets(model, adapter, head, outside)
    config = LoraConfig(
        task_type="CAUSAL_LM" if head is None else "SEQ_CLS",
        modules_to_save=None if head is None else [head],
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=ALL_LINEAR[0] if adapter.targets == ALL_LINEAR else list(adapter.targets),
        exclude_modules=outside,
        use_rslora=adapter.scaling == "rank_stabilized",
        use_dora=adapter.decomposed,
    )
    torch.manual_seed(seed)
    try:
        adapted = _adapted(model, config)
    except ValueError as error:
        raise AdapterError(
            f"No adapter can be put on the layers {', '.join(adapter.targets)}: {error}", param="adapter.targets"
        ) from error
    if adapter.init == "pissa":
        pissa.begin_with_principal_parts(adapted, poll)
    return adapted


def adapter_to_continue(model: Any, folder: Path, asked: AdapterSpec | None, head: str | None = None) -> PeftModel:
    """Put a trained adapter into a model, to be trained further with the dropout asked for. Its shape is its own.

    `head` names the head of a sequence classifier, which is then the adapter's own.

    Raises:
        AdapterError: it is missing, not LoRA, not in safetensors, or made for another model.
    """
    require_trainable(folder, head)
    with _fitting():
        adapted = _adapted(model, _config_to_continue(folder, asked, head))
        load_adapter(adapted, folder)
    return adapted


def shape_to_continue(
    model: Any, folder: Path, asked: AdapterSpec | None, targets: Iterable[str], head: str | None
) -> PeftModel:
    """Put an untrained adapter into a model that is of the same kind as a trained one, on all layers with these names.

    The model may have fewer layers than the one that the adapter was trained for.

    Raises:
        AdapterError: as for `adapter_to_continue`, but for the weights.
    """
    with _fitting():
        config = _config_to_continue(folder, asked, head)
        config.target_modules, config.exclude_modules = set(targets), None
        config.layers_to_transform, config.layers_pattern = None, None
        # Those of single layers, which the model may lack: the largest rank stands for all.
        config.r = max([config.r, *config.rank_pattern.values()])
        config.rank_pattern, config.alpha_pattern = {}, {}
        return _adapted(model, config)


def require_trainable(folder: Path, head: str | None = None) -> dict[str, Any]:
    """Refuse an adapter that cannot be trained further here, without reading its weights. Returns its config.

    Raises:
        AdapterError: it is missing, broken, not in safetensors, of an unknown kind, or its trained layers are not
            those that are trained whole here: the `head` of that name, or none.
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
            hint=_MERGE,
        )
    _require_whole_layers(config.get("modules_to_save"), head)
    return config


def trained_scores(folder: Path, head: str) -> int:
    """How many scores the head of an adapter gives.

    Raises:
        AdapterError: it has none, or its file cannot be read.
    """
    try:
        with safe_open(folder / WEIGHTS, "pt") as tensors:
            [name] = [name for name in tensors.keys() if name.endswith(f".{head}.weight")]  # noqa: SIM118 - no mapping
            return int(tensors.get_slice(name).get_shape()[0])
    except Exception as error:  # a file from elsewhere can be wrong in any way
        raise AdapterError(
            f"The adapter to continue from has no weights of a layer `{head}` that can be read.", param="init_from"
        ) from error


def trained_sizes(folder: Path, head: str | None) -> dict[str, int]:
    """How many numbers each weight of an adapter has, those of the head among them, by the names in its file.

    Raises:
        AdapterError: the file cannot be read.
    """
    try:
        with safe_open(folder / WEIGHTS, "pt") as tensors:
            return {
                name: math.prod(tensors.get_slice(name).get_shape())
                for name in tensors.keys()  # noqa: SIM118 - no mapping
                if _LOW_RANK in name or (head is not None and f".{head}." in name)
            }
    except Exception as error:  # a file from elsewhere can be wrong in any way
        raise AdapterError(
            f"The weights of the adapter to continue from cannot be read: {error}", param="init_from"
        ) from error


def adapted_names(weights: Iterable[str]) -> list[str]:
    """What the layers are called that such weights of an adapter belong to, as `last_parts`."""
    return last_parts(name.partition(_LOW_RANK)[0] for name in weights if _LOW_RANK in name)


def differences(adapted: PeftModel, adapter: AdapterSpec) -> list[str]:
    """How an adapter's own shape differs from the one asked for, as `rank 8 instead of 16`."""
    config = adapted.peft_config["default"]
    pairs = (
        ("rank", config.r, adapter.rank),
        ("alpha", f"{config.lora_alpha:g}", f"{adapter.alpha:g}"),
        ("scaling", "rank_stabilized" if config.use_rslora else "standard", adapter.scaling),
        ("decomposed", str(bool(config.use_dora)).lower(), str(adapter.decomposed).lower()),
        ("init", "its own weights", "its own weights" if adapter.init == "random" else adapter.init),
    )
    found = [f"{name} {own} instead of {asked}" for name, own, asked in pairs if own != asked]
    own, asked = _targets(adapted), _targets_asked(adapted, adapter)
    if own != asked:
        found.append(f"targets {', '.join(sorted(own))} instead of {', '.join(sorted(asked))}")
    return found


def _targets(adapted: PeftModel) -> set[str]:
    """Names of the layers that the adapter changes."""
    return set(last_parts(name for name, part in adapted.named_modules() if isinstance(part, BaseTunerLayer)))


def _targets_asked(adapted: PeftModel, adapter: AdapterSpec) -> set[str]:
    if adapter.targets != ALL_LINEAR:
        return set(last_parts(adapter.targets))
    head = adapted.get_base_model().get_output_embeddings()
    layers = (
        name.removesuffix(".base_layer")
        for name, part in adapted.named_modules()
        if isinstance(part, torch.nn.Linear)
        and part is not head
        and _LOW_RANK not in name
        and _WHOLE not in name
        and not name.endswith(_REPLACED)
        and not is_outside(name.removeprefix(_PREFIX), adapted.peft_config["default"].exclude_modules)
    )
    return set(last_parts(layers))


def _require_whole_layers(trained: list[str] | None, head: str | None) -> None:
    """See that an adapter's layers that are trained whole are those of this training."""
    names = set(trained or ())
    if head is None and names:
        raise AdapterError(
            f"The adapter to continue from has layers that were trained whole: {', '.join(sorted(names))}. Only its "
            "low-rank weights could be trained here.",
            param="init_from",
            hint=_MERGE,
        )
    # PEFT lists both names for every classifier, whichever it has.
    if head is not None and (head not in names or names - {head, "classifier"}):
        whole = f"trained whole: {', '.join(sorted(names))}" if names else "none that were trained whole"
        raise AdapterError(
            f"The adapter to continue from needs the trained layer `{head}` and no other; it has {whole}.",
            param="init_from",
            hint=_MERGE,
        )


def save_adapter(adapted: PeftModel, folder: Path, base: Path) -> None:
    """Write the adapter as PEFT does, for the base model as it is on disk."""
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    config, tensors = pissa.joined(adapted, {name: tensor.detach() for name, tensor in state.items()})
    config.base_model_name_or_path = str(base)
    config.inference_mode = True
    config.save_pretrained(folder)
    write_tensors(tensors, folder / WEIGHTS)


def load_adapter(adapted: PeftModel, folder: Path) -> None:
    """Take the adapter's weights from a folder that holds one of the same shape.

    Raises:
        RuntimeError: shapes or names do not match.
    """
    result = set_peft_model_state_dict(adapted, pissa.parted(adapted, load_file(folder / WEIGHTS)))
    if result.unexpected_keys:
        raise RuntimeError(f"unknown weight {result.unexpected_keys[0]!r}")
    absent = [name for name in result.missing_keys if _LOW_RANK in name or _WHOLE in name]
    if absent:
        raise RuntimeError(f"missing weight {absent[0]!r}")


def require_change(start: Path, folder: Path) -> None:
    """Refuse an adapter whose weights are those of the adapter that it was continued from.

    Raises:
        ArtifactError: not one weight differs.
    """
    before, after = load_file(start / WEIGHTS), load_file(folder / WEIGHTS)
    if before.keys() == after.keys() and all(torch.equal(before[name].float(), after[name].float()) for name in after):
        raise ArtifactError(
            "Training changed nothing: the adapter's weights are exactly those that it began with.",
            hint="Raise the learning rate or the number of steps.",
        )


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _config_to_continue(folder: Path, asked: AdapterSpec | None, head: str | None) -> PeftConfig:
    config = PeftConfig.from_pretrained(folder)
    config.inference_mode = False
    if head is not None:
        config.task_type, config.modules_to_save = "SEQ_CLS", [head]
    if asked is not None:
        config.lora_dropout = asked.dropout
    return config


@contextmanager
def _fitting() -> Iterator[None]:
    """Explain what goes wrong with an adapter to continue from."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a config from elsewhere can be wrong in any way
        reason = " ".join(line.strip() for line in str(error).strip().splitlines()[:2]) or type(error).__name__
        raise AdapterError(
            f"The adapter to continue from does not fit the base model: {reason}", param="init_from"
        ) from error


def _adapted(model: Any, config: PeftConfig) -> PeftModel:
    """Trained weights in float32. PEFT's own casts are off: under autocast they only cost time.

    Not so for DoRA, which takes its norms from what is cast: in bfloat16 they would not follow the training.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in adapted.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = config.use_dora
            if config.use_dora:
                _measure(layer)
    return adapted


def _measure(layer: Any) -> None:
    """Take a weight's magnitudes in float32, so that an untrained adapter has no effect in any number format."""
    weight = dequantize_module_weight(layer.get_base_layer()).float()
    for magnitudes in layer.lora_magnitude_vector.values():
        magnitudes.weight.data = torch.linalg.norm(weight.T if layer.fan_in_fan_out else weight, dim=1)
