"""Direct preference optimisation.

Shape: P pairs of a batch; of each, the preferred answer comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from tunesmith.training.pair_task import PairBatch, PairTask, compared, likelihoods
from tunesmith.training.task import Measured, MicroBatch

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Losses [P] from log-ratios of the trained model to the reference [P, 2] and the answers' tokens [P, 2]."""


def sigmoid_loss(beta: float, label_smoothing: float) -> PairLoss:
    """Rafailov et al. 2023 (arXiv 2305.18290), equation 7.

    With smoothing, Mitchell's conservative loss: labels are held for wrong with that probability.
    """

    def losses(ratios: Tensor, _lengths: Tensor) -> Tensor:
        margins = beta * (ratios[:, 0] - ratios[:, 1])
        return -(1 - label_smoothing) * logsigmoid(margins) - label_smoothing * logsigmoid(-margins)

    return losses


def ipo_loss(beta: float) -> PairLoss:
    """Azar et al. 2023 (arXiv 2310.12036), equation 17, with log-ratios per token, as TRL has it from the authors."""

    def losses(ratios: Tensor, lengths: Tensor) -> Tensor:
        means = ratios / lengths
        return (means[:, 0] - means[:, 1] - 1 / (2 * beta)) ** 2

    return losses


@dataclass(eq=False)
class DpoTask(PairTask):
    """A model that is to prefer as the pairs do, without leaving its reference far behind."""

    beta: float
    losses: PairLoss

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss and figures of some pairs."""
        assert isinstance(batch, PairBatch)
        log_probs = self.log_probs(batch)
        ratios = log_probs - batch.reference
        loss = self.losses(ratios, batch.lengths).sum()
        return Measured(loss, compared(self.beta * ratios) | likelihoods(log_probs))
