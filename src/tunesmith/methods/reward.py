"""Reward models: a score for an answer, higher for the preferred one of two."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace

MODALITIES = ("text",)
TASKS = ("sequence_classification",)
FIGURES = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")


class Parameters(Frozen):
    """How preferences are scored."""

    center_coefficient: float = Field(default=0.0, ge=0, le=1)
    """How strongly the two rewards of a pair are drawn to a sum of zero."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan":
    """Refuse what cannot be honoured, and tell what the pairs will come to.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is no such pair, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.limits import require_rows_apart, require_text_scoring
    from tunesmith.training.pair_rows import PairShape
    from tunesmith.training.text_rows import survey_rows

    require_text_scoring(attempt, 1)
    require_rows_apart(attempt)
    return survey_rows(attempt, PairShape(attempt.spec.method.kind), poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Pairs, a model with one score, and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.pair_rows import PairShape
    from tunesmith.training.reward_task import RewardTask
    from tunesmith.training.text_rows import read_rows

    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, PairShape(attempt.spec.method.kind), workplace)
    workplace.poll()
    opened = open_model(attempt, workplace, tokenizer, rows.train[0].chosen, rows.longest, labels=1)
    parameters = Parameters.model_validate(attempt.spec.method.parameters)
    return RewardTask(
        opened, rows=rows.train, validation=rows.validation, center_coefficient=parameters.center_coefficient
    )
