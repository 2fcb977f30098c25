"""Texts with the class that they belong to."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tunesmith.data.examples import Conversation, Example, Labelled, Text
from tunesmith.data.labels import no_class
from tunesmith.spec.errors import DatasetError
from tunesmith.training.shapes import is_plain, wrong_shape
from tunesmith.training.text import Encoder, Sequences, TokenRow


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRow(Sequences):
    """A text and its class."""

    text: TokenRow
    label: int

    @property
    def line(self) -> int:
        """Line of the file."""
        return self.text.line

    @property
    def sequences(self) -> tuple[TokenRow, ...]:
        """The text, of which no token carries loss: the class does."""
        return (self.text,)

    @property
    def trainable(self) -> bool:
        """Whether there is any token."""
        return self.tokens > 0

    def truncated(self, length: int) -> "LabelledRow":
        """The text's beginning."""
        return replace(self, text=self.text.truncated(length))


@dataclass(frozen=True)
class LabelledShape:
    """Texts, or turns, with a class."""

    method: str
    labels: int | None
    """How many classes there are; none = as many as the rows have."""

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[LabelledRow]:
        """Rows of any length, in order.

        Raises:
            DatasetError: an example is of another kind or class, or cannot be tokenised.
        """
        return [self._row(encoder, self._checked(example)) for example in examples]

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        return 1

    def label_of(self, row: LabelledRow) -> int:
        """The class."""
        return row.label

    def row_of(self, sequences: tuple[TokenRow, ...], label: int) -> LabelledRow:
        """The text and its class."""
        return LabelledRow(sequences[0], label)

    def _row(self, encoder: Encoder, example: Labelled) -> LabelledRow:
        if isinstance(example.content, str):
            return LabelledRow(encoder.as_is(example.line, example.content), example.label)
        [text] = encoder.encode([Conversation(example.line, example.content, None)])
        return LabelledRow(text, example.label)

    def _checked(self, example: Example) -> Labelled:
        if isinstance(example, Text) and example.label is not None:
            raise DatasetError(f"Line {example.line}: {no_class(example.label)}", hint="Number the classes from 0.")
        if not (isinstance(example, Labelled) and is_plain(example)):
            raise wrong_shape(example, self.method, "`classification` rows without pictures")
        if self.labels is not None and example.label >= self.labels:
            raise DatasetError(
                f"Line {example.line} has the class {example.label}; {self.labels} classes go from 0 to "
                f"{self.labels - 1}.",
                hint="Raise `labels`, or number the classes from 0.",
            )
        return example


def require_classes(found: Collection[int]) -> None:
    """See that there is something to tell apart.

    Raises:
        DatasetError: the training rows are all of one class.
    """
    if len(found) == 1:
        raise DatasetError(
            f"All rows have the class {next(iter(found))}, so there is nothing to tell apart.",
            hint="Add rows of other classes, or say by `labels` how many classes there are.",
        )


def count_classes(rows: Sequence[LabelledRow], others: Sequence[LabelledRow]) -> int:
    """How many classes training and validation rows have, by the highest number.

    Raises:
        DatasetError: the training rows are all of one class.
    """
    require_classes({row.label for row in rows})
    return 1 + max(row.label for row in (*rows, *others))
