"""Rows that become conversations: messages, ShareGPT in two spellings, Alpaca, and query with response."""

from collections.abc import Mapping
from typing import Any

from tunesmith.data.examples import (
    NO_FIELDS,
    Conversation,
    Message,
    PromptCompletion,
    RowError,
    kind_of,
    one_key,
    optional_text,
    text_of,
)
from tunesmith.data.pictures import place_pictures
from tunesmith.data.turns import (
    SYSTEM_ROLES,
    from_json_text,
    read_tools,
    read_turns,
    require_assistant,
    trained_turn,
    untrained,
)

QUERY_KEYS = ("query", "prompt", "input", "instruction", "question", "problem")
CLEAR_RESPONSE_KEYS = (
    "response",
    "answer",
    "output",
    "target",
    "targets",
    "completion",
    "solution",
    "answers",
    "answer_key",
)
RESPONSE_KEYS = (*CLEAR_RESPONSE_KEYS, "text", "content")
"""ms-swift's names for the two halves of a row."""

SYSTEM_KEYS = ("system", "system_prompt")

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_CALLS = frozenset({"function_call", "tool_call"})


def read_messages(row: Mapping[str, Any], line: int) -> Conversation:
    """Read a row with `messages` and perhaps `system`, `tools` or `images`.

    Raises:
        RowError: the row cannot be trained.
    """
    messages = messages_of(row, "messages")
    require_assistant(messages, "messages")
    return Conversation(line, messages, read_tools(row) if len(row) > 1 else None)


def messages_of(row: Mapping[str, Any], key: str) -> tuple[Message, ...]:
    """A row's list of messages with its system text and its pictures.

    Raises:
        RowError: it is missing, or a message cannot be used.
    """
    if key not in row:
        raise RowError(key, f"`{key}` is missing.")
    turns = read_turns(row[key], key)
    if len(row) > 1:
        turns = with_row_system(row, turns)
    if len(row) > 1 or any(turn.parts for turn in turns):
        turns = place_pictures(row, turns)
    return turns


def read_sharegpt(row: Mapping[str, Any], line: int) -> Conversation:
    """Read a row with `conversations` of `from` and `value`, or ms-swift's `conversation` of `human` and `assistant`.

    Raises:
        RowError: the row cannot be trained.
    """
    key = one_key(row, ("conversations", "conversation"), "conversation")
    listed = row[key]
    if not isinstance(listed, list):
        raise RowError(key, f"`{key}` must be a list, got {kind_of(listed)}.")
    turns: tuple[Message, ...] = ()
    for index, turn in enumerate(listed):
        turns += _sharegpt_turns(turn, f"{key}[{index}]")
    if not turns:
        raise RowError(key, f"`{key}` is an empty list.")
    require_assistant(turns, key)
    return Conversation(line, place_pictures(row, with_row_system(row, turns)), read_tools(row))


def read_alpaca(row: Mapping[str, Any], line: int) -> Conversation:
    """Read a row with `instruction` and `output`, perhaps `input`, `system` and `history`.

    Raises:
        RowError: the row cannot be trained.
    """
    return _asked_and_answered(row, line, alpaca_prompt(row), text_of(row, "output"))


def alpaca_prompt(row: Mapping[str, Any]) -> str:
    """The instruction and, on a line of its own, the input.

    Raises:
        RowError: the instruction is missing.
    """
    given = optional_text(row, "input")
    instruction = text_of(row, "instruction")
    return f"{instruction}\n{given}" if given else instruction


def read_query_response(row: Mapping[str, Any], line: int) -> Conversation:
    """Read a row with a query and a response, each under one of ms-swift's names, perhaps `system` and `history`.

    Raises:
        RowError: the row cannot be trained.
    """
    query = text_of(row, one_key(row, QUERY_KEYS, "query"))
    return _asked_and_answered(row, line, query, text_of(row, response_key(row)))


def response_key(row: Mapping[str, Any]) -> str:
    """Under which name a row has its response; `text` and `content` count only where there is no other.

    Raises:
        RowError: there is none, or more than one.
    """
    clear = [key for key in CLEAR_RESPONSE_KEYS if key in row]
    return one_key(row, clear or RESPONSE_KEYS, "response")


