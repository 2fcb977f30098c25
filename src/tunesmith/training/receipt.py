"""The mask receipt of rows that were prepared.

python -m tunesmith.training.receipt FILE MODEL MAX_LENGTH [PICTURES]

prints that of a file with the tokenizer and the chat template of a model's folder, as JSON. PICTURES is a file with
those that its rows show. A refusal is printed to standard error, also as JSON, and ends it with 3.
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.row_pictures import RowPictures
from tunesmith.spec.errors import ChatTemplateError, TunesmithError
from tunesmith.spec.reading import AS_FOUND
from tunesmith.spec.receipt import REFUSED, Piece, Receipt, ReceiptRow
from tunesmith.training.model import context_length, load_config, load_tokenizer, sees_always
from tunesmith.training.preparation import Preparation
from tunesmith.training.row_source import RowSource
from tunesmith.training.shapes import R, RowShape
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


def inspect_file(path: Path, model: Path, max_length: int, pictures: Path | None) -> Receipt:
    """The receipt of a whole file with a model's tokenizer and chat template. Longer rows are left out. `pictures` are
    those that the rows show, gathered; none if they show none.

    Raises:
        TunesmithError: the file, a row, a picture, the tokenizer or the chat template cannot be used.
    """
    tokenizer = load_tokenizer(model)
    sees = pictures is not None or sees_always(model)
    config = load_config(model, "vision_language" if sees else "text")
    preparation = Preparation(
        tokenizer,
        _picture_shape(model, tokenizer, pictures) if sees else SupervisedShape("sft", "assistant"),
        stops=stop_tokens(model, tokenizer),
        vocabulary=config.get_text_config().vocab_size,
        max_length=min(max_length, context_length(config) or max_length),
        over_long="drop",
        poll=lambda: None,
    )
    rows = preparation.read(RowSource(path, AS_FOUND, None, "train", 1.0, None, 0))
    return receipt_of(preparation, rows.first(SAMPLES))


def _picture_shape(model: Path, tokenizer: Any, pictures: Path | None) -> RowShape[TokenRow]:
    from tunesmith.training.vision_processor import PictureProcessor
    from tunesmith.training.vision_rows import PictureShape

    return PictureShape("sft", "assistant", RowPictures(pictures), PictureProcessor(model, tokenizer))


def _shown(row: TokenRow, encoder: Encoder) -> ReceiptRow:
    pieces = tuple(Piece(text=_shortened(piece.text), trained=piece.trained) for piece in encoder.pieces(row))
    return ReceiptRow(line=row.line, tokens=len(row.ids), trained_tokens=row.trained_count, pieces=pieces)


def _shortened(text: str) -> str:
    half = _PIECE_CHARACTERS // 2
    return text if len(text) <= _PIECE_CHARACTERS else f"{text[:half]}…{text[-half:]}"


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    if len(arguments) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    file, model, max_length, *pictures = arguments
    shown = Path(pictures[0]) if pictures else None
    try:
        print(inspect_file(Path(file), Path(model), int(max_length), shown).model_dump_json())
    except TunesmithError as error:
        print(error.info.model_dump_json(), file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
