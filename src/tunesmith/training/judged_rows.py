"""Judged answers: a prompt with an answer that was found good or bad."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tunesmith.data.examples import Example, Judged
from tunesmith.training.shapes import is_plain, supervised, wrong_shape
from tunesmith.training.text import Encoder, Sequences, TokenRow


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRow(Sequences):
    """A prompt with its answer, which carries loss."""

    answered: TokenRow
    good: bool
    reference: float | None = None
    """What the model gave the answer before training, as log-probability in nats; none before that was computed."""

    @property
    def line(self) -> int:
        """Line of the file."""
        return self.answered.line

    @property
    def sequences(self) -> tuple[TokenRow, ...]:
        """The one that it is."""
        return (self.answered,)

    def truncated(self, length: int) -> "JudgedRow":
        """The row's beginning."""
        return replace(self, answered=self.answered.truncated(length))

    def with_answer_of(self, other: "JudgedRow", limit: int) -> TokenRow:
        """This row's prompt with another one's answer, up to `limit` tokens."""
        own, start = self._start, other._start
        ids = np.concatenate([self.answered.ids[:own], other.answered.ids[start:]])
        trained = np.concatenate([self.answered.trained[:own], other.answered.trained[start:]])
        return TokenRow(self.line, ids, trained).truncated(limit)

    @property
    def _start(self) -> int:
        """Where the answer begins."""
        return int(self.answered.trained.argmax())


@dataclass(frozen=True)
class JudgedShape:
    """Answers with a label that is true or false."""

    method: str

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[JudgedRow]:
        """Rows of any length, in order.

        Raises:
            DatasetError: an example is of another kind, or cannot be tokenised.
        """
        judged = [self._checked(example) for example in examples]
        rows = encoder.encode([supervised(each.line, each.prompt, each.completion, each.tools) for each in judged])
        return [JudgedRow(row, each.good) for row, each in zip(rows, judged, strict=True)]

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        return 1

    def label_of(self, row: JudgedRow) -> int:
        """1 for a good answer."""
        return int(row.good)

    def row_of(self, sequences: tuple[TokenRow, ...], label: int) -> JudgedRow:
        """The answer and its judgement."""
        return JudgedRow(sequences[0], bool(label))

    def _checked(self, example: Example) -> Judged:
        if isinstance(example, Judged) and is_plain(example):
            return example
        raise wrong_shape(example, self.method, "`kto` rows without pictures")
