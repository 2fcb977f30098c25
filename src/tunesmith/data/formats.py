"""Canonical examples, and the readers that turn one decoded row into one of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Format = Literal["messages", "prompt_completion", "text"]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
_OWN_KEYS = frozenset({"role", "content", "weight"})


class RowError(ValueError):
    """One row cannot be used. `path` names the field within the row, if there is one to name."""

    def __init__(self, path: str | None, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: str
    content: str | None
    """Text; none for an assistant's turn that only calls tools."""

    trained: bool
    """Whether the turn may carry loss: it is the assistant's, and its weight is not 0."""

    fields: Mapping[str, Any]
    """Everything else that the row says about the turn, for the chat template: `tool_calls`, `name`, ..."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns to be rendered by the model's chat template."""

    line: int
    """1-based line of the file."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """Plain text in two parts, of which the second carries loss."""

    line: int
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text that carries loss throughout."""

    line: int
    text: str


Example = Conversation | PromptCompletion | Text


def detect_format(row: Mapping[str, Any]) -> Format | None:
    """The format that a row's keys announce, or none."""
    if "messages" in row:
        return "messages"
    if "prompt" in row or "completion" in row:
        return "prompt_completion"
    if "text" in row:
        return "text"
    return None


def read_messages(row: Mapping[str, Any], line: int) -> Conversation:
    """Read a row with `messages` and perhaps `tools`.

    Raises:
        RowError: the row cannot be trained.
    """
    messages = _read_turns(row.get("messages"), "messages", required_when_absent="messages" not in row)
    _require_assistant(messages, "messages")
    return Conversation(line, messages, _read_tools(row.get("tools")))


def read_prompt_completion(row: Mapping[str, Any], line: int) -> PromptCompletion | Conversation:
    """Read a row with `prompt` and `completion`: two strings, or two lists of messages.

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
        return PromptCompletion(line, prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        return _read_turns_in_two_parts(prompt, completion, row, line)
    kinds = f"{_kind(prompt)} and {_kind(completion)}"
    raise RowError("prompt", f"`prompt` and `completion` must be two strings or two lists of messages, got {kinds}.")


def read_text(row: Mapping[str, Any], line: int) -> Text:
    """Read a row with `text`.

    Raises:
        RowError: the row cannot be trained.
    """
    if "text" not in row:
        raise RowError("text", "`text` is missing.")
    text = row["text"]
    if not isinstance(text, str):
        raise RowError("text", f"`text` must be a string, got {_kind(text)}.")
    if not text.strip():
        raise RowError("text", "`text` is empty.")
    return Text(line, text)


READERS: dict[Format, Callable[[Mapping[str, Any], int], Example]] = {
    "messages": read_messages,
    "prompt_completion": read_prompt_completion,
    "text": read_text,
}


def _read_turns_in_two_parts(
    prompt: list[Any], completion: list[Any], row: Mapping[str, Any], line: int
) -> Conversation:
    given = _read_turns(prompt, "prompt", required_when_absent=False)
    wanted = _read_turns(completion, "completion", required_when_absent=False)
    _require_assistant(wanted, "completion")
    untrained = tuple(Message(turn.role, turn.content, trained=False, fields=turn.fields) for turn in given)
    return Conversation(line, untrained + wanted, _read_tools(row.get("tools")))


def _read_turns(turns: Any, path: str, *, required_when_absent: bool) -> tuple[Message, ...]:
    if required_when_absent:
        raise RowError(path, f"`{path}` is missing.")
    if not isinstance(turns, list):
        raise RowError(path, f"`{path}` must be a list, got {_kind(turns)}.")
    if not turns:
        raise RowError(path, f"`{path}` is an empty list.")
    return tuple([_read_turn(turn, path, index) for index, turn in enumerate(turns)])


def _read_turn(turn: Any, path: str, index: int) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"{path}[{index}]", f"a message must be an object, got {_kind(turn)}.")
    role = turn.get("role")
    if not isinstance(role, str) or role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise RowError(f"{path}[{index}].role", f"unknown role {role!r}; known roles: {known}.")
    content = turn.get("content")
    if not isinstance(content, str):
        content = _read_content(turn, content, f"{path}[{index}]")
    fields = _NO_FIELDS
    if len(turn) > 2:
        fields = {key: value for key, value in turn.items() if key not in _OWN_KEYS and value is not None}
    if role != "assistant":
        return Message(role, content, trained=False, fields=fields)
    if not _calls(turn, f"{path}[{index}]") and not (content and content.strip()):
        raise RowError(f"{path}[{index}].content", "the assistant's text is empty.")
    return Message(role, content, trained=_weight(turn, f"{path}[{index}].weight"), fields=fields)


def _read_content(turn: Mapping[str, Any], content: Any, path: str) -> str | None:
    if content is None:
        if turn.get("role") == "assistant" and _calls(turn, path):
            return None
        raise RowError(f"{path}.content", "`content` is missing or null, which only an assistant that calls tools may.")
    if not isinstance(content, list):
        raise RowError(f"{path}.content", f"`content` must be a string or a list of parts, got {_kind(content)}.")
    return "".join([_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)])


def _read_part(part: Any, path: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RowError(path, f"a content part must be an object, got {_kind(part)}.")
    if part.get("type") != "text":
        raise RowError(f"{path}.type", f"unknown part type {part.get('type')!r}; only `text` can be trained.")
    text = part.get("text")
    if not isinstance(text, str):
        raise RowError(f"{path}.text", f"`text` must be a string, got {_kind(text)}.")
    return text


def _calls(turn: Mapping[str, Any], path: str) -> bool:
    """Whether the turn calls a tool."""
    calls = turn.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise RowError(f"{path}.tool_calls", f"`tool_calls` must be a list of objects, got {_kind(calls)}.")
    return bool(calls) or isinstance(turn.get("function_call"), dict)


def _weight(turn: Mapping[str, Any], path: str) -> bool:
    weight = turn.get("weight", 1)
    if weight is None:
        return True
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RowError(path, f"`weight` must be 0 or 1, got {weight!r}.")
    return bool(weight)


def _require_assistant(messages: tuple[Message, ...], path: str) -> None:
    if any(message.trained for message in messages):
        return
    if any(message.role == "assistant" for message in messages):
        raise RowError(path, "every assistant message has weight 0, so there is nothing to train on.")
    raise RowError(path, "no message has the role `assistant`, so there is nothing to train on.")


def _read_tools(tools: Any) -> tuple[Any, ...] | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise RowError("tools", f"`tools` must be a list, got {_kind(tools)}.")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise RowError(f"tools[{index}]", f"a tool must be an object, got {_kind(tool)}.")
    return tuple(tools) or None


_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS[type(value)]
