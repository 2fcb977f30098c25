"""Kahneman-Tversky optimisation: Ethayarajh et al. 2024 (arXiv 2402.01306).

Shape: B answers of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from tunesmith.training.batching import TextBatch
from tunesmith.training.judged_rows import JudgedRow
from tunesmith.training.model_task import ModelTask, OpenedModel
from tunesmith.training.order import DataOrder, Order
from tunesmith.training.reference import reference_log_probs
from tunesmith.training.task import Figure, Measured, MicroBatch
from tunesmith.training.text import TokenRow
from tunesmith.training.workplace import Workplace


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """Answers, and what their loss is measured against."""

    rows: Sequence[JudgedRow]
    groups: Sequence[Sequence[int]]
    """Answers that are judged together: those of one step."""

    mismatched: Mapping[tuple[int, int], float]
    """Of prompt and answer of two rows: the log-probability in nats before training."""

    limit: int
    """Tokens of a row."""

    def prompts_with_other_answers(self, group: Sequence[int]) -> tuple[list[TokenRow], list[float]]:
        """Each prompt of a group with the answer of the row before it, and its log-probabilities before training."""
        pairs = _mismatches(group)
        rows = [self.rows[prompt].with_answer_of(self.rows[answer], self.limit) for prompt, answer in pairs]
        return rows, [self.mismatched[pair] for pair in pairs]


@dataclass(frozen=True, eq=False)
class JudgedBatch:
    """The forward passes of some answers; one, but where the model takes only single rows."""

    passes: Sequence[TextBatch]
    good: Tensor
    """[B] bool"""

    good_count: int
    reference: Tensor
    """[B] log-probabilities in nats of the answers before training."""

    divergence: Tensor
    """Scalar: how far the model has moved from its reference on other answers of the step, in nats; at least 0."""

    tokens: int
    lines: tuple[int, ...]
    trained: int
    """Answers."""


@dataclass(eq=False)
class KtoTask(ModelTask):
    """A model that is to make good answers likelier and bad ones less likely than its reference does."""

    train: JudgedRows
    validation: JudgedRows
    beta: float
    desirable_weight: float
    undesirable_weight: float

    @property
    def order(self) -> Order:
        """Each answer is a sequence."""
        return DataOrder(self.opened.card.spec.optimization, len(self.train.rows))

    def micro_batches(self, sequences: Sequence[int]) -> list[MicroBatch]:
        """The forward passes of one optimizer step."""
        return list(self._batches(self.train, sequences, self.opened.micro_batch_size))

    def validation_batches(self) -> Iterator[MicroBatch]:
        """The forward passes of one evaluation."""
        for group in self.validation.groups:
            yield from self._batches(self.validation, group, None)

    def lines(self, sequences: Sequence[int]) -> list[int]:
        """Lines of the training file that these answers come from."""
        return sorted(self.train.rows[index].line for index in sequences)

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss (equation 8 of the paper) and figures of some answers."""
        assert isinstance(batch, JudgedBatch)
        log_probs = self.language_model.row_log_probs(batch.passes)
        ratios = log_probs - batch.reference
        gains = torch.where(batch.good, ratios - batch.divergence, batch.divergence - ratios)
        weights = torch.where(batch.good, self.desirable_weight, self.undesirable_weight)
        loss = (weights * (1 - torch.sigmoid(self.beta * gains))).sum()
        figures = {"kl": Figure(batch.divergence * batch.trained, batch.trained)}
        for name, kind, count in (
            ("chosen", batch.good, batch.good_count),
            ("rejected", ~batch.good, batch.trained - batch.good_count),
        ):
            figures[f"rewards/{name}"] = Figure((self.beta * ratios.detach() * kind).sum(), count)
            figures[f"logps/{name}"] = Figure((log_probs.detach() * kind).sum(), count)
        return Measured(loss, figures)

    def _batches(self, judged: JudgedRows, group: Sequence[int], most: int | None) -> Iterator[JudgedBatch]:
        divergence = self._divergence(judged, group)
        answers = [judged.rows[index] for index in group]
        waiting = iter(answers)
        for rows in self.opened.grouped([[answer.answered] for answer in answers], most):
            members = list(islice(waiting, len(rows)))
            yield JudgedBatch(
                passes=self.language_model.batches(rows),
                good=torch.tensor([answer.good for answer in members]).to(self.device),
                good_count=sum(answer.good for answer in members),
                reference=torch.tensor([answer.reference for answer in members]).to(self.device),
                divergence=divergence,
                lines=tuple(answer.line for answer in members),
                tokens=sum(answer.tokens for answer in members),
                trained=len(members),
            )

    @torch.no_grad()
    def _divergence(self, judged: JudgedRows, group: Sequence[int]) -> Tensor:
        """Over a whole step, whatever its micro-batches, and without dropout, as the reference is."""
        self.model.eval()
        rows, reference = judged.prompts_with_other_answers(group)
        found = [
            self.language_model.row_log_probs(self.language_model.batches(some))
            for some in self.opened.grouped([[row] for row in rows], None)
        ]
        return (torch.cat(found) - torch.tensor(reference).to(self.device)).mean().clamp(min=0)


def with_references(
    opened: OpenedModel,
    rows: Sequence[JudgedRow],
    groups: Sequence[Sequence[int]],
    limit: int,
    workplace: Workplace,
) -> JudgedRows:
    """The answers with their reference, for all groups in which they will be judged."""
    used = sorted({index for group in groups for index in group})
    own = reference_log_probs(opened, [rows[index].answered for index in used], workplace)
    known = dict(zip(used, own, strict=True))
    pairs = list(dict.fromkeys(pair for group in groups for pair in _mismatches(group)))
    others = [rows[prompt].with_answer_of(rows[answer], limit) for prompt, answer in pairs]
    mismatched = dict(zip(pairs, reference_log_probs(opened, others, workplace), strict=True))
    judged = [replace(row, reference=known.get(index)) for index, row in enumerate(rows)]
    return JudgedRows(judged, groups, mismatched, limit)


def _mismatches(group: Sequence[int]) -> list[tuple[int, int]]:
    """Each row of a group with the one before it; the first with the last."""
    return [(row, group[position - 1]) for position, row in enumerate(group)]
