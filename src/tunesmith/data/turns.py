"""Turns of a conversation, as OpenAI's `messages` write them."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith.data.examples import NO_FIELDS, Image, Message, RowError, kind_of

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

SYSTEM_ROLES = frozenset({"system", "developer"})

PENDING = ""
"""Source of a picture whose part names none: it is the next one of the row's `images`."""

# Whether a turn is trained, in the words of OpenAI, Axolotl and ms-swift.
_FLAGS = ("weight", "train", "loss", "loss_scale")
_OWN_KEYS = frozenset({"role", "content", *_FLAGS})

_IMAGE_PARTS = ("image_url", "image", "input_image")
_OTHER_MEDIA = ("audio", "video")


def read_turns(turns: Any, path: str) -> tuple[Message, ...]:
    """Read a list of messages.

    Raises:
        RowError: it is none, or a message cannot be used.
    """
    if not isinstance(turns, list):
        raise RowError(path, f"`{path}` must be a list, got {kind_of(turns)}.")
    if not turns:
        raise RowError(path, f"`{path}` is an empty list.")
    return tuple([_read_turn(turn, path, index) for index, turn in enumerate(turns)])


def untrained(turns: Iterable[Message]) -> tuple[Message, ...]:
    """The same turns without loss."""
    return tuple([Message(turn.role, turn.content, False, turn.fields, turn.parts) for turn in turns])


def require_assistant(messages: tuple[Message, ...], path: str) -> None:
    """See that there is something to train.

    Raises:
        RowError: no turn carries loss.
    """
    for message in messages:
        if message.trained:
            return
    if any(message.role == "assistant" for message in messages):
        raise RowError(path, "every assistant message has weight 0, so there is nothing to train on.")
    raise RowError(path, "no message has the role `assistant`, so there is nothing to train on.")


