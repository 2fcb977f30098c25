"""Shapes of rows: how one is told from its keys, which keys it uses, and what reads it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tunesmith.data.conversations import (
    CLEAR_RESPONSE_KEYS,
    QUERY_KEYS,
    RESPONSE_KEYS,
    SYSTEM_KEYS,
    read_alpaca,
    read_messages,
    read_prompt_completion,
    read_query_response,
    read_sharegpt,
)
from tunesmith.data.examples import Conversation, Example, Message, PromptCompletion, RowError, Text
from tunesmith.data.labels import ID_KEYS, as_class, read_classification, read_text, read_tokens
from tunesmith.data.pairs import (
    NON_PREFERRED_KEYS,
    PREFERRED_KEYS,
    REJECTED_KEYS,
    as_flag,
    read_kto,
    read_preference,
)
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import Format

__all__ = [
    "READERS",
    "SYSTEMLESS",
    "USED_KEYS",
    "Conversation",
    "Example",
    "Message",
    "PromptCompletion",
    "RowError",
    "Text",
    "detect_format",
    "format_of_columns",
    "other_format",
    "read_messages",
    "row_format",
    "used_keys",
]

READERS: dict[Format, Callable[[Mapping[str, Any], int], Example]] = {
    "messages": read_messages,
    "sharegpt": read_sharegpt,
    "alpaca": read_alpaca,
    "query_response": read_query_response,
    "prompt_completion": read_prompt_completion,
    "text": read_text,
    "preference": read_preference,
    "kto": read_kto,
    "classification": read_classification,
    "tokens": read_tokens,
}

_BESIDE_TURNS = {*SYSTEM_KEYS, "tools", "functions", "images", "image"}

USED_KEYS: dict[Format, frozenset[str]] = {
    "messages": frozenset({"messages", *_BESIDE_TURNS}),
    "sharegpt": frozenset({"conversations", "conversation", *_BESIDE_TURNS}),
    "alpaca": frozenset({"instruction", "input", "output", "history", *_BESIDE_TURNS}),
    "query_response": frozenset({*QUERY_KEYS, *RESPONSE_KEYS, "history", *_BESIDE_TURNS}),
    "prompt_completion": frozenset({"prompt", "completion", *_BESIDE_TURNS}),
    "text": frozenset({"text"}),
    "preference": frozenset(
        {"input", *PREFERRED_KEYS, *NON_PREFERRED_KEYS, "messages", *REJECTED_KEYS, *QUERY_KEYS, "chosen", "rejected"}
        | _BESIDE_TURNS
    ),
    "kto": frozenset({"prompt", "completion", "messages", "label", *_BESIDE_TURNS}),
    "classification": frozenset({"text", "messages", "label", *SYSTEM_KEYS, "images", "image"}),
    "tokens": frozenset({*ID_KEYS, "labels", "attention_mask"}),
}
"""Keys that each shape looks at. Others have no effect, and are reported."""

_MARKS: tuple[tuple[Format, tuple[str, ...]], ...] = (
    ("messages", ("messages",)),
    ("sharegpt", ("conversations",)),
    ("sharegpt", ("conversation",)),
    ("preference", ("chosen", "rejected")),
    *(("preference", ("messages", key)) for key in REJECTED_KEYS),
    *(("preference", (key,)) for key in (*PREFERRED_KEYS, *NON_PREFERRED_KEYS)),
    *(("tokens", (key,)) for key in ID_KEYS),
    ("alpaca", ("instruction", "output")),
    ("prompt_completion", ("prompt", "completion")),
)
"""Keys that together announce a shape."""

FORMAT_HINT = (
    'Write rows such as {"messages": [{"role": "user", "content": "..."}, ...]}, one JSON object a line, or say with '
    "`columns` what each column is for."
)

SYSTEMLESS: frozenset[Format] = frozenset({"text", "tokens"})
"""Shapes that have no place for a system text."""


def used_keys(shape: Format, present: Collection[str]) -> frozenset[str]:
    """Those keys of all that are present which have an effect on rows of a shape."""
    used = USED_KEYS[shape]
    if shape == "query_response" and not set(CLEAR_RESPONSE_KEYS).isdisjoint(present):
        used -= {"text", "content"}
    return used.intersection(present)


def detect_format(row: Mapping[str, Any]) -> Format | None:
    """The shape that a row's keys announce, or none.

    Raises:
        RowError: they announce more than one.
    """
    found = _announced(row)
    if len(found) > 1:
        shapes = " and ".join(f"`{shape}` (by {keys})" for shape, keys in found.items())
        raise RowError(None, f"the row could be {shapes}. Say which is meant, or remove the other's keys.")
    return next(iter(found), None) or _by_weak_keys(row)


def row_format(row: Mapping[str, Any], line: int) -> Format:
    """The shape of a file, told from its first row.

    Raises:
        DatasetError: the row has the keys of no shape, or of several.
    """
    try:
        found = detect_format(row)
    except RowError as error:
        raise DatasetError(
            f"Line {line}: {error.reason}", hint="Keep the keys of one shape, or name the shape as `format`."
        ) from error
    if found is None:
        keys = ", ".join(f"`{key}`" for key in list(row)[:8]) or "none"
        raise DatasetError(
            f"Line {line} has neither `messages` nor `prompt` and `completion` nor `text`, nor the keys of another "
            f"shape; its keys: {keys}.",
            hint=FORMAT_HINT,
        )
    return found


def format_of_columns(purposes: Iterable[str]) -> Format | None:
    """The shape of rows whose columns were named for these purposes, if that says it."""
    named = set(purposes)
    if named & {"chosen", "rejected"}:
        return "preference"
    if "messages" in named:
        return None if "label" in named else "messages"
    if "label" in named:
        return "kto" if named & {"prompt", "completion"} else "classification"
    if named & {"prompt", "completion"} or {"image", "text"} <= named:
        return "prompt_completion"
    return "text" if "text" in named else None


def other_format(row: Mapping[str, Any], expected: Format) -> Format | None:
    """The other shape that a row which cannot be read as the expected one has, if any."""
    if _announced(row).keys() == {expected}:
        return None
    try:
        found = detect_format(row)
    except RowError:
        return None
    return found if found != expected and not _is_marked(row, expected) else None


def _announced(row: Mapping[str, Any]) -> dict[Format, str]:
    """Shapes that a row has all keys of, with those keys in words."""
    found: dict[Format, str] = {}
    for shape, keys in _MARKS:
        if all(key in row for key in keys):
            meant = _with_label(row, shape) if shape in ("messages", "prompt_completion") else shape
            found[meant] = " and ".join(f"`{key}`" for key in keys)
    if any(key in row for key in REJECTED_KEYS):
        found.pop("messages", None)
    return found


def _with_label(row: Mapping[str, Any], shape: Format) -> Format:
    """The shape of turns, or of prompt and completion, given the `label` beside them."""
    label = row.get("label")
    if label is None:
        return shape
    if shape == "prompt_completion":
        return "kto" if as_flag(label) is not None else shape
    if isinstance(label, bool) or (isinstance(label, str) and label.strip().lower() in ("true", "false")):
        return "kto"
    return shape if _has_answer(row["messages"]) else "classification"


def _has_answer(turns: Any) -> bool:
    return isinstance(turns, list) and any(isinstance(turn, dict) and turn.get("role") == "assistant" for turn in turns)


def _by_weak_keys(row: Mapping[str, Any]) -> Format | None:
    """The shape by keys that are only looked at where no others are: many data sets have them beside others."""
    asks = any(key in row for key in QUERY_KEYS)
    if asks and any(key in row for key in RESPONSE_KEYS if key not in QUERY_KEYS and key != "text"):
        return "query_response"
    if "prompt" in row or "completion" in row:
        return "prompt_completion"
    if "text" in row:
        return "classification" if as_class(row.get("label")) is not None else "text"
    return None


def _is_marked(row: Mapping[str, Any], shape: Format) -> bool:
    """Whether a row has the key that marks a shape, so that its fault is one of its own."""
    marks: dict[Format, tuple[str, ...]] = {
        "messages": ("messages",),
        "classification": ("label", "text", "messages"),
        "kto": ("label", "prompt", "completion", "messages"),
        "text": ("text",),
        "preference": ("chosen", "rejected", *PREFERRED_KEYS, *NON_PREFERRED_KEYS, *REJECTED_KEYS),
        "tokens": ID_KEYS,
    }
    return any(key in row for key in marks.get(shape, ()))
