"""Loading a base model: from safetensors only, without remote code, complete or not at all."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from tunesmith.spec.errors import ModelLoadError, UnsupportedError
from tunesmith.spec.job import ModelSpec, QuantizationSpec
from tunesmith.training.quantization import keep_weights_as_loaded, loading_arguments
from tunesmith.training.score_model import HEAD, require_head
from tunesmith.training.shortage import is_shortage

_CLASSIFIER = "ForSequenceClassification"
"""How transformers' names of such architectures end."""

_TEMPLATE_OF_PROCESSOR = "chat_template.json"
"""Where models that see once kept their chat template; newer ones keep it where tokenizers look for it."""

_KINDS = {
    "text": (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "causal language model"),
    "vision_language": (MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, "vision-language model"),
}
"""Architectures by what they read, and what they are called."""


def load_tokenizer(folder: Path) -> Any:
    """The model's tokenizer, with its chat template.

    Raises:
        ModelLoadError: it is missing or broken.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if tokenizer.chat_template is None and (folder / _TEMPLATE_OF_PROCESSOR).is_file():
            tokenizer.chat_template = json.loads((folder / _TEMPLATE_OF_PROCESSOR).read_text())["chat_template"]
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise ModelLoadError(f"The model's tokenizer cannot be loaded: {_said(error, folder)}") from error
    return tokenizer


def load_config(folder: Path, modality: str = "text") -> Any:
    """The model's configuration. `modality` is what the model is to read.

    Raises:
        ModelLoadError: it is missing, broken, of an unknown architecture, or of one that does not write text.
    """
    try:
        raw = json.loads((folder / "config.json").read_text())
        _require_known(raw, modality)
        _require_unquantized(raw)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except FileNotFoundError as error:
        raise ModelLoadError("The base model has no config.json.") from error
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(f"The base model's config.json cannot be used: {_said(error, folder)}") from error
    return config


def context_length(config: Any) -> int | None:
    """The longest sequence that the model was made for, if it has such a limit."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 0 else None


def sees_always(folder: Path) -> bool:
    """Whether a model's architecture reads pictures, and is not one that transformers also has for text alone."""
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    return kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def require_classifiable(folder: Path) -> None:
    """Refuse an architecture that cannot score texts.

    Raises:
        ModelLoadError: transformers has no sequence classifier of its type.
    """
    kind = load_config(folder).model_type
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ModelLoadError(f"The architecture {kind!r} has no sequence classifier, so it cannot score texts.")


def require_writer(folder: Path, modality: str, param: str) -> None:
    """Refuse weights of a sequence classifier where a model that writes is to be trained: its head would be dropped.

    Raises:
        ModelLoadError: the configuration cannot be used.
        UnsupportedError: it names a sequence classifier; `param` is the field that names the weights.
    """
    names = [name for name in load_config(folder, modality).architectures or () if name.endswith(_CLASSIFIER)]
    if names:
        raise UnsupportedError(
            f"The model to start from is a {names[0]}: it scores texts, and its trained head has no use in a model "
            "that writes.",
            param=param,
            hint="Name the model that it was made from, or train it by the method `classification` or `reward`.",
        )


def library_class(model: ModelSpec) -> Any:
    """What transformers calls models of this kind."""
    if model.modality == "vision_language":
        return AutoModelForImageTextToText
    return AutoModelForSequenceClassification if model.task == "sequence_classification" else AutoModelForCausalLM


def load_skeleton(folder: Path, model: ModelSpec) -> Any:
    """The model as its configuration describes it, without weights.

    Raises:
        ModelLoadError: it cannot be built so.
    """
    return skeleton(load_config(folder, model.modality), model, torch.float32)


def skeleton(config: Any, model: ModelSpec, dtype: torch.dtype) -> Any:
    """A model of a configuration in one number format, without weights.

    Raises:
        ModelLoadError: it cannot be built so.
    """
    try:
        with torch.device("meta"):
            return library_class(model).from_config(copy.deepcopy(config), dtype=dtype, trust_remote_code=False)
    except Exception as error:  # a configuration from elsewhere can be wrong in any way
        raise ModelLoadError(f"The base model's config.json cannot be used: {_first_line(error)}") from error


