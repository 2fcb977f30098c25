"""Rows that compare or judge answers: preference in its spellings, and KTO."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.conversations import (
    QUERY_KEYS,
    alpaca_prompt,
    assistant_turn,
    messages_of,
    row_system,
    user_turn,
    with_row_system,
)
from tunesmith.data.examples import Content, Judged, Message, Preference, RowError, kind_of, one_key, text_of
from tunesmith.data.pictures import place_pictures
from tunesmith.data.turns import read_tools, read_turns, require_assistant, untrained

PREFERRED_KEYS = ("preferred_output", "preferred_completion")
NON_PREFERRED_KEYS = ("non_preferred_output", "non_preferred_completion")
REJECTED_KEYS = ("rejected_response", "rejected_messages")

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def read_preference(row: Mapping[str, Any], line: int) -> Preference:
    """Read a row with two answers to one prompt, in OpenAI's, ms-swift's or TRL's spelling.

    Raises:
        RowError: the row cannot be trained.
    """
    if any(key in row for key in PREFERRED_KEYS + NON_PREFERRED_KEYS):
        example = _openai_preference(row, line)
    elif any(key in row for key in REJECTED_KEYS):
        example = _swift_preference(row, line)
    else:
        example = _trl_preference(row, line)
    if example.chosen == example.rejected:
        raise RowError("rejected", "both answers are the same, so there is nothing to prefer.")
    return example


def as_flag(value: Any) -> bool | None:
    """Yes or no: a boolean, 0 or 1, or one of these as text; else none."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, bool | int) and value in (0, 1) else None


def read_kto(row: Mapping[str, Any], line: int) -> Judged:
    """Read a row with an answer and `label`: true where it is good.

    Raises:
        RowError: the row cannot be trained.
    """
    if "label" not in row:
        raise RowError("label", "`label` is missing.")
    good = as_flag(row["label"])
    if good is None:
        raise RowError("label", f"`label` must be true or false, got {row['label']!r}.")
    if "messages" in row:
        turns = messages_of(row, "messages")
        require_assistant(turns[-1:], "messages")
        return Judged(line, untrained(turns[:-1]), turns[-1:], good, read_tools(row))
    for key in ("prompt", "completion"):
        if key not in row:
            raise RowError(key, f"`{key}` is missing.")
    prompt, completion = _sides(row, row["prompt"], "prompt", "completion")
    return Judged(line, prompt, completion, good, read_tools(row))


def _openai_preference(row: Mapping[str, Any], line: int) -> Preference:
    given = row.get("input")
    if not isinstance(given, dict):
        raise RowError("input", f"`input` must be an object with `messages`, got {kind_of(given)}.")
    try:
        prompt = untrained(messages_of(given, "messages"))
        tools = read_tools(given)
    except RowError as error:
        raise RowError(f"input.{error.path}", error.reason) from error
    chosen = _answer(row, one_key(row, PREFERRED_KEYS, "preferred answer"))
    rejected = _answer(row, one_key(row, NON_PREFERRED_KEYS, "answer that is not preferred"))
    return Preference(line, prompt, chosen, rejected, tools)


def _swift_preference(row: Mapping[str, Any], line: int) -> Preference:
    turns = messages_of(row, "messages")
    require_assistant(turns[-1:], "messages")
    key = one_key(row, REJECTED_KEYS, "rejected answer")
    if key == "rejected_messages":
        return _without_common_turns(line, turns, messages_of(row, key), read_tools(row), key)
    rejected = _answer(row, key) if isinstance(row[key], list) else (assistant_turn(text_of(row, key)),)
    return Preference(line, untrained(turns[:-1]), turns[-1:], rejected, read_tools(row))


def _trl_preference(row: Mapping[str, Any], line: int) -> Preference:
    for key in ("chosen", "rejected"):
        if key not in row:
            raise RowError(key, f"`{key}` is missing.")
    prompt = _prompt_of(row)
    if prompt is None or (isinstance(prompt, str) and isinstance(row["chosen"], list)):
        return _implicit_prompt(row, line, prompt)
    text, chosen = _sides(row, prompt, "prompt", "chosen")
    _, rejected = _sides(row, prompt, "prompt", "rejected")
    return Preference(line, text, chosen, rejected, read_tools(row))


def _prompt_of(row: Mapping[str, Any]) -> Any:
    if "instruction" in row:
        return alpaca_prompt(row)
    if not any(key in row for key in QUERY_KEYS):
        return None
    return row[one_key(row, QUERY_KEYS, "prompt")]


def _sides(row: Mapping[str, Any], prompt: Any, prompt_key: str, answer_key: str) -> tuple[Content, Content]:
    """Prompt and one answer: both text, or both turns. Text beside a system text becomes turns."""
    answer = row[answer_key]
    if isinstance(prompt, str) and isinstance(answer, str):
        answer = text_of(row, answer_key)
        if row_system(row) or row.get("image") or row.get("images"):
            return place_pictures(row, with_row_system(row, (user_turn(prompt),))), (assistant_turn(answer),)
        return prompt, answer
    if isinstance(prompt, list) and isinstance(answer, list):
        given = untrained(read_turns(prompt, prompt_key))
        return place_pictures(row, with_row_system(row, given)), _answer(row, answer_key)
    kinds = f"{kind_of(prompt)} and {kind_of(answer)}"
    raise RowError(answer_key, f"prompt and `{answer_key}` must be two strings or two lists of messages, got {kinds}.")


def _answer(row: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    turns = read_turns(row[key], key)
    require_assistant(turns, key)
    return turns


def _implicit_prompt(row: Mapping[str, Any], line: int, prompt: str | None) -> Preference:
    """The prompt is what both answers begin with."""
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        turns = with_row_system(row, _answer(row, "chosen"))
        other = with_row_system(row, _answer(row, "rejected"))
        if prompt is not None and not any(turn.role == "user" and turn.content == prompt for turn in turns):
            raise RowError(
                "prompt", "`prompt` is a string that no turn of `chosen` repeats; make it a list of messages."
            )
        return _without_common_turns(line, place_pictures(row, turns), other, read_tools(row), "rejected")
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        kinds = f"{kind_of(chosen)} and {kind_of(rejected)}"
        raise RowError("chosen", f"`chosen` and `rejected` must be two strings or two lists of messages, got {kinds}.")
    if row_system(row):
        raise RowError("system", "a system text needs a `prompt` beside it.")
    length = next((i for i, (one, two) in enumerate(zip(chosen, rejected, strict=False)) if one != two), None)
    if length is None:
        length = min(len(chosen), len(rejected))
    if length and chosen[length - 1] == " ":  # a word's token holds the space before it
        length -= 1
    if not (chosen[length:].strip() and rejected[length:].strip()):
        raise RowError("rejected", "one answer is only the beginning of the other.")
    return Preference(line, chosen[:length], chosen[length:], rejected[length:])


def _without_common_turns(
    line: int, chosen: tuple[Message, ...], rejected: tuple[Message, ...], tools: tuple[Any, ...] | None, key: str
) -> Preference:
    length = 0
    while length < min(len(chosen), len(rejected)) - 1 and _plain(chosen[length]) == _plain(rejected[length]):
        length += 1
    for turns in (chosen, rejected):
        require_assistant(turns[length:], key)
    return Preference(line, untrained(chosen[:length]), chosen[length:], rejected[length:], tools)


def _plain(turn: Message) -> Message:
    return replace(turn, trained=False, parts=())
