"""Pairs of answers, run together, for losses that compare them.

Shape: P pairs of a batch; of each, the preferred answer comes first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from tunesmith.training.batching import TextBatch
from tunesmith.training.pair_rows import PairRow
from tunesmith.training.row_task import RowTask
from tunesmith.training.task import Figure


@dataclass(frozen=True, eq=False)
class PairBatch:
    """The forward passes of some pairs; one, but where the model takes only single rows."""

    passes: Sequence[TextBatch]
    lengths: Tensor
    """[P, 2] tokens of the answers, as float."""

    reference: Tensor
    """[P, 2] log-probabilities in nats of the answers before training; [0, 2] where none are needed."""

    tokens: int
    lines: tuple[int, ...]
    trained: int
    """Pairs."""


@dataclass(eq=False)
class PairTask(RowTask[PairRow]):
    """A model and its pairs, ready for the loop but for the loss."""

    def log_probs(self, batch: PairBatch) -> Tensor:
        """Log-probabilities [P, 2] in nats of the answers."""
        return self.language_model.row_log_probs(batch.passes).view(-1, 2)

    def _batches(self, pairs: Sequence[PairRow], most: int | None) -> Iterator[PairBatch]:
        waiting = iter(pairs)
        for rows in self.opened.grouped([[pair.chosen, pair.rejected] for pair in pairs], most):
            members = list(islice(waiting, len(rows) // 2))
            references = [pair.reference for pair in members if pair.reference is not None]
            yield PairBatch(
                passes=self.language_model.batches(rows),
                lengths=self._moved([[pair.chosen.trained_count, pair.rejected.trained_count] for pair in members]),
                reference=self._moved(references),
                lines=tuple(pair.line for pair in members),
                tokens=sum(pair.tokens for pair in members),
                trained=len(members),
            )

    def _moved(self, numbers: Sequence[Sequence[float]]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.float32).view(-1, 2).to(self.device, non_blocking=True)


def compared(rewards: Tensor) -> dict[str, Figure]:
    """The figures of rewards [P, 2]: means, how often the preferred answer has more, and by how much."""
    rewards = rewards.detach()
    chosen, rejected = rewards.unbind(1)
    totals = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/accuracies": chosen > rejected,
        "rewards/margins": chosen - rejected,
    }
    return {name: Figure(total.sum(), len(rewards)) for name, total in totals.items()}


def likelihoods(log_probs: Tensor) -> dict[str, Figure]:
    """The figures of log-probabilities [P, 2]: their means."""
    chosen, rejected = log_probs.detach().unbind(1)
    return {
        "logps/chosen": Figure(chosen.sum(), len(chosen)),
        "logps/rejected": Figure(rejected.sum(), len(rejected)),
    }
