"""Sequence classification: cross-entropy over the scores of a text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tunesmith.training.batching import TextBatch
from tunesmith.training.labelled_rows import LabelledRow
from tunesmith.training.row_task import RowTask
from tunesmith.training.score_model import ScoreModel
from tunesmith.training.task import Figure, Measured, MicroBatch


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """The forward passes of some texts; one, but where the model takes only single rows."""

    passes: Sequence[TextBatch]
    labels: Tensor
    """[B] int64"""

    tokens: int
    lines: tuple[int, ...]
    trained: int
    """Texts."""


@dataclass(eq=False)
class ClassificationTask(RowTask[LabelledRow]):
    """A model that is to give each text its class."""

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss and hits of some texts."""
        assert isinstance(batch, LabelledBatch)
        assert isinstance(self.language_model, ScoreModel)
        scores = self.language_model.scores(batch.passes)
        hits = (scores.argmax(-1) == batch.labels).sum()
        loss = cross_entropy(scores, batch.labels, reduction="sum")
        return Measured(loss, {"accuracy": Figure(hits, batch.trained)})

    def _batches(self, texts: Sequence[LabelledRow], most: int | None) -> Iterator[LabelledBatch]:
        waiting = iter(texts)
        for rows in self.opened.grouped([[each.text] for each in texts], most):
            members = list(islice(waiting, len(rows)))
            yield LabelledBatch(
                passes=self.language_model.batches(rows),
                labels=torch.tensor([each.label for each in members]).to(self.device),
                lines=tuple(each.line for each in members),
                tokens=sum(each.tokens for each in members),
                trained=len(members),
            )
