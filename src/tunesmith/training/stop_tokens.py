"""Which tokens make a model's answer end."""

import json
from pathlib import Path
from typing import Any

from tunesmith.spec.errors import ModelLoadError


def stop_tokens(folder: Path, tokenizer: Any) -> frozenset[int]:
    """`eos_token_id` of the model's generation_config.json, else of its config.json, and the tokenizer's own.

    Raises:
        ModelLoadError: these files cannot be read, or name something other than tokens.
    """
    named = _named(folder / "generation_config.json") or _named(folder / "config.json")
    own = tokenizer.eos_token_id
    return frozenset(named if own is None else [*named, own])


def _named(path: Path) -> list[int]:
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"The base model's {path.name} cannot be read: {error}") from error
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(each) is int and each >= 0 for each in ids):
        raise ModelLoadError(f"The base model's {path.name} has an `eos_token_id` that names no tokens: {found!r}.")
    return ids
