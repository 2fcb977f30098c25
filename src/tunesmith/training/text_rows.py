"""All rows of a text training: read, tokenised, packed, and reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.spec.errors import NothingToTrainError
from tunesmith.spec.events import Prepared
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.model import context_length, load_config, load_tokenizer
from tunesmith.training.optim import count_steps
from tunesmith.training.packing import pack
from tunesmith.training.preparation import Preparation, histogram
from tunesmith.training.row_source import source_of
from tunesmith.training.text import TokenRow
from tunesmith.training.workplace import Workplace


@dataclass(frozen=True, eq=False)
class TextRows:
    """What is trained on and what is scored."""

    train: Sequence[TokenRow]
    sequences: Sequence[tuple[int, ...]]
    """Indices into `train` of each training sequence."""

    validation: Sequence[TokenRow]
    max_length: int
    """Tokens of a sequence: what was asked for, or the model's context length if that is shorter."""


def require_row(attempt: AttemptSpec, poll: Callable[[], None]) -> None:
    """Look for one row that can be trained.

    Raises:
        DatasetError: the file or a row before it cannot be used, or there is none.
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    source = source_of(attempt, "train")
    assert source is not None
    _preparation(attempt, load_tokenizer(attempt.inputs.model), poll).require_one(source)


def read_rows(attempt: AttemptSpec, tokenizer: Any, workplace: Workplace) -> TextRows:
    """Read all rows and report how many there are.

    Raises:
        DatasetError: a file or a row cannot be used, or none is left to train or to score.
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    preparation = _preparation(attempt, tokenizer, workplace.poll)
    source = source_of(attempt, "train")
    assert source is not None
    train = preparation.read(source)
    validation = _read_validation(attempt, tokenizer, workplace)
    test = source_of(attempt, "test")
    sequences = (
        pack([len(row.ids) for row in train], preparation.max_length)
        if attempt.spec.data.packing
        else [(index,) for index in range(len(train))]
    )
    rows = TextRows(train, sequences, validation, preparation.max_length)
    _report(attempt, rows, test.count(workplace.poll) if test else 0, preparation, workplace)
    return rows


def _preparation(attempt: AttemptSpec, tokenizer: Any, poll: Callable[[], None]) -> Preparation:
    config, data = load_config(attempt.inputs.model), attempt.spec.data
    return Preparation(
        tokenizer,
        vocabulary=config.get_text_config().vocab_size,
        max_length=min(data.max_length, context_length(config) or data.max_length),
        over_long=data.over_long,
        poll=poll,
    )


def _read_validation(attempt: AttemptSpec, tokenizer: Any, workplace: Workplace) -> Sequence[TokenRow]:
    source = source_of(attempt, "validation")
    if source is None:
        return []
    preparation = _preparation(attempt, tokenizer, workplace.poll)
    try:
        rows = preparation.read(source)
    except NothingToTrainError as error:
        raise NothingToTrainError(f"Validation data: {error.message}", hint=error.hint) from error
    if not rows and source.split is not None and source.split.by != "column":
        workplace.reporter.note("There are too few rows for the split: the part `validation` has none.")
    left_out, cut = preparation.dropped.count, preparation.truncated.count
    if left_out or cut:
        workplace.reporter.note(
            f"Validation data: {left_out} rows left out and {cut} cut: longer than {preparation.max_length} tokens."
        )
    return rows


def _report(
    attempt: AttemptSpec, rows: TextRows, test_rows: int, preparation: Preparation, workplace: Workplace
) -> None:
    for note in (*_notes(attempt, rows), *preparation.notes()):
        workplace.reporter.note(note)
    tokens = sum(len(row.ids) for row in rows.train)
    trained = sum(row.trained_count for row in rows.train)
    workplace.reporter.write(
        Prepared,
        rows=len(rows.train),
        validation_rows=len(rows.validation),
        test_rows=test_rows,
        dropped_lines=tuple(preparation.dropped.lines),
        dropped=preparation.dropped.count,
        truncated_lines=tuple(preparation.truncated.lines),
        truncated=preparation.truncated.count,
        sequences=len(rows.sequences),
        tokens=tokens,
        trained_tokens=trained,
        trained_share=trained / tokens,
        lengths=histogram(len(row.ids) for row in rows.train),
        total_steps=count_steps(attempt.spec.optimization, len(rows.sequences)),
        sample=preparation.encoder.show(rows.train[0], 2000),
    )


def _notes(attempt: AttemptSpec, rows: TextRows) -> list[str]:
    notes, data = [], attempt.spec.data
    if rows.max_length < data.max_length:
        notes.append(
            f"`max_length` is lowered from {data.max_length} to {rows.max_length}, the model's own context length."
        )
    if data.split is not None and attempt.inputs.validation is not None:
        notes.append("The split has no effect: there is validation data, so all training data is trained on.")
    return notes
