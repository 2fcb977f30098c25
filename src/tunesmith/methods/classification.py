"""Sequence classification: a text is given one of several classes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.data.labels import MAX_CLASSES
from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace

MODALITIES = ("text",)
TASKS = ("sequence_classification",)
FIGURES = ("accuracy",)


class Parameters(Frozen):
    """What there is to tell apart."""

    labels: int | None = Field(default=None, ge=2, le=MAX_CLASSES)
    """How many classes there are; none = as many as the adapter to continue from knows, or else as the rows have, by
    the highest number."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan":
    """Refuse what cannot be honoured, and tell what the texts will come to.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is no such text, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.labelled_rows import LabelledShape, require_classes
    from tunesmith.training.limits import require_rows_apart, require_text_scoring
    from tunesmith.training.score_model import continued_scores
    from tunesmith.training.text_rows import survey_rows

    labels = Parameters.model_validate(attempt.spec.method.parameters).labels
    require_text_scoring(attempt, labels)
    require_rows_apart(attempt)
    labels = labels or continued_scores(attempt)
    if labels is None:
        require_classes(attempt.classes)
    return survey_rows(attempt, LabelledShape(attempt.spec.method.kind, labels), poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Texts, a model with a score for each class, and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.classification_task import ClassificationTask
    from tunesmith.training.labelled_rows import LabelledShape, count_classes
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.model_task import open_model
    from tunesmith.training.score_model import continued_scores
    from tunesmith.training.text_rows import read_rows

    labels = Parameters.model_validate(attempt.spec.method.parameters).labels or continued_scores(attempt)
    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, LabelledShape(attempt.spec.method.kind, labels), workplace)
    workplace.poll()
    labels = labels or count_classes(rows.train, rows.validation)
    opened = open_model(attempt, workplace, tokenizer, rows.train[0].text, rows.longest, labels=labels)
    return ClassificationTask(opened, rows=rows.train, validation=rows.validation)
