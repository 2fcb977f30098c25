"""Preferences: two answers to one prompt, as two token rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunesmith.data.examples import Example, Preference
from tunesmith.training.shapes import is_plain, supervised, wrong_shape
from tunesmith.training.text import Encoder, Sequences, TokenRow


@dataclass(frozen=True, slots=True, eq=False)
class PairRow(Sequences):
    """A prompt with the preferred answer, and the same prompt with the other. The answers carry loss."""

    chosen: TokenRow
    rejected: TokenRow
    reference: tuple[float, float] | None = None
    """What the model gave both answers before training, as log-probabilities in nats, where the loss asks for it."""

    @property
    def line(self) -> int:
        """Line of the file."""
        return self.chosen.line

    @property
    def sequences(self) -> tuple[TokenRow, ...]:
        """Both."""
        return self.chosen, self.rejected

    def truncated(self, length: int) -> "PairRow":
        """The beginnings of both rows."""
        return replace(self, chosen=self.chosen.truncated(length), rejected=self.rejected.truncated(length))


@dataclass(frozen=True)
class PairShape:
    """Preferences, in any of their spellings."""

    method: str

    def encode(self, encoder: Encoder, examples: Sequence[Example]) -> list[PairRow]:
        """Pairs of any length, in order.

        Raises:
            DatasetError: an example is of another kind, or cannot be tokenised.
        """
        pairs = [self._checked(example) for example in examples]
        chosen = encoder.encode([supervised(pair.line, pair.prompt, pair.chosen, pair.tools) for pair in pairs])
        rejected = encoder.encode([supervised(pair.line, pair.prompt, pair.rejected, pair.tools) for pair in pairs])
        return [PairRow(*rows) for rows in zip(chosen, rejected, strict=True)]

    @property
    def width(self) -> int:
        """Token sequences of a row."""
        return 2

    def label_of(self, _row: PairRow) -> int:
        """Nothing."""
        return 0

    def row_of(self, sequences: tuple[TokenRow, ...], _label: int) -> PairRow:
        """The pair of a preferred answer and the other."""
        chosen, rejected = sequences
        return PairRow(chosen, rejected)

    def _checked(self, example: Example) -> Preference:
        if isinstance(example, Preference) and is_plain(example):
            return example
        raise wrong_shape(example, self.method, "`preference` rows without pictures")
