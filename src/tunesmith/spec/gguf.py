"""Which models a GGUF file can hold: by the configuration and the tokenizer, read without their libraries."""

import json
from pathlib import Path
from typing import Any

from tunesmith.spec.errors import UnsupportedError

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""From transformers' `model_type` to llama.cpp's name of the architecture."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BY_PATTERN = {_GPT2: "gpt-2", _QWEN2: "qwen2"}
"""How words are cut before they are merged, and llama.cpp's name for it."""


def require_convertible(folder: Path, tokenizer: Path) -> None:
    """Refuse a model that no GGUF file can hold, from its `config.json` and its `tokenizer.json`.

    Raises:
        UnsupportedError: the architecture, its positions, or its tokenizer is none that is known here.
    """
    config = json.loads((folder / "config.json").read_bytes())
    _require_architecture(config)
    pre_tokenizer(tokenizer)


def pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for how a byte-level BPE tokenizer cuts text into words (`tokenizer.ggml.pre`).

    Raises:
        UnsupportedError: the tokenizer is of another kind, or cuts in a way that is not known here.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise _refused("its tokenizer has no tokenizer.json")
    described = json.loads(path.read_bytes())
    model = described.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece" if model.get("byte_fallback") else str(model.get("type"))
        raise _refused(f"its tokenizer is of the kind {kind}; only byte-level BPE is converted")
    name = _cutting(described.get("pre_tokenizer") or {}, ignore_merges=bool(model.get("ignore_merges")))
    if name is None:
        raise _refused("its tokenizer cuts text into words in a way that llama.cpp has no known name for")
    return name


def _require_architecture(config: dict[str, Any]) -> None:
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise _refused(f"its architecture is {kind!r}; converted are: {', '.join(ARCHITECTURES)}")
    positions = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = positions.get("rope_type") or positions.get("type") or "default"
    if scaling not in ("default", "llama3", "linear"):
        raise _refused(f"it scales positions by {scaling!r}; converted are: default, linear, llama3")
    if config.get("sliding_window") is not None and config.get("use_sliding_window", kind == "mistral"):
        raise _refused("its attention has a sliding window")


def _cutting(described: dict[str, Any], *, ignore_merges: bool) -> str | None:
    """`ignore_merges`: words that are tokens as a whole are taken as they are."""
    steps = described.get("pretokenizers") if described.get("type") == "Sequence" else [described]
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, **rest}] if rest.get("use_regex", True):
            return "gpt-2"
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, **rest}]:
            return "smollm" if rest.get("use_regex", True) else None
        case [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
            {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False},
        ]:
            if pattern == _LLAMA3:
                return "llama-bpe" if ignore_merges else "smaug-bpe"
            return _BY_PATTERN.get(pattern)
        case _:
            return None


def _refused(reason: str) -> UnsupportedError:
    return UnsupportedError(
        f"This model cannot be written as GGUF: {reason}.",
        param="format",
        hint="Export it as `merged`; llama.cpp's own converter may know it.",
    )
