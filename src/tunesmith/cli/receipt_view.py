"""A mask receipt for the eye: trained tokens are green on a terminal, and stand between `⟦` and `⟧` everywhere."""

import sys

from tunesmith.cli.output import data, fields, printable
from tunesmith.spec.receipt import FOUND, Lines, Receipt, ReceiptRow

_GREEN, _PLAIN = "\x1b[32m", "\x1b[0m"
_BAR_WIDTH = 40


def show(receipt: Receipt) -> None:
    """Print figures, lengths and rows."""
    ends = ", ".join(f"{end!r} {count:,}" for end, count in receipt.ends.items() if end) or "none"
    fields(
        [
            ("Rows", f"{receipt.rows:,}"),
            ("Tokens", f"{receipt.tokens:,}"),
            ("Trained", f"{receipt.trained_tokens:,} ({receipt.trained_share:.1%})"),
            ("Turns", f"{receipt.turns:,}, of which {receipt.ended_turns:,} end with a token at which the model stops"),
            ("Ends", ends),
            ("Stops", ", ".join(map(repr, receipt.stops)) or "none"),
            ("Left out", f"{_lines(receipt.dropped)}, longer than {receipt.max_length:,} tokens"),
            ("Cut", _lines(receipt.cut)),
            ("Untrained", f"{_lines(receipt.untrained)}, without a token to train"),
            *(("Note", f"in {count:,} rows {FOUND[finding]}") for finding, count in receipt.findings.items()),
        ]
    )
    _show_lengths(receipt)
    for row in receipt.samples:
        _show_row(row)


def _show_lengths(receipt: Receipt) -> None:
    data("")
    most = max(count for _, count in receipt.lengths)
    for length, count in receipt.lengths:
        data(f"up to {length:>7,} tokens  {'#' * max(1, count * _BAR_WIDTH // most)} {count:,}")


def _show_row(row: ReceiptRow) -> None:
    data(f"\nLine {row.line}: {row.tokens:,} tokens, {row.trained_tokens:,} of them trained")
    green, plain = (_GREEN, _PLAIN) if sys.stdout.isatty() else ("", "")
    data(
        "".join(
            f"{green}⟦{printable(piece.text)}⟧{plain}" if piece.trained else printable(piece.text)
            for piece in row.pieces
        )
    )


def _lines(rows: Lines) -> str:
    if not rows.count:
        return "0"
    shown = ", ".join(map(str, rows.lines))
    return f"{rows.count:,} (lines {shown}{', …' if rows.count > len(rows.lines) else ''})"