def read_prompt_completion(row: Mapping[str, Any], line: int) -> PromptCompletion | Conversation:
    """Read a row with `prompt` and `completion`: two strings, or two lists of messages.

    Two strings with a system text, a picture or tools beside them become turns.

    Raises:
        RowError: the row cannot be trained.
    """
    for key in ("prompt", "completion"):
        if key not in row:
            raise RowError(key, f"`{key}` is missing.")
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        if not completion:
            raise RowError("completion", "`completion` is empty, so there is nothing to train on.")
        if row_system(row) or any(row.get(key) for key in ("image", "images", "tools", "functions")):
            return _asked_and_answered(row, line, prompt, text_of(row, "completion"))
        return PromptCompletion(line, prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        given = place_pictures(row, with_row_system(row, untrained(read_turns(prompt, "prompt"))))
        wanted = read_turns(completion, "completion")
        require_assistant(wanted, "completion")
        return Conversation(line, given + wanted, read_tools(row))
    kinds = f"{kind_of(prompt)} and {kind_of(completion)}"
    raise RowError("prompt", f"`prompt` and `completion` must be two strings or two lists of messages, got {kinds}.")


def user_turn(text: str) -> Message:
    """A user's turn."""
    return Message("user", text, trained=False, fields=NO_FIELDS)


def assistant_turn(text: str) -> Message:
    """A trained turn of the assistant."""
    return Message("assistant", text, trained=True, fields=NO_FIELDS)


def row_system(row: Mapping[str, Any]) -> str | None:
    """The system text that stands beside a row's turns.

    Raises:
        RowError: it is no string, or there are two.
    """
    texts = [text for key in SYSTEM_KEYS if key in row and (text := optional_text(row, key))]
    if len(texts) > 1:
        raise RowError(SYSTEM_KEYS[1], "the row has both `system` and `system_prompt`; keep one.")
    return texts[0] if texts else None


def with_row_system(row: Mapping[str, Any], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Turns that begin with the row's own system text.

    Raises:
        RowError: the turns begin with another one.
    """
    system = row_system(row)
    if system is None or (turns and turns[0].role in SYSTEM_ROLES and turns[0].content == system):
        return turns
    if turns and turns[0].role in SYSTEM_ROLES:
        raise RowError("system", "the row has a system text, and its turns begin with another; keep one.")
    return with_system(turns, system)


def with_system(turns: tuple[Message, ...], system: str) -> tuple[Message, ...]:
    """Turns that begin with a system text: their own if they have one."""
    if turns and turns[0].role in SYSTEM_ROLES:
        return turns
    return (Message("system", system, trained=False, fields=NO_FIELDS), *turns)


def _asked_and_answered(row: Mapping[str, Any], line: int, query: str, response: str) -> Conversation:
    turns = (*_history(row), user_turn(query), assistant_turn(response))
    return Conversation(line, place_pictures(row, with_row_system(row, turns)), read_tools(row))


def _history(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Earlier exchanges: pairs of query and response. Their answers are trained, as ms-swift does."""
    history = row.get("history")
    if not history:
        return ()
    if not isinstance(history, list):
        raise RowError("history", f"`history` must be a list of pairs, got {kind_of(history)}.")
    turns: list[Message] = []
    for index, pair in enumerate(history):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise RowError(f"history[{index}]", "must be a pair of strings: query and response.")
        turns += [user_turn(pair[0]), assistant_turn(pair[1])]
    return tuple(turns)


def _sharegpt_turns(turn: Any, path: str) -> tuple[Message, ...]:
    if not isinstance(turn, dict):
        raise RowError(path, f"a turn must be an object, got {kind_of(turn)}.")
    if "from" in turn:
        return (_sharegpt_turn(turn, path),)
    if "role" in turn:
        raise RowError(path, "the turn has `role`; turns with `role` and `content` belong in `messages`.")
    if "human" not in turn and "assistant" not in turn:
        raise RowError(path, "a turn must have `from` and `value`, or `human` and `assistant`.")
    human, assistant = _value(turn, "human", path), _value(turn, "assistant", path)
    return user_turn(human), assistant_turn(assistant)


def _sharegpt_turn(turn: Mapping[str, Any], path: str) -> Message:
    speaker = turn["from"]
    role = _SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        known = ", ".join(_SHAREGPT_ROLES)
        raise RowError(f"{path}.from", f"unknown speaker {speaker!r}; known: {known}.")
    value = _value(turn, "value", path)
    trained = trained_turn(turn, role, path)
    if speaker not in _CALLS:
        return Message(role, value, trained, NO_FIELDS)
    call = from_json_text(value, f"{path}.value")
    calls = call if isinstance(call, list) else [call]
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in calls):
        raise RowError(f"{path}.value", "a call must be the JSON of an object with `name` and `arguments`.")
    fields = {"tool_calls": [{"type": "function", "function": each} for each in calls]}
    return Message(role, None, trained, fields)


def _value(turn: Mapping[str, Any], key: str, path: str) -> str:
    value = turn.get(key)
    if not isinstance(value, str):
        raise RowError(f"{path}.{key}", f"`{key}` must be a string, got {kind_of(value)}.")
    if not value.strip() and key != "human":
        raise RowError(f"{path}.{key}", f"`{key}` is empty.")
    return value
