"""Direct preference optimisation: of two answers to one prompt, the preferred one is made likelier."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
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
)


class Parameters(Frozen):
    """How preferences are learnt."""

    beta: float = Field(default=0.1, gt=0, le=2)
    """How closely the model stays with its reference: more, the closer."""

    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """DPO's own loss, or that of identity preference optimisation, which does not drive sure preferences further."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the pairs whose preference is held for wrong."""

    @model_validator(mode="after")
    def _smoothing_has_effect(self) -> Self:
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing {self.label_smoothing} has no effect on the loss {self.loss!r}; set 0.")
        return self


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan":
    """Refuse what cannot be honoured, and tell what the pairs will come to.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is no such pair, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.limits import require_rows_apart, require_text_generation
    from tunesmith.training.pair_rows import PairShape
    from tunesmith.training.text_rows import survey_rows

    require_text_generation(attempt)
    require_rows_apart(attempt)
    return survey_rows(attempt, PairShape(attempt.spec.method.kind), poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Pairs with their reference, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.dpo_task import DpoTask, ipo_loss, sigmoid_loss
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.order import planned_batches
    from tunesmith.training.pair_rows import PairShape
    from tunesmith.training.reference import with_reference
    from tunesmith.training.text_rows import read_rows

    parameters = Parameters.model_validate(attempt.spec.method.parameters)
    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, PairShape(attempt.spec.method.kind), workplace)
    workplace.poll()
    opened = open_model(attempt, workplace, tokenizer, rows.train[0].chosen, rows.longest)
    match parameters.loss:
        case "sigmoid":
            losses = sigmoid_loss(parameters.beta, parameters.label_smoothing)
        case "ipo":
            losses = ipo_loss(parameters.beta)
    used = {index for batch in planned_batches(attempt.spec.optimization, len(rows.train)) for index in batch}
    return DpoTask(
        opened,
        rows=with_reference(opened, rows.train, used, workplace),
        validation=with_reference(opened, rows.validation, range(len(rows.validation)), workplace),
        beta=parameters.beta,
        losses=losses,
    )
