"""What a method makes of an example, and which examples it refuses."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from tunesmith.data.examples import (
    Content,
    Conversation,
    Example,
    Image,
    Judged,
    Labelled,
    Preference,
    PromptCompletion,
    Text,
    Tokens,
)
from tunesmith.spec.errors import DatasetError
from tunesmith.training.text import Encoder, TokenRow

_NAMES = {
    Conversation: "conversation",
    PromptCompletion: "prompt with a completion",
    Text: "plain text",
    Tokens: "row of tokens",
    Preference: "`preference` row",
    Judged: "`kto` row",
    Labelled: "`classification` row",
}


class Row(Protocol):
    """One example as a model sees it: one token sequence, or two that belong together."""

    @property
    def line(self) -> int:
        """Line of the file."""
        ...

    @property
    def sequences(self) -> tuple[TokenRow, ...]:
        """Its token sequences."""
        ...

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens of all its sequences."""
        ...

    @property
    def trained_count(self) -> int:
        """Tokens that carry loss."""
        ...

    @property
    def trainable(self) -> bool:
        """Whether it has all that its loss needs."""
        ...

    def truncated(self: "R", length: int) -> "R":
        """The row with the beginnings of its sequences."""
        ...


R = TypeVar("R", bound=Row)


class RowShape(Protocol[R]):
    """How examples become rows of one kind."""

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[R]:
        """Rows of any length, in order.

        Raises:
            DatasetError: an example is of another kind, or cannot be tokenised.
        """
        ...

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        ...

    def label_of(self, row: R) -> int:
        """What a row has beside its tokens; 0 if there is nothing."""
        ...

    def row_of(self, sequences: tuple[TokenRow, ...], label: int) -> R:
        """The row of `width` sequences and a label."""
        ...


def wrong_shape(example: Example, method: str, trained: str) -> DatasetError:
    """The refusal of an example; `trained` names the shapes that the method takes."""
    name = _NAMES[type(example)]
    pictures = " with pictures" if _has_pictures(example) else ""
    return DatasetError(
        f"Line {example.line} is a {name}{pictures}, which the method `{method}` does not train.",
        hint=f"It trains {trained}.",
    )


def is_plain(example: Example) -> bool:
    """Whether an example shows no pictures."""
    return not _has_pictures(example)


def supervised(
    line: int, prompt: Content, answer: Content, tools: tuple[Any, ...] | None
) -> Conversation | PromptCompletion:
    """A prompt with its answer, of which the answer carries loss."""
    if isinstance(prompt, str):
        assert isinstance(answer, str)
        return PromptCompletion(line, prompt, answer)
    assert not isinstance(answer, str)
    return Conversation(line, prompt + answer, tools)


def _has_pictures(example: Example) -> bool:
    match example:
        case Conversation(messages=content) | Labelled(content=content):
            contents = [content]
        case Preference(prompt=prompt, chosen=chosen, rejected=rejected):
            contents = [prompt, chosen, rejected]
        case Judged(prompt=prompt, completion=completion):
            contents = [prompt, completion]
        case _:
            return False
    turns = [turn for content in contents if not isinstance(content, str) for turn in content]
    return any(isinstance(part, Image) for turn in turns for part in turn.parts)
