"""Odds-ratio preference optimisation: preferred answers are learnt, and made likelier than the others, at once."""

from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.methods import dpo
from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace

MODALITIES = ("text",)
TASKS = ("causal_lm",)
FIGURES = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "nll_loss",
    "log_odds_ratio",
    "log_odds_chosen",
)


class Parameters(Frozen):
    """How preferences are learnt."""

    beta: float = Field(default=0.1, gt=0, le=2)
    """Weight of the preference beside the preferred answers' own likelihood; the paper's lambda."""


check = dpo.check


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Pairs, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.orpo_task import OrpoTask
    from tunesmith.training.pair_rows import PairShape
    from tunesmith.training.text_rows import read_rows

    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, PairShape(attempt.spec.method.kind), workplace)
    workplace.poll()
    opened = open_model(attempt, workplace, tokenizer, rows.train[0].chosen, rows.longest)
    beta = Parameters.model_validate(attempt.spec.method.parameters).beta
    return OrpoTask(opened, rows=rows.train, validation=rows.validation, beta=beta)
