"""What tasks share whose batches count rows of their own kind: the rows of a step, an evaluation and an event."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

from tunesmith.training.model_task import ModelTask
from tunesmith.training.order import DataOrder, Order
from tunesmith.training.shapes import R
from tunesmith.training.task import MicroBatch


@dataclass(eq=False)
class RowTask(ModelTask, ABC, Generic[R]):
    """A model and its rows, ready for the loop but for how rows become forward passes, and the loss."""

    rows: Sequence[R]
    validation: Sequence[R]

    @property
    def order(self) -> Order:
        """Each row is a sequence."""
        return DataOrder(self.opened.card.spec.optimization, len(self.rows))

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step."""
        return list(self._batches([self.rows[index] for index in sequences], self.opened.micro_batch_size))

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation."""
        return self._batches(self.validation, None)

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these rows come from."""
        return sorted(self.rows[index].line for index in sequences)

    @abstractmethod
    def _batches(self, rows: Sequence[R], most: int | None) -> Iterator[MicroBatch]:
        """The forward passes of some rows, up to `most` of them in each or as many as fit."""