def load_model(
    folder: Path, dtype: torch.dtype, device: torch.device, quantization: QuantizationSpec | None = None
) -> Any:
    """The model in one number format, its linear layers quantized if so asked, in evaluation mode.

    Raises:
        ModelLoadError: weights are missing, broken, incomplete or not in safetensors.
        torch.OutOfMemoryError: the device cannot hold them.
    """
    return _load(folder, AutoModelForCausalLM, (), dtype, device, quantization)


def load_vision_model(
    folder: Path, dtype: torch.dtype, device: torch.device, quantization: QuantizationSpec | None = None
) -> Any:
    """The model that reads pictures and writes. Arguments and errors as for `load_model`."""
    return _load(folder, AutoModelForImageTextToText, (), dtype, device, quantization)


def load_classifier(
    folder: Path,
    labels: int,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    quantization: QuantizationSpec | None = None,
) -> Any:
    """The model with a head of so many scores in float32. Unless it has one already, the head is drawn under `seed`.

    Raises:
        ModelLoadError: as for `load_model`, or the head is of an unknown kind.
        torch.OutOfMemoryError: the device cannot hold the weights.
    """
    torch.manual_seed(seed)
    new = {"num_labels": labels, "ignore_mismatched_sizes": True}
    allowed = (f"{HEAD}.weight", f"{HEAD}.bias")
    model = _load(folder, AutoModelForSequenceClassification, allowed, dtype, device, quantization, **new)
    require_head(model)
    return model


def _load(
    folder: Path,
    kind: Any,
    may_lack: Sequence[str],
    dtype: torch.dtype,
    device: torch.device,
    quantization: QuantizationSpec | None,
    **arguments: Any,
) -> Any:
    _require_safetensors(folder)
    if quantization is None:
        return _from_pretrained(folder, kind, may_lack, dtype, **arguments).to(device).eval()
    arguments |= loading_arguments(quantization, dtype, device)
    model = _from_pretrained(folder, kind, may_lack, dtype, **arguments)
    keep_weights_as_loaded(model)
    return model.eval()


def _from_pretrained(folder: Path, kind: Any, may_lack: Sequence[str], dtype: torch.dtype, **arguments: Any) -> Any:
    try:
        model, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **arguments,
        )
    except Exception as error:
        if is_shortage(error):
            raise
        raise ModelLoadError(f"The base model's weights cannot be loaded: {_said(error, folder)}") from error
    missing = [*sorted(report["missing_keys"]), *(name for name, *_ in report["mismatched_keys"])]
    missing = [name for name in missing if name not in may_lack]
    if missing:
        raise ModelLoadError(
            f"The base model's weights are incomplete: {len(missing)} missing, the first is {missing[0]!r}."
        )
    return model


def pick_device() -> torch.device:
    """The first visible GPU, else the processor."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _require_known(config: Any, modality: str) -> None:
    kind = config.get("model_type")
    known, called = _KINDS[modality]
    if kind in known:
        return
    own_code = " It brings code of its own (`auto_map`), which is never run." if "auto_map" in config else ""
    [(other, (others, _))] = [each for each in _KINDS.items() if each[0] != modality]
    is_other = kind in others
    hint = (
        f"Models of this architecture have the modality {other!r}, and the request or its rows ask for {modality!r}; "
        "`POST /tunesmith/v1/jobs` can name either."
    )
    raise ModelLoadError(
        f"The architecture {kind!r} is not a {called} known here.{own_code}",
        param="model.modality" if is_other and modality != "text" else "model.base",  # nobody has to name `text`
        hint=hint if is_other else None,
    )


def _require_unquantized(config: Any) -> None:
    quantization = config.get("quantization_config")
    if quantization is None:
        return
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    raise ModelLoadError(
        f"The base model's weights are stored quantized ({method or 'by an unknown method'}), which cannot be trained "
        "here.",
        hint="Name the model that it was made from, and ask for quantization if memory is short.",
    )


def _require_safetensors(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        absent = [name for name in files if not (folder / name).is_file()]
        if absent:
            raise ModelLoadError(
                f"The base model lacks {len(absent)} of {len(files)} weight files, the first is {absent[0]!r}."
            )
        return
    if (folder / "model.safetensors").is_file():
        return
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelLoadError(
            "The base model's weights are pickled (.bin), which is never loaded: unpickling runs code.",
            hint="Convert them to safetensors.",
        )
    raise ModelLoadError("The base model has no weights: model.safetensors is missing.")


def _said(error: BaseException, folder: Path) -> str:
    """What an error says, without where on this machine the model lies."""
    return _first_line(error).replace(str(folder), "its folder")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
