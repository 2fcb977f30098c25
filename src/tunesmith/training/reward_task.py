"""Reward models: Bradley and Terry's model of preferences, as in Ouyang et al. 2022 (arXiv 2203.02155), equation 1."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from tunesmith.training.pair_task import PairBatch, PairTask, compared
from tunesmith.training.score_model import ScoreModel
from tunesmith.training.task import Measured, MicroBatch


@dataclass(eq=False)
class RewardTask(PairTask):
    """A model that is to score preferred answers higher."""

    center_coefficient: float

    def forward(self, batch: MicroBatch) -> Measured:
        """Loss and figures of some pairs."""
        assert isinstance(batch, PairBatch)
        assert isinstance(self.language_model, ScoreModel)
        rewards = self.language_model.scores(batch.passes).view(-1, 2)
        # Only differences are compared, so something else has to keep rewards near zero: Eisenstein et al. 2023
        # (arXiv 2312.09244), equation 2.
        losses = self.center_coefficient * rewards.sum(1) ** 2 - logsigmoid(rewards[:, 0] - rewards[:, 1])
        return Measured(losses.sum(), compared(rewards))
