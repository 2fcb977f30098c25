"""The mask receipt: what a job trains, token by token, and what it leaves out."""

from collections.abc import Iterator
from typing import Literal

from tunesmith.spec.frozen import Frozen

REFUSED = 3
"""How the process that makes a receipt ends if it cannot be made: its last line on standard error is the reason."""

Finding = Literal[
    "reasoning_left_out", "text_left_out", "other_prompt", "mark_untrained", "end_appended", "trailing_text"
]
"""What a chat template may do to a row."""

FOUND: dict[Finding, str] = {
    "reasoning_left_out": "the chat template leaves out reasoning of the assistant, so it is not trained",
    "text_left_out": "the chat template leaves out text of the system or the user",
    "other_prompt": "the text before the last answer is not the prompt that the chat template writes to ask for it",
    "mark_untrained": "the chat template ends the assistant's earlier turns with a mark at which the model does not "
    "stop, so that mark is not trained; the one behind the last turn is",
    "end_appended": "the chat template ends the last turn with no mark; the one that begins a next turn, at which the "
    "model stops, was put there and is trained",
    "trailing_text": "the chat template writes text behind the last turn, as if another answer were asked for; it is "
    "not trained",
}
"""How these are told, behind the number of rows."""


class Piece(Frozen):
    """Neighbouring tokens of which all or none are trained."""

    text: str
    trained: bool


class ReceiptRow(Frozen):
    """A row as the model sees it."""

    line: int
    tokens: int
    trained_tokens: int
    pieces: tuple[Piece, ...]
    """Decoded from its tokens, in order. Long ones are shortened in the middle by `…`."""


class Lines(Frozen):
    """Rows of one kind."""

    count: int
    lines: tuple[int, ...]
    """Of the first ones (at most 20)."""


def over_long(dropped: Lines, cut: Lines) -> Iterator[str]:
    """What became of rows that exceed the length limit, in words."""
    for rows, what in ((dropped, "left out"), (cut, "cut")):
        if rows.count:
            were, they = ("row was", "it exceeds") if rows.count == 1 else ("rows were", "they exceed")
            of_first = "line" if rows.count == 1 else "lines" if rows.count == len(rows.lines) else "first lines"
            shown = ", ".join(map(str, rows.lines))
            yield f"{rows.count:,} {were} {what}: {they} the length limit ({of_first}: {shown})."


class Receipt(Frozen):
    """What is trained, read off the very tokens and masks that the training uses."""

    rows: int
    """Rows that take part."""

    tokens: int
    """Of these rows."""

    trained_tokens: int
    """Those that carry loss."""

    trained_share: float

    turns: int
    """Stretches of trained tokens: the assistant's trained turns, or completions."""

    ended_turns: int
    """Those of them whose last trained token makes the model stop."""

    ends: dict[str, int]
    """Last trained tokens of these stretches and how often they occur; other ones than the model's stops count as an
    empty text."""

    stops: tuple[str, ...]
    """Tokens that make the model stop, by its generation configuration and its tokenizer."""

    max_length: int
    dropped: Lines
    """Left out, as they exceed `max_length`."""

    cut: Lines
    """Cut to `max_length`; their last turn may lack its end."""

    untrained: Lines
    """Left out, as none of their tokens carries loss."""

    findings: dict[Finding, int]
    """What the chat template does, and to how many rows."""

    lengths: tuple[tuple[int, int], ...]
    """Rows by length: a power of two, and the rows of at most so many tokens and more than half as many."""

    samples: tuple[ReceiptRow, ...]
    """The first rows that take part."""
