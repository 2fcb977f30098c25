"""Supervised fine-tuning of text: the assistant's turns, a completion, or a whole text."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace


MODALITIES = ("text",)
TASKS = ("causal_lm",)


class Parameters(Frozen):
    """None: everything that matters here is part of every job."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> None:
    """Refuse what cannot be honoured, and look for one row that can be trained.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        TunesmithError: there is no such row, or the model, its chat template, the adapter or the file cannot be used.
    """
    from tunesmith.training.limits import require_text_generation
    from tunesmith.training.text_rows import require_row

    require_text_generation(attempt)
    require_row(attempt, poll)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Rows, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.export import ModelCard
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.text_rows import read_rows
    from tunesmith.training.text_task import TextTask, open_model, token_budget

    spec = attempt.spec
    tokenizer = load_tokenizer(attempt.inputs.model)
    rows = read_rows(attempt, tokenizer, workplace)
    workplace.poll()
    model, language_model, base_logits = open_model(attempt, workplace, rows.train[0])
    return TextTask(
        model=model,
        language_model=language_model,
        tokenizer=tokenizer,
        rows=rows.train,
        sequences=rows.sequences,
        validation=rows.validation,
        micro_batch_size=spec.optimization.micro_batch_size,
        token_budget=token_budget(language_model.core, workplace.device, rows.max_length),
        card=ModelCard(base=attempt.inputs.model, job_id=attempt.job_id, spec=spec),
        base_logits=base_logits,
    )