def read_tools(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Tools offered in a row: `tools`, as a list or as its JSON text, or the older `functions`.

    Raises:
        RowError: they are no list of objects.
    """
    tools, functions = row.get("tools"), row.get("functions")
    if tools is None and functions is None:
        return None
    if tools is not None and functions is not None:
        raise RowError("functions", "the row has both `tools` and `functions`; keep `tools`.")
    key = "tools" if tools is not None else "functions"
    listed = _listed_tools(tools if tools is not None else functions, key)
    if functions is not None:
        listed = [{"type": "function", "function": function} for function in listed]
    return tuple(listed) or None


def trained_turn(turn: Mapping[str, Any], role: str, path: str) -> bool:
    """Whether a turn may carry loss, by its role and the flags on it.

    Raises:
        RowError: a flag is neither yes nor no, contradicts another, or asks to train a turn of another role.
    """
    said: dict[str, bool] = {}
    for flag in _FLAGS:
        value = turn.get(flag)
        if value is not None:
            said[flag] = _yes_or_no(value, flag, f"{path}.{flag}")
    if len(set(said.values())) > 1:
        raise RowError(path, f"{' and '.join(f'`{flag}`' for flag in said)} contradict each other.")
    if role == "assistant":
        return all(said.values())
    if any(said.values()):
        flag = next(iter(said))
        raise RowError(f"{path}.{flag}", f"`{flag}` asks to train a turn of `{role}`; only the assistant's can be.")
    return False


def calls_tools(turn: Mapping[str, Any], path: str) -> bool:
    """Whether a turn calls a tool.

    Raises:
        RowError: `tool_calls` is no list of objects.
    """
    calls = turn.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        raise RowError(f"{path}.tool_calls", f"`tool_calls` must be a list of objects, got {kind_of(calls)}.")
    return bool(calls) or isinstance(turn.get("function_call"), dict)


def _read_turn(turn: Any, path: str, index: int) -> Message:
    if not isinstance(turn, dict):
        raise RowError(f"{path}[{index}]", f"a message must be an object, got {kind_of(turn)}.")
    role, content = turn.get("role"), turn.get("content")
    # Nearly all turns of nearly all files are of this kind.
    if len(turn) == 2 and type(content) is str and type(role) is str and role in ROLES:
        if role == "assistant" and not content.strip():
            raise RowError(f"{path}[{index}].content", "the assistant's text is empty.")
        return Message(role, content, role == "assistant", NO_FIELDS)
    return _read_full_turn(turn, f"{path}[{index}]")


def _read_full_turn(turn: dict[str, Any], path: str) -> Message:
    role = turn.get("role")
    if not isinstance(role, str) or role not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise RowError(f"{path}.role", f"unknown role {role!r}; known roles: {known}.")
    content, parts = _read_content(turn, role, path)
    if role == "assistant" and not calls_tools(turn, path) and not (content and content.strip()):
        raise RowError(f"{path}.content", "the assistant's text is empty.")
    if role == "assistant" and parts:
        raise RowError(f"{path}.content", "an assistant's turn cannot show pictures: only text can be trained.")
    fields = {key: value for key, value in turn.items() if key not in _OWN_KEYS and value is not None}
    return Message(role, content, trained_turn(turn, role, path), fields or NO_FIELDS, parts)


def _read_content(turn: Mapping[str, Any], role: str, path: str) -> tuple[str | None, tuple[str | Image, ...]]:
    content = turn.get("content")
    if isinstance(content, str):
        return content, ()
    if content is None:
        if role == "assistant" and calls_tools(turn, path):
            return None, ()
        raise RowError(f"{path}.content", "`content` is missing or null, which only an assistant that calls tools may.")
    if not isinstance(content, list):
        raise RowError(f"{path}.content", f"`content` must be a string or a list of parts, got {kind_of(content)}.")
    parts = tuple([_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)])
    text = "".join([part for part in parts if isinstance(part, str)])
    return text, parts if any(isinstance(part, Image) for part in parts) else ()


def _read_part(part: Any, path: str) -> str | Image:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise RowError(path, f"a content part must be an object, got {kind_of(part)}.")
    kind = part.get("type")
    if kind in _IMAGE_PARTS:
        return Image(_picture(part, path))
    if isinstance(kind, str) and any(medium in kind for medium in _OTHER_MEDIA):
        raise RowError(f"{path}.type", f"`{kind}` cannot be trained: content may be text and pictures.")
    if kind != "text":
        raise RowError(f"{path}.type", f"unknown part type {kind!r}; known: text, image_url, image.")
    text = part.get("text")
    if not isinstance(text, str):
        raise RowError(f"{path}.text", f"`text` must be a string, got {kind_of(text)}.")
    return text


def _picture(part: Mapping[str, Any], path: str) -> str | bytes:
    for key in ("image_url", "image", "url", "path"):
        if part.get(key) is not None:
            return image_source(part[key], f"{path}.{key}")
    if part["type"] == "image":
        return PENDING
    raise RowError(f"{path}.image_url", "the part names no picture: write `image_url` with its `url`.")


def image_source(value: Any, path: str) -> str | bytes:
    """A picture's address, path or content: a string, or an object with `url`, `path` or `bytes`.

    Raises:
        RowError: it is none of these.
    """
    if isinstance(value, dict):
        value = next((value[key] for key in ("bytes", "url", "path") if value.get(key)), None)
    if not isinstance(value, str | bytes) or not value:
        raise RowError(path, f"a picture must be named by a string or an object with `url`, got {kind_of(value)}.")
    return value


def _yes_or_no(value: Any, flag: str, path: str) -> bool:
    truth = isinstance(value, bool)
    if truth == (flag in ("train", "loss")) and value in (0, 1):
        return bool(value)
    allowed = "true or false" if flag in ("train", "loss") else "0 or 1"
    raise RowError(path, f"`{flag}` must be {allowed}, got {value!r}.")


def _listed_tools(tools: Any, path: str) -> list[Any]:
    if isinstance(tools, str):
        tools = from_json_text(tools, path)
    if not isinstance(tools, list):
        raise RowError(path, f"`{path}` must be a list, got {kind_of(tools)}.")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise RowError(f"{path}[{index}]", f"a tool must be an object, got {kind_of(tool)}.")
    return tools


def from_json_text(text: str, path: str) -> Any:
    """The value that a string holds as JSON; none where it is blank.

    Raises:
        RowError: it is no JSON.
    """
    try:
        return json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise RowError(path, f"`{path}` is a string, but not JSON: {json_fault(error)}.") from error


def json_fault(error: Exception) -> str:
    """Why a JSON text could not be decoded."""
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case ValueError() if not isinstance(error, json.JSONDecodeError):
            # Python's guard against numbers that take long to convert.
            return f"it has an integer of more than {sys.get_int_max_str_digits():,} digits"
        case _:
            return str(error)
