"""How rows are to be understood, and which of them belong to which part of the data."""

import math
from collections.abc import Iterator
from string import Formatter
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tunesmith.spec.frozen import Frozen

Format = Literal[
    "messages",
    "sharegpt",
    "preference",
    "kto",
    "classification",
    "tokens",
    "alpaca",
    "query_response",
    "prompt_completion",
    "text",
]
"""Shape of a row. `docs/data.md` describes each."""

Purpose = Literal["prompt", "completion", "system", "chosen", "rejected", "label", "text", "image", "messages"]
"""What a column can be for."""

Part = Literal["train", "validation", "test"]

MAX_TEXT = 32_768
"""Characters that are added to every row."""

PARTS: tuple[Part, ...] = ("train", "validation", "test")


class Reading(Frozen):
    """How to understand the rows of a file. Without any of it, a row's keys decide."""

    format: Format | None = None
    """The shape of all rows; none = that of the first row, told from its keys."""

    columns: dict[Purpose, str] = Field(default={})
    """What a column is for, and the column's name. Every one named must exist."""

    template: str | None = Field(default=None, max_length=MAX_TEXT)
    """Text of the prompt with `{column}` for a column's value; `{{` and `}}` for braces. It takes the place of the
    column for `prompt`."""

    system: str | None = Field(default=None, max_length=MAX_TEXT)
    """System text of the rows that have none of their own."""

    @field_validator("template")
    @classmethod
    def _holds_plain_names(cls, template: str | None) -> str | None:
        if template is not None:
            list(template_pieces(template))
        return template

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.template is not None and "prompt" in self.columns:
            raise ValueError("Either `template` or the column for `prompt` makes the prompt, not both.")
        names = list(self.columns.values())
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"The column {twice!r} is named for two purposes.")
        return self


AS_FOUND = Reading()
"""Rows speak for themselves."""


def template_pieces(template: str) -> Iterator[tuple[str, str | None]]:
    """The template as pieces of plain text, each with the column whose value follows it, or none.

    Raises:
        ValueError: braces do not match, or hold something other than a column's name.
    """
    for text, name, form, conversion in Formatter().parse(template):
        if name is not None and (not name.strip() or form or conversion or any(sign in name for sign in ".[]")):
            raise ValueError(
                f"The template may hold only names of columns in braces, such as {{question}}; got {{{name}}} with "
                "a format, an attribute or no name. Write {{ and }} for braces."
            )
        yield text, name


class SplitSpec(Frozen):
    """How rows are shared out to training, validation and test."""

    by: Literal["random", "sequential", "column"]
    """`random` draws by the job's seed; `sequential` takes the first rows for training, and so on; `column` obeys a
    column."""

    ratios: tuple[float, ...] = (1.0,)
    """Shares of training, validation and test: one to three numbers with the sum 1. Without effect on `column`."""

    column: str | None = None
    """Column whose values are 0, 1 and 2, or `train`, `validation` and `test`."""

    @property
    def may_validate(self) -> bool:
        """Whether there may be rows for validation; the values of a column are known only once they are read."""
        return self.by == "column" or sum(self.ratios[1:2]) > 0

    @field_validator("ratios")
    @classmethod
    def _are_shares(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(ratios) <= len(PARTS):
            raise ValueError(f"ratios has {len(ratios)} numbers; give 1 to 3: training, validation and test.")
        if not all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios) or ratios[0] == 0:
            raise ValueError(f"ratios {list(ratios)} must be 0 or more, the first above 0.")
        if abs(sum(ratios) - 1) > 1e-6:
            raise ValueError(f"ratios {list(ratios)} have the sum {sum(ratios):g}, not 1.")
        return ratios

    @model_validator(mode="after")
    def _names_a_column(self) -> Self:
        if (self.by == "column") != (self.column is not None):
            raise ValueError("`column` must be given if, and only if, `by` is `column`.")
        return self
