"""Rows of files that are too large to be prepared before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.indexed_rows import IndexedRows, is_json_lines
from tunesmith.spec.events import Prepared
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.receipt import over_long
from tunesmith.training.preparation import Preparation
from tunesmith.training.receipt import receipt_of
from tunesmith.training.row_cache import kept_rows
from tunesmith.training.row_shelf import RowShelf
from tunesmith.training.row_source import RowSource, source_of
from tunesmith.training.shapes import RowShape
from tunesmith.training.stream import StreamOrder
from tunesmith.training.text import TokenRow
from tunesmith.training.text_rows import preparation_of, read_validation, sample_of, settled_notes
from tunesmith.training.windows import Pieces
from tunesmith.training.workplace import Workplace

STREAMED_ABOVE = 20_000
"""Rows of a file that are prepared before the first step: a matter of seconds."""


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """What is trained on as it is prepared, and what is scored."""

    train: StreamOrder
    validation: Sequence[TokenRow]


def stream_rows(
    attempt: AttemptSpec,
    tokenizer: Any,
    shape: RowShape[TokenRow],
    workplace: Workplace,
    above: int = STREAMED_ABOVE,
) -> StreamedRows | None:
    """Begin to prepare the rows of a file of JSON Lines with more than so many of them, and report what is planned.

    None for all others, and where a split or a share makes it depend on all rows which of them take part.

    Raises:
        DatasetError: a file or one of the first rows cannot be used, or no row can be trained.
        ModelLoadError: the tokenizer or the configuration cannot be used.
    """
    source = source_of(attempt, "train")
    assert source is not None
    if source.split is not None or source.share != 1 or not is_json_lines(source.path):
        return None
    rows = IndexedRows(source.path, source.reading, source.limit)
    if len(rows) <= above:
        return None
    preparation = preparation_of(attempt, tokenizer, shape, workplace.poll)
    stream = _begun(attempt, rows, source, preparation, workplace)
    validation = read_validation(attempt, tokenizer, shape, workplace)
    _report_plan(attempt, stream, preparation, len(validation), workplace)
    return StreamedRows(stream, validation)


def _begun(
    attempt: AttemptSpec, rows: IndexedRows, source: RowSource, preparation: Preparation[TokenRow], workplace: Workplace
) -> StreamOrder:
    optimization = attempt.spec.optimization
    kept = kept_rows(attempt, source, preparation)
    pieces = Pieces(rows, preparation, optimization.seed, RowShelf(kept.folder if kept else None, len(rows)))
    return StreamOrder(
        pieces,
        source,
        preparation,
        optimization,
        packing=attempt.spec.data.packing,
        report=lambda stream: _report_end(stream, preparation, workplace),
    )


def _report_plan(
    attempt: AttemptSpec,
    stream: StreamOrder,
    preparation: Preparation[TokenRow],
    validation_rows: int,
    workplace: Workplace,
) -> None:
    for note in settled_notes(attempt, preparation.max_length):
        workplace.reporter.note(note)
    receipt = receipt_of(preparation, stream.samples)
    workplace.run.write_receipt(receipt)
    workplace.reporter.write(
        Prepared,
        rows=stream.rows,
        validation_rows=validation_rows,
        dropped_lines=receipt.dropped.lines,
        dropped=receipt.dropped.count,
        truncated_lines=receipt.cut.lines,
        truncated=receipt.cut.count,
        sequences=stream.plan.sequences,
        tokens=stream.plan.tokens,
        trained_tokens=stream.plan.trained_tokens,
        trained_share=receipt.trained_share,
        lengths=receipt.lengths,
        sampled_rows=stream.plan.rows,
        receipt=workplace.run.receipt.name,
        total_steps=stream.total,
        sample=sample_of(preparation.encoder, stream.samples[0]),
    )


def _report_end(stream: StreamOrder, preparation: Preparation[TokenRow], workplace: Workplace) -> None:
    """What was prepared and trained, which before was only planned."""
    seen = stream.seen
    for note in preparation.notes():
        workplace.reporter.note(note)
    for sentence in over_long(seen.dropped, seen.cut):
        workplace.reporter.note(sentence)
    workplace.reporter.note(
        f"{seen.rows + seen.left_out:,} of {stream.rows:,} rows were prepared as the training went on, and "
        f"{stream.place.rows:,} rows trained in {stream.epochs_after(stream.step):.3f} passes.",
        warn=False,
    )
    workplace.run.write_receipt(receipt_of(preparation, stream.samples))
