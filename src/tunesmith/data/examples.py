"""Canonical examples: what every shape of row becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class RowError(ValueError):
    """One row cannot be used. `path` names the field within the row, if there is one to name."""

    def __init__(self, path: str | None, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that a turn shows."""

    source: str | bytes
    """An address, a data URI, a path as the row has it, or the encoded picture itself. Not opened here."""


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

    parts: tuple[str | Image, ...] = ()
    """Text and pictures in their order, for a turn that shows pictures; `content` is then its text alone."""


Content = str | tuple[Message, ...]
"""Plain text, or turns for the model's chat template."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns to be rendered by the model's chat template."""

    line: int
    """1-based line of the file; where the file has no lines, the row's number."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None
    member: str | None = None
    """File within the archive, if the rows come in one."""

    @property
    def images(self) -> tuple[Image, ...]:
        """All pictures in order."""
        return tuple(part for turn in self.messages for part in turn.parts if isinstance(part, Image))

    @property
    def characters(self) -> int:
        """Length of its text."""
        return length_of(self.messages)


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """Plain text in two parts, of which the second carries loss."""

    line: int
    prompt: str
    completion: str
    member: str | None = None

    @property
    def characters(self) -> int:
        """Length of its text."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text that carries loss throughout."""

    line: int
    text: str
    member: str | None = None
    label: object = field(default=None, compare=False)
    """What the row has beside it as `label`, which is no number of a class. Not trained on."""

    @property
    def characters(self) -> int:
        """Length of its text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row that was tokenised by its author. All tuples have the same length."""

    line: int
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    """What each position is to be, at that position: -100 carries no loss."""

    attention_mask: tuple[int, ...] | None
    """1 for a token, 0 for padding; none = no padding."""

    member: str | None = None

    @property
    def characters(self) -> None:
        """Unknown: the row has no text."""
        return


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, of which the first is preferred. All three are text, or all three are turns."""

    line: int
    prompt: Content
    chosen: Content
    rejected: Content
    tools: tuple[Any, ...] | None = None
    member: str | None = None

    @property
    def characters(self) -> int:
        """Length of prompt and longer answer."""
        return length_of(self.prompt) + max(length_of(self.chosen), length_of(self.rejected))


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer that was found good or bad (KTO). Both parts are text, or both are turns."""

    line: int
    prompt: Content
    completion: Content
    good: bool
    tools: tuple[Any, ...] | None = None
    member: str | None = None

    @property
    def characters(self) -> int:
        """Length of its text."""
        return length_of(self.prompt) + length_of(self.completion)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, or turns, and the class that it belongs to."""

    line: int
    content: Content
    label: int
    """0 to 9,999."""

    member: str | None = None

    @property
    def characters(self) -> int:
        """Length of its text."""
        return length_of(self.content)


Example = Conversation | PromptCompletion | Text | Tokens | Preference | Judged | Labelled


def length_of(text: Content) -> int:
    """Characters of a text or of all turns."""
    if isinstance(text, str):
        return len(text)
    return sum([len(turn.content) for turn in text if turn.content])


_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def kind_of(value: object) -> str:
    """What a decoded value is, in words for a message."""
    return "null" if value is None else _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def text_of(row: Mapping[str, Any], key: str) -> str:
    """A text that the row must have.

    Raises:
        RowError: it is missing, no string, or blank.
    """
    if key not in row:
        raise RowError(key, f"`{key}` is missing.")
    value = row[key]
    if not isinstance(value, str):
        raise RowError(key, f"`{key}` must be a string, got {kind_of(value)}.")
    if not value.strip():
        raise RowError(key, f"`{key}` is empty.")
    return value


def optional_text(row: Mapping[str, Any], key: str) -> str | None:
    """A text that the row may lack; none also where it is blank.

    Raises:
        RowError: it is there and no string.
    """
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise RowError(key, f"`{key}` must be a string, got {kind_of(value)}.")
    return value if value and value.strip() else None


def one_key(row: Mapping[str, Any], keys: Sequence[str], what: str) -> str:
    """Which of several spellings the row uses.

    Raises:
        RowError: none of them, or more than one.
    """
    present = [key for key in keys if key in row]
    if len(present) == 1:
        return present[0]
    if not present:
        raise RowError(keys[0], f"The {what} is missing: none of {_ticked(keys)}.")
    raise RowError(
        present[1],
        f"The row has {_ticked(present)}, and each could be the {what}. Keep one of them, or name the column.",
    )


def _ticked(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
