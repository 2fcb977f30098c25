"""What pydantic finds wrong with a value, in words for whoever gave it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# A value under such a name is never repeated in an answer.
_SECRET = re.compile("key|token(?!s)|password|secret|certificate|from_checkpoint|integrations|url")

_VALUE_CHARACTERS = 100

# Parts of a location that name a branch of a union or a wrapper of a type instead of a field, where it is not known
# what was given: `constrained-int`, `literal['epoch']`, `function-after[...]`, `int`.
_NO_FIELD = re.compile(r"\W|^(?:int|float|str|bool|none|dict|list|tuple|set)$")


def place(problem: Mapping[str, Any], given: object) -> tuple[int | str, ...]:
    """Where in a JSON value a problem lies, without the names of types: only a missing field is not in the value."""
    location: Sequence[int | str] = problem["loc"]
    found: list[int | str] = []
    for part in location:
        is_there = part in given if isinstance(given, dict) else isinstance(given, list) and isinstance(part, int)
        if is_there:
            given = given[part]  # type: ignore[index]
            found.append(part)
    return (*found, location[-1]) if problem["type"] == "missing" else tuple(found)


def path_of(location: Sequence[int | str]) -> str:
    """The path of a fault where the whole value is not known."""
    return ".".join(str(part) for part in location if isinstance(part, int) or not _NO_FIELD.search(part))


def sentence(problem: Mapping[str, Any], param: str) -> str:
    """One sentence on one of pydantic's problems with the value at a path, which it shows unless it may be secret."""
    kind, value = problem["type"], problem.get("input")
    if kind == "missing":
        return f"{param} is required."
    if kind == "extra_forbidden":
        return f"{param} is not a field of this request."
    if _SECRET.search(param.lower()):
        return f"{param} is not valid."
    shown = repr(value) if len(repr(value)) <= _VALUE_CHARACTERS else f"{repr(value)[:_VALUE_CHARACTERS]}…"
    return f"{param}: {reason(problem)}, got {shown}."


# What JSON calls them, instead of Python's names for types.
_WORDS = {
    "dict_type": "input should be an object",
    "model_type": "input should be an object",
    "model_attributes_type": "input should be an object",
    "tuple_type": "input should be a list",
    "list_type": "input should be a list",
}


def reason(problem: Mapping[str, Any]) -> str:
    """Why a value is not allowed, without a full stop."""
    if problem["type"] in _WORDS:
        return _WORDS[problem["type"]]
    message = (
        str(problem["msg"]).replace("Tuple should have", "List should have").removeprefix("Value error, ").rstrip(".")
    )
    return message[:1].lower() + message[1:]
