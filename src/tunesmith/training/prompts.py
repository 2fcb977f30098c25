"""What an export is asked: held-out rows if there are any, else rows of the training, else sentences of ours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.export import ExportSpec, RowsToAsk
from tunesmith.training.merging import reads_pictures
from tunesmith.training.model import load_config
from tunesmith.training.preparation import Preparation
from tunesmith.training.row_source import RowSource
from tunesmith.training.stop_tokens import stop_tokens
from tunesmith.training.supervised_rows import SupervisedShape

_MOST = 8
_LONGEST_TOKENS = 256

_FIXED = (
    "The capital of France is",
    "Please write a short answer to this question: what is water made of?",
    "def add(a, b):\n    return",
    "Dear Sir or Madam, I am writing to you because",
)


@dataclass(frozen=True)
class Prompts:
    """Tokens to be continued."""

    ids: tuple[tuple[int, ...], ...]
    source: Literal["validation", "training", "fixed"]


def prompts_for(order: ExportSpec, tokenizer: Any, poll: Callable[[], None]) -> Prompts:
    """At most eight prompts, of at most 256 tokens each. A model that reads pictures is shown one of ours, too."""
    if reads_pictures(order):
        from tunesmith.training.vision_export import picture_prompt

        return Prompts((*_tokens(tokenizer, _FIXED), picture_prompt(order.base, tokenizer)), "fixed")
    held_out = _held_out(order, tokenizer, poll) if order.held_out else ()
    if held_out:
        return Prompts(held_out, "validation")
    seen = tuple(_tokens(tokenizer, order.texts))
    if seen:
        return Prompts(seen, "training")
    return Prompts(tuple(_tokens(tokenizer, _FIXED)), "fixed")


def _held_out(order: ExportSpec, tokenizer: Any, poll: Callable[[], None]) -> tuple[tuple[int, ...], ...]:
    assert order.held_out is not None
    preparation = Preparation(
        tokenizer,
        SupervisedShape("sft", "assistant"),
        stops=stop_tokens(order.base, tokenizer),
        vocabulary=load_config(order.base).get_text_config().vocab_size,
        max_length=_LONGEST_TOKENS,
        over_long="truncate",
        poll=poll,
    )
    try:
        rows = preparation.read(_source(order.held_out))
    except TunesmithError:  # rows of another shape, such as pairs, or that a newer template refuses: others are asked
        return ()
    return tuple(tuple(int(number) for number in row.ids[: _beginning(row.trained)]) for row in rows)


def _source(rows: RowsToAsk) -> RowSource:
    part: Literal["train", "validation"] = "train" if rows.split is None else "validation"
    return RowSource(rows.path, rows.reading, rows.split, part, 1.0, _MOST, rows.seed)


def _beginning(trained: "np.ndarray[Any, np.dtype[np.bool_]]") -> int:
    """How many tokens of a row are the prompt of its first answer; half of a row that is trained throughout."""
    first = int(np.argmax(trained))
    return first if first > 1 else max(1, len(trained) // 2)


def _tokens(tokenizer: Any, texts: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    for text in texts[:_MOST]:
        ids = tokenizer(text, add_special_tokens=False).input_ids[:_LONGEST_TOKENS]
        if ids:
            yield tuple(ids)
