"""Rows of supervised text: each is one token sequence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from tunesmith.data.examples import Conversation, Example, Message, PromptCompletion, Text, Tokens
from tunesmith.spec.errors import DatasetError
from tunesmith.training.shapes import is_plain, wrong_shape
from tunesmith.training.text import Encoder, TokenRow

TrainOn = Literal["assistant", "last", "all"]

_TRAINED = "conversations without pictures, prompts with completions, plain text, and rows of tokens"

_Supervised = Conversation | PromptCompletion | Text | Tokens
S = TypeVar("S", Conversation, PromptCompletion, Text, Tokens, _Supervised)


@dataclass(frozen=True)
class SupervisedShape:
    """Conversations, prompts with completions, plain text, tokens."""

    method: str
    train_on: TrainOn
    """Which part carries loss: the assistant's turns and completions, the last of these turns alone, or everything."""

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[TokenRow]:
        """Token rows of any length, in order.

        Raises:
            DatasetError: an example is of another kind, or cannot be tokenised.
        """
        known = [self._checked(example) for example in examples]
        match self.train_on:
            case "assistant":
                return encoder.encode(known)
            case "last":
                return encoder.encode([only_last(example) for example in known])
            case "all":
                rows = encoder.encode(known)
                return [
                    throughout(lambda each: encoder.encode([each])[0], row, example)
                    for row, example in zip(rows, known, strict=True)
                ]

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        return 1

    def label_of(self, _row: TokenRow) -> int:
        """Nothing."""
        return 0

    def row_of(self, sequences: tuple[TokenRow, ...], _label: int) -> TokenRow:
        """The sequence itself."""
        return sequences[0]

    def _checked(self, example: Example) -> _Supervised:
        match example:
            case Tokens() if self.train_on != "assistant":
                raise DatasetError(
                    f"Line {example.line} is a row of tokens, whose labels say what is trained: `train_on` "
                    f"{self.train_on!r} has no effect.",
                    hint="Leave `train_on` out.",
                )
            case Conversation() | PromptCompletion() | Text() | Tokens() if is_plain(example):
                return example
        raise wrong_shape(example, self.method, _TRAINED)


def only_last(example: S) -> S:
    """The example with loss on the last of its trained turns alone."""
    if not isinstance(example, Conversation):
        return example
    last = max((index for index, turn in enumerate(example.messages) if turn.trained), default=None)
    turns = tuple(replace(turn, trained=index == last) for index, turn in enumerate(example.messages))
    return replace(example, messages=turns)


def throughout(encode: Callable[[Conversation], TokenRow], row: TokenRow, example: _Supervised) -> TokenRow:
    """The row with loss on all but its first token and the assistant's turns that the example keeps out of it."""
    trained = np.arange(row.length) > 0
    if isinstance(example, Conversation) and any(_is_kept_out(turn) for turn in example.messages):
        turns = tuple(replace(turn, trained=_is_kept_out(turn)) for turn in example.messages)
        kept_out = encode(replace(example, messages=turns))
        trained[: kept_out.length] &= ~kept_out.trained[: row.length]
    return TokenRow(row.line, row.ids, trained)


def _is_kept_out(turn: Message) -> bool:
    return turn.role == "assistant" and not turn.trained
