"""The mask receipt of rows that were prepared.

python -m tunesmith.training.receipt FILE MODEL MAX_LENGTH

prints that of a file with the tokenizer and the chat template of a model's folder, as JSON. A refusal is printed to
standard error, also as JSON, and ends it with 3.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunesmith.spec.errors import ChatTemplateError, TunesmithError
from tunesmith.spec.reading import AS_FOUND
from tunesmith.spec.receipt import REFUSED, Piece, Receipt, ReceiptRow
from tunesmith.training.model import context_length, load_config, load_tokenizer
from tunesmith.training.preparation import Preparation
from tunesmith.training.row_source import RowSource
from tunesmith.training.shapes import R
from tunesmith.training.stop_tokens import stop_tokens
from tunesmith.training.supervised_rows import SupervisedShape
from tunesmith.training.text import Encoder, TokenRow

SAMPLES = 5
"""Rows that a receipt shows."""

_PIECE_CHARACTERS = 1200


def receipt_of(preparation: Preparation[R], rows: Sequence[R]) -> Receipt:
    """What the rows that were prepared train, read off their tokens and masks; `rows` are the first of them.

    Raises:
        ChatTemplateError: no row trains the model to stop, as the chat template ends turns that others follow with
            another mark, and the last ones are not trained.
    """
    encoder, seen = preparation.encoder, preparation.seen
    ends: Counter[str] = Counter()
    for end, count in seen.ends.items():
        ends[encoder.decode(np.array([end])) if end >= 0 else ""] += count
    shown = [sequence for row in rows for sequence in row.sequences]
    receipt = Receipt(
        rows=seen.rows,
        tokens=seen.tokens,
        trained_tokens=seen.trained_tokens,
        trained_share=seen.trained_tokens / seen.tokens,
        turns=ends.total(),
        ended_turns=ends.total() - ends[""],
        ends=dict(ends.most_common()),
        stops=tuple(encoder.decode(np.array([stop])) for stop in sorted(encoder.stops)),
        max_length=preparation.max_length,
        dropped=seen.dropped,
        cut=seen.cut,
        untrained=seen.untrained,
        findings=dict(sorted(seen.findings.items())),
        lengths=tuple(sorted(seen.lengths.items())),
        samples=tuple(_shown(sequence, encoder) for sequence in shown[:SAMPLES]),
    )
    if receipt.ended_turns == 0 and "mark_untrained" in seen.findings:
        raise ChatTemplateError(
            "No row trains the model to stop: the chat template ends turns that others follow with a mark at which the "
            "model does not stop, and no last turn is trained.",
            hint="Train the last turn of some rows: do not give it the weight 0.",
        )
    return receipt


def inspect_file(path: Path, model: Path, max_length: int) -> Receipt:
    """The receipt of a whole file with a model's tokenizer and chat template. Longer rows are left out.

    Raises:
        TunesmithError: the file, a row, the tokenizer or the chat template cannot be used.
    """
    tokenizer, config = load_tokenizer(model), load_config(model)
    preparation = Preparation(
        tokenizer,
        SupervisedShape("sft", "assistant"),
        stops=stop_tokens(model, tokenizer),
        vocabulary=config.get_text_config().vocab_size,
        max_length=min(max_length, context_length(config) or max_length),
        over_long="drop",
        poll=lambda: None,
    )
    rows = preparation.read(RowSource(path, AS_FOUND, None, "train", 1.0, None, 0))
    return receipt_of(preparation, rows.first(SAMPLES))


def _shown(row: TokenRow, encoder: Encoder) -> ReceiptRow:
    pieces = tuple(Piece(text=_shortened(piece.text), trained=piece.trained) for piece in encoder.pieces(row))
    return ReceiptRow(line=row.line, tokens=len(row.ids), trained_tokens=row.trained_count, pieces=pieces)


def _shortened(text: str) -> str:
    half = _PIECE_CHARACTERS // 2
    return text if len(text) <= _PIECE_CHARACTERS else f"{text[:half]}…{text[-half:]}"


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    file, model, max_length = arguments
    try:
        print(inspect_file(Path(file), Path(model), int(max_length)).model_dump_json())
    except TunesmithError as error:
        print(error.info.model_dump_json(), file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
