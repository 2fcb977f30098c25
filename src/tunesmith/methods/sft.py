"""Supervised fine-tuning on text, with or without pictures: the assistant's turns, a completion, or a whole text."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace


MODALITIES = ("text", "vision_language")
TASKS = ("causal_lm",)
FIGURES = ("token_accuracy",)


class Parameters(Frozen):
    """What is learnt of a row."""

    train_on: Literal["assistant", "last", "all"] = "assistant"
    """Which part carries loss: the assistant's turns and completions; the last of these turns alone; or everything but
    turns that the row keeps out."""

    parts: tuple[Literal["language", "projector", "vision"], ...] | None = Field(default=None, min_length=1)
    """Parts of a vision-language model that are trained: what writes, what brings pictures to it, what sees them; none
    = the first alone. Of no effect on an adapter's own shape when it is continued."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan | None":
    """Refuse what cannot be honoured, and tell what the rows will come to; none while their pictures are not here.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is no such row, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.limits import require_text_generation
    from tunesmith.training.supervised_rows import SupervisedShape
    from tunesmith.training.text_rows import survey_rows

    require_text_generation(attempt, MODALITIES)
    if attempt.spec.model.modality == "vision_language":
        from tunesmith.training.vision_task import survey_vision

        return survey_vision(attempt, _parameters(attempt).train_on, poll)
    if _parameters(attempt).parts is not None:
        raise UnsupportedError(
            "A model of text alone has no parts of which some could be trained.",
            param="method.parameters.parts",
            hint="Leave `parts` out, or choose layers by the adapter's targets.",
        )
    return survey_rows(attempt, SupervisedShape(attempt.spec.method.kind, _parameters(attempt).train_on), poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Rows, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.order import DataOrder
    from tunesmith.training.streamed_rows import stream_rows
    from tunesmith.training.supervised_rows import SupervisedShape
    from tunesmith.training.text_rows import read_rows
    from tunesmith.training.text_task import GroupedRows, TextTask

    if attempt.spec.model.modality == "vision_language":
        from tunesmith.training.vision_task import build_vision

        return build_vision(attempt, _parameters(attempt).train_on, workplace)
    tokenizer = load_tokenizer(attempt.inputs.model)
    shape = SupervisedShape(attempt.spec.method.kind, _parameters(attempt).train_on)
    streamed = stream_rows(attempt, tokenizer, shape, workplace)
    if streamed is not None:
        workplace.poll()
        stream = streamed.train
        opened = open_model(attempt, workplace, tokenizer, stream.samples[0], stream.plan.longest)
        return TextTask(opened, order=stream, sequences=stream, validation=streamed.validation)
    rows = read_rows(attempt, tokenizer, shape, workplace)
    workplace.poll()
    opened = open_model(attempt, workplace, tokenizer, rows.train[0], rows.longest)
    order = DataOrder(attempt.spec.optimization, len(rows.sequences))
    return TextTask(opened, order=order, sequences=GroupedRows(rows.train, rows.sequences), validation=rows.validation)


def _parameters(attempt: AttemptSpec) -> Parameters:
    """Those of this method. A method that is made from it may have others beside them."""
    given = attempt.spec.method.parameters
    return Parameters.model_validate({name: given[name] for name in Parameters.model_fields if name in given})
