"""Kahneman-Tversky optimisation: answers that were found good are made likelier, bad ones less likely."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace

MODALITIES = ("text",)
TASKS = ("causal_lm",)
FIGURES = ("kl", "rewards/chosen", "logps/chosen", "rewards/rejected", "logps/rejected")


class Parameters(Frozen):
    """How judgements are learnt."""

    beta: float = Field(default=0.1, gt=0, le=2)
    """How closely the model stays with its reference: more, the closer."""

    desirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of good answers. With fewer good than bad ones, more than 1 makes up for it."""

    undesirable_weight: float = Field(default=1.0, gt=0, le=100)
    """Weight of bad answers."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan":
    """Refuse what cannot be honoured, and tell what the answers will come to.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is none, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.judged_rows import JudgedShape
    from tunesmith.training.limits import require_rows_apart, require_several_rows, require_text_generation
    from tunesmith.training.text_rows import survey_rows

    require_text_generation(attempt)
    require_rows_apart(attempt)
    require_several_rows(attempt)
    return survey_rows(attempt, JudgedShape(attempt.spec.method.kind), poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Answers with their reference, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.judged_rows import JudgedShape
    from tunesmith.training.kto_task import KtoTask, with_references
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.order import planned_batches
    from tunesmith.training.text_rows import read_rows

    optimization = attempt.spec.optimization
    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, JudgedShape(attempt.spec.method.kind), workplace)
    workplace.poll()
    opened = open_model(attempt, workplace, tokenizer, rows.train[0].answered, rows.longest)
    steps = planned_batches(optimization, len(rows.train))
    places = range(len(rows.validation))
    scored = [places[start : start + optimization.batch_size] for start in places[:: optimization.batch_size]]
    parameters = Parameters.model_validate(attempt.spec.method.parameters)
    return KtoTask(
        opened,
        train=with_references(opened, rows.train, steps, rows.max_length, workplace),
        validation=with_references(opened, rows.validation, scored, rows.max_length, workplace),
        **parameters.model_dump(),
    )
