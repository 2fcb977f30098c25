"""Supervised fine-tuning of text: the assistant's turns, a completion, or a whole text."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.training.preparation import Preparation
    from tunesmith.training.task import Task
    from tunesmith.training.text import TokenRow
    from tunesmith.training.workplace import Workplace


class Parameters(Frozen):
    """None: everything that matters here is part of every job."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> None:
    """Look for one row that can be trained.

    Raises:
        TunesmithError: there is none, or the model, its chat template or the file cannot be used.
    """
    from tunesmith.training.model import load_config, load_tokenizer

    config = load_config(attempt.inputs.model)
    preparation = _preparation(attempt, load_tokenizer(attempt.inputs.model), config, poll)
    preparation.require_one(attempt.inputs.train, attempt.spec.data.max_samples)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Rows, model and loss.

    Raises:
        TunesmithError: the data, the model or the adapter cannot be used.
    """
    from tunesmith.training.export import ModelCard
    from tunesmith.training.model import load_config, load_tokenizer
    from tunesmith.training.packing import pack
    from tunesmith.training.text_task import TextTask, open_model, token_budget

    spec = attempt.spec
    config = load_config(attempt.inputs.model)
    tokenizer = load_tokenizer(attempt.inputs.model)
    preparation = _preparation(attempt, tokenizer, config, workplace.poll)
    rows = preparation.read(attempt.inputs.train, spec.data.max_samples)
    validation = _read_validation(attempt, tokenizer, config, workplace)
    lengths = [len(row.ids) for row in rows]
    sequences = pack(lengths, preparation.max_length) if spec.data.packing else [(index,) for index in range(len(rows))]
    _report_prepared(attempt, workplace, preparation, rows, len(sequences))
    workplace.poll()
    model, language_model, base_logits = open_model(attempt, workplace, rows[0])
    return TextTask(
        model=model,
        language_model=language_model,
        tokenizer=tokenizer,
        rows=rows,
        sequences=sequences,
        validation=validation,
        micro_batch_size=spec.optimization.micro_batch_size,
        token_budget=token_budget(language_model.core, workplace.device, preparation.max_length),
        card=ModelCard(base=attempt.inputs.model, job_id=attempt.job_id, spec=spec),
        base_logits=base_logits,
    )


def _preparation(attempt: AttemptSpec, tokenizer: Any, config: Any, poll: Callable[[], None]) -> "Preparation":
    from tunesmith.training.model import context_length
    from tunesmith.training.preparation import Preparation

    data = attempt.spec.data
    limit = min(data.max_length, context_length(config) or data.max_length)
    return Preparation(tokenizer, max_length=limit, over_long=data.over_long, poll=poll)


def _read_validation(attempt: AttemptSpec, tokenizer: Any, config: Any, workplace: "Workplace") -> "list[TokenRow]":
    from tunesmith.spec.errors import NothingToTrainError

    path = attempt.inputs.validation
    if path is None:
        return []
    preparation = _preparation(attempt, tokenizer, config, workplace.poll)
    try:
        rows = preparation.read(path, None)
    except NothingToTrainError as error:
        raise NothingToTrainError(f"Validation data: {error.message}", hint=error.hint) from error
    left_out, cut = preparation.dropped.count, preparation.truncated.count
    if left_out or cut:
        workplace.reporter.note(
            f"Validation data: {left_out} rows left out and {cut} cut: longer than {preparation.max_length} tokens."
        )
    return rows


def _report_prepared(
    attempt: AttemptSpec, workplace: "Workplace", preparation: "Preparation", rows: "list[TokenRow]", sequences: int
) -> None:
    from tunesmith.spec.events import Prepared
    from tunesmith.training.optim import count_steps

    asked = attempt.spec.data.max_length
    if preparation.max_length < asked:
        workplace.reporter.note(
            f"`max_length` is lowered from {asked} to {preparation.max_length}, the model's own context length."
        )
    for note in preparation.notes():
        workplace.reporter.note(note)
    workplace.reporter.write(
        Prepared,
        rows=len(rows),
        dropped_lines=tuple(preparation.dropped.lines),
        dropped=preparation.dropped.count,
        truncated_lines=tuple(preparation.truncated.lines),
        truncated=preparation.truncated.count,
        sequences=sequences,
        tokens=sum(len(row.ids) for row in rows),
        trained_tokens=sum(row.trained_count for row in rows),
        total_steps=count_steps(attempt.spec.optimization, sequences),
        sample=preparation.encoder.show(rows[0], 2000),
    )
