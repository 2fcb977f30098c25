"""Supervised text: rows of tokens, next-token loss, one causal language model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunesmith.training.batching import TextBatch
from tunesmith.training.model_task import ModelTask
from tunesmith.training.order import Order
from tunesmith.training.task import TOKEN_ACCURACY, Figure, Measured, MicroBatch
from tunesmith.training.text import TokenRow


class SequenceRows(Protocol):
    """The rows of training sequences, by the sequences' numbers."""

    def __getitem__(self, sequence: int) -> Sequence[TokenRow]:
        """The rows of one."""
        ...


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """Sequences whose rows are all at hand."""

    rows: Sequence[TokenRow]
    groups: Sequence[tuple[int, ...]]
    """Indices into `rows` of each sequence."""

    def __getitem__(self, sequence: int) -> list[TokenRow]:
        """The rows of one."""
        return [self.rows[row] for row in self.groups[sequence]]


@dataclass(eq=False)
class TextTask(ModelTask):
    """A model and its rows, ready for the loop."""

    order: Order
    sequences: SequenceRows
    validation: Sequence[TokenRow]

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step."""
        return list(self._batches([self.sequences[index] for index in sequences], self.opened.micro_batch_size))

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation."""
        return self._batches([[row] for row in self.validation], None)

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss and hits of one micro-batch."""
        assert isinstance(batch, TextBatch)
        sums = self.language_model.sums(batch)
        return Measured(sums.loss, {TOKEN_ACCURACY: Figure(sums.correct, batch.trained)})

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these sequences come from."""
        return sorted(row.line for index in sequences for row in self.sequences[index])

    def _batches(self, sequences: Sequence[Sequence[TokenRow]], most: int | None) -> Iterator[TextBatch]:
        if self.language_model.layout == "single":
            sequences = [[row] for sequence in sequences for row in sequence]
        return map(self.language_model.batch, self.opened.grouped(sequences, most))
