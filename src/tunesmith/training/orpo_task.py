"""Odds-ratio preference optimisation: Hong et al. 2024 (arXiv 2403.07691).

Shape: P pairs of a batch; of each, the preferred answer comes first.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tunesmith.training.pair_task import PairBatch, PairTask, compared, likelihoods
from tunesmith.training.task import Figure, Measured, MicroBatch

_LEAST_ODDS = -1e-7
"""Log-probability per token above which odds would be infinite."""


def log_odds(means: Tensor) -> Tensor:
    """Logarithms of the odds of answers with these mean log-probabilities per token."""
    means = means.clamp(max=_LEAST_ODDS)
    return means - torch.log(-torch.expm1(means))


@dataclass(eq=False)
class OrpoTask(PairTask):
    """A model that learns the preferred answers and, weighted by `beta`, to hold them for likelier than the others."""

    beta: float

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss (equation 6 of the paper) and figures of some pairs."""
        assert isinstance(batch, PairBatch)
        means = self.log_probs(batch) / batch.lengths
        odds = log_odds(means)
        ratios = odds[:, 0] - odds[:, 1]
        preference = logsigmoid(ratios)
        loss = (-means[:, 0] - self.beta * preference).sum()
        totals = {
            "nll_loss": -means[:, 0].detach().sum(),
            "log_odds_ratio": preference.detach().sum(),
            "log_odds_chosen": ratios.detach().sum(),
        }
        figures = {name: Figure(total, batch.trained) for name, total in totals.items()}
        return Measured(loss, compared(self.beta * means) | likelihoods(means) | figures)
