"""Rows with a class, and rows that are tokens already."""

import itertools
import reprlib
from collections.abc import Mapping
from typing import Any

from tunesmith.data.conversations import messages_of
from tunesmith.data.examples import Labelled, RowError, Text, Tokens, kind_of, one_key, text_of
from tunesmith.data.turns import untrained

ID_KEYS = ("token_ids", "input_ids")

UNTRAINED = -100
"""Label of a position that carries no loss."""

MAX_CLASSES = 10_000
"""A model gives each a score of its own, so a stray number must not decide how many there are."""

_MAX_ID = 2**31 - 1


def read_text(row: Mapping[str, Any], line: int) -> Text:
    """Read a row with `text`.

    Raises:
        RowError: the row cannot be trained.
    """
    return Text(line, text_of(row, "text"), label=row.get("label"))


def as_class(value: Any) -> int | None:
    """The number of a class: an integer from 0, or one as text; else none."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def no_class(value: Any) -> str:
    """Why a value is not the number of a class."""
    return (
        f"`label` must be the number of a class, an integer from 0 to {MAX_CLASSES - 1:,}, got {reprlib.repr(value)}."
    )


def read_classification(row: Mapping[str, Any], line: int) -> Labelled:
    """Read a row with `text` or `messages`, and `label`.

    Raises:
        RowError: the row cannot be trained.
    """
    if "label" not in row:
        raise RowError("label", "`label` is missing.")
    label = as_class(row["label"])
    if label is None or label >= MAX_CLASSES:
        raise RowError("label", no_class(row["label"]))
    if "messages" not in row:
        return Labelled(line, text_of(row, "text"), label)
    turns = messages_of(row, "messages")
    answered = next((index for index, turn in enumerate(turns) if turn.role == "assistant"), None)
    if answered is not None:
        raise RowError(f"messages[{answered}].role", "a row with a class may not hold turns of the assistant.")
    return Labelled(line, untrained(turns), label)


def read_tokens(row: Mapping[str, Any], line: int) -> Tokens:
    """Read a row with `token_ids` or `input_ids`, perhaps `labels` and `attention_mask`.

    Raises:
        RowError: the row cannot be trained.
    """
    key = one_key(row, ID_KEYS, "list of tokens")
    ids = _numbers(row, key, None)
    _require_range(ids, key, lambda number: 0 <= number <= _MAX_ID, f"from 0 to {_MAX_ID}")
    labels = _numbers(row, "labels", len(ids)) if row.get("labels") is not None else ids
    _require_range(
        labels, "labels", lambda number: number == UNTRAINED or 0 <= number <= _MAX_ID, f"0 or more, or {UNTRAINED}"
    )
    mask = _numbers(row, "attention_mask", len(ids)) if row.get("attention_mask") is not None else None
    _require_range(mask or (), "attention_mask", lambda number: number in (0, 1), "0 or 1")
    if all(label == UNTRAINED for label in itertools.islice(labels, 1, None)):
        raise RowError("labels", "no token behind the first carries loss, so there is nothing to train on.")
    return Tokens(line, ids, labels, mask)


def _numbers(row: Mapping[str, Any], key: str, length: int | None) -> tuple[int, ...]:
    listed = row[key]
    if not isinstance(listed, list):
        raise RowError(key, f"`{key}` must be a list of integers, got {kind_of(listed)}.")
    if not set(map(type, listed)) <= {int}:
        index, value = next((index, value) for index, value in enumerate(listed) if type(value) is not int)
        raise RowError(f"{key}[{index}]", f"must be an integer, got {kind_of(value)}.")
    if length is not None and len(listed) != length:
        raise RowError(key, f"`{key}` has {len(listed)} entries for {length} tokens.")
    return tuple(listed)


def _require_range(numbers: tuple[int, ...], key: str, fits: Any, allowed: str) -> None:
    for index, number in enumerate(numbers):
        if not fits(number):
            raise RowError(f"{key}[{index}]", f"must be {allowed}, got {number}.")
