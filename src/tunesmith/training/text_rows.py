"""All rows of a text training: read, tokenised, packed, and reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from tunesmith.spec.errors import NothingToTrainError
from tunesmith.spec.events import Prepared
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.plan import RowsPlan
from tunesmith.training.model import context_length, load_config, load_tokenizer
from tunesmith.training.optim import count_steps
from tunesmith.training.packing import pack
from tunesmith.training.plan_rows import planned_rows
from tunesmith.training.preparation import Preparation
from tunesmith.training.receipt import SAMPLES, receipt_of
from tunesmith.training.row_block import BlockRows
from tunesmith.training.row_cache import kept_rows
from tunesmith.training.row_source import RowSource, source_of
from tunesmith.training.shapes import R, Row, RowShape
from tunesmith.training.stop_tokens import stop_tokens
from tunesmith.training.text import Encoder
from tunesmith.training.workplace import Workplace

_SAMPLE_CHARACTERS = 2000


@dataclass(frozen=True, eq=False)
class TextRows(Generic[R]):
    """What is trained on and what is scored."""

    train: Sequence[R]
    sequences: Sequence[tuple[int, ...]]
    """Indices into `train` of each training sequence."""

    validation: Sequence[R]
    max_length: int
    """Tokens of a sequence: what was asked for, or the model's context length if that is shorter."""

    longest: int
    """Tokens of the longest training sequence."""


def survey_rows(attempt: AttemptSpec, shape: RowShape[R], poll: Callable[[], None]) -> RowsPlan:
    """Look at the first rows, and tell what all of them will come to.

    Raises:
        DatasetError: the file or one of these rows cannot be used, or none can be trained.
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    source = source_of(attempt, "train")
    assert source is not None
    preparation = preparation_of(attempt, load_tokenizer(attempt.inputs.model), shape, poll)
    return planned_rows(attempt, source, preparation)


def read_rows(
    attempt: AttemptSpec, tokenizer: Any, shape: RowShape[R], workplace: Workplace, scored: RowShape[R] | None = None
) -> TextRows[R]:
    """Read all rows and report how many there are. Rows for validation are of the shape `scored`; none = of the same.

    Raises:
        DatasetError: a file or a row cannot be used, or none is left to train or to score.
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    preparation = preparation_of(attempt, tokenizer, shape, workplace.poll)
    source = source_of(attempt, "train")
    assert source is not None
    train = _read(attempt, source, preparation, workplace)
    validation = read_validation(attempt, tokenizer, scored or shape, workplace)
    test = source_of(attempt, "test")
    sequences = (
        pack(train.lengths, preparation.max_length)
        if attempt.spec.data.packing
        else [(index,) for index in range(len(train))]
    )
    tokens = train.tokens
    longest = max(sum(tokens[row] for row in sequence) for sequence in sequences)
    rows = TextRows(train, sequences, validation, preparation.max_length, longest)
    _report(attempt, rows, train.first(SAMPLES), test.count(workplace.poll) if test else 0, preparation, workplace)
    return rows


def _read(attempt: AttemptSpec, source: RowSource, preparation: Preparation[R], workplace: Workplace) -> BlockRows[R]:
    """The rows of a source: those that an earlier training left, or prepared now and left for the next."""
    kept = kept_rows(attempt, source, preparation)
    if kept is None:
        return preparation.read(source)
    found = kept.load()
    if found is not None:
        return preparation.rows_of(found, source)
    rows = preparation.read(source)
    try:
        kept.store(rows.block)
    except OSError as error:
        workplace.reporter.note(f"The prepared rows are not kept for later trainings: {error}", warn=False)
    return rows


def preparation_of(
    attempt: AttemptSpec, tokenizer: Any, shape: RowShape[R], poll: Callable[[], None]
) -> Preparation[R]:
    """How rows become token rows for this model, up to the length that it and the job allow.

    Raises:
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    config, data = load_config(attempt.inputs.model, attempt.spec.model.modality), attempt.spec.data
    return Preparation(
        tokenizer,
        shape,
        stops=stop_tokens(attempt.inputs.model, tokenizer),
        vocabulary=config.get_text_config().vocab_size,
        max_length=min(data.max_length, context_length(config) or data.max_length),
        over_long=data.over_long,
        poll=poll,
    )


def read_validation(attempt: AttemptSpec, tokenizer: Any, shape: RowShape[R], workplace: Workplace) -> Sequence[R]:
    """The rows that are scored; none without validation data.

    Raises:
        DatasetError: the file or a row cannot be used, or none is left to score.
    """
    source = source_of(attempt, "validation")
    if source is None:
        return []
    preparation = preparation_of(attempt, tokenizer, shape, workplace.poll)
    try:
        rows = _read(attempt, source, preparation, workplace)
    except NothingToTrainError as error:
        raise NothingToTrainError(f"Validation data: {error.message}", hint=error.hint) from error
    if not rows and source.split is not None and source.split.by != "column":
        workplace.reporter.note("There are too few rows for the split: the part `validation` has none.")
    left_out, cut = preparation.seen.dropped.count, preparation.seen.cut.count
    if left_out or cut:
        workplace.reporter.note(
            f"Validation data: {left_out} rows left out and {cut} cut: longer than {preparation.max_length} tokens."
        )
    return rows


def _report(
    attempt: AttemptSpec,
    rows: TextRows[R],
    first: Sequence[R],
    test_rows: int,
    preparation: Preparation[R],
    workplace: Workplace,
) -> None:
    for note in (*settled_notes(attempt, rows.max_length), *preparation.notes()):
        workplace.reporter.note(note)
    receipt = receipt_of(preparation, first)
    workplace.run.write_receipt(receipt)
    workplace.reporter.write(
        Prepared,
        rows=len(rows.train),
        validation_rows=len(rows.validation),
        test_rows=test_rows,
        dropped_lines=receipt.dropped.lines,
        dropped=receipt.dropped.count,
        truncated_lines=receipt.cut.lines,
        truncated=receipt.cut.count,
        sequences=len(rows.sequences),
        tokens=receipt.tokens,
        trained_tokens=receipt.trained_tokens,
        trained_share=receipt.trained_share,
        lengths=receipt.lengths,
        receipt=workplace.run.receipt.name,
        total_steps=count_steps(attempt.spec.optimization, len(rows.sequences)),
        sample=sample_of(preparation.encoder, first[0]),
    )


def sample_of(encoder: Encoder, row: Row) -> str:
    """A row's text with trained spans between `⟦` and `⟧`, with an equal share of the characters for each sequence."""
    share = _SAMPLE_CHARACTERS // len(row.sequences)
    return "\n\n".join(encoder.show(sequence, share - 2) for sequence in row.sequences)


def settled_notes(attempt: AttemptSpec, max_length: int) -> list[str]:
    """What becomes of the job's wishes, with sequences of up to `max_length` tokens."""
    notes, data = [], attempt.spec.data
    if max_length < data.max_length:
        notes.append(f"`max_length` is lowered from {data.max_length} to {max_length}, the model's own context length.")
    if data.split is not None and attempt.inputs.validation is not None:
        notes.append("The split has no effect: there is validation data, so all training data is trained on.")
    return notes
