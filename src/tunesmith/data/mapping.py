"""Rows as a job's `Reading` wants them: columns under their purposes, the prompt by its template, a system text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunesmith.data.conversations import assistant_turn, user_turn, with_system
from tunesmith.data.examples import (
    Content,
    Conversation,
    Example,
    Judged,
    Labelled,
    Preference,
    PromptCompletion,
    RowError,
    kind_of,
)
from tunesmith.data.formats import SYSTEMLESS, USED_KEYS
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.reading import Format, Reading, template_pieces


class Mapper:
    """Brings rows into the shape that the readers know."""

    def __init__(self, reading: Reading) -> None:
        self._columns: dict[str, str] = {name: purpose for purpose, name in reading.columns.items()}
        self._pieces = list(template_pieces(reading.template)) if reading.template is not None else None
        self._changes = bool(self._columns) or self._pieces is not None
        in_template = [name for _, name in self._pieces or () if name is not None]
        self.needed = tuple(dict.fromkeys([*self._columns, *in_template]))
        """Names of columns that the reading speaks of."""

        self._required = [name for name in self.needed if name in in_template or self._columns[name] != "system"]

    def row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with its columns under their purposes.

        Raises:
            RowError: a column that is needed is missing, or cannot stand in the prompt.
        """
        if not self._changes:
            return row
        for name in self._required:
            if name not in row:
                raise RowError(name, f"the column `{name}` is missing.")
        if self._columns:
            mapped = {purpose: row[name] for name, purpose in self._columns.items() if name in row}
        else:
            mapped = {key: value for key, value in row.items() if key not in self.needed}
        if self._pieces is not None:
            mapped["prompt"] = "".join([text + _filled(row, name) for text, name in self._pieces])
        return _with_caption(mapped) if self._columns else mapped


def add_system(example: Example, system: str) -> Example:
    """The example with a system text, unless it has one. A prompt of plain text becomes turns."""
    match example:
        case Conversation(messages=messages):
            return replace(example, messages=with_system(messages, system))
        case PromptCompletion(line=line, prompt=prompt, completion=completion):
            return Conversation(line, with_system((user_turn(prompt), assistant_turn(completion)), system), None)
        case Preference(prompt=prompt, chosen=chosen, rejected=rejected):
            turns = with_system(_asked(prompt), system)
            return replace(example, prompt=turns, chosen=_answered(chosen), rejected=_answered(rejected))
        case Judged(prompt=prompt, completion=completion):
            return replace(example, prompt=with_system(_asked(prompt), system), completion=_answered(completion))
        case Labelled(content=content):
            return replace(example, content=with_system(_asked(content), system))
        case _:
            return example


def require_effect(reading: Reading, shape: Format) -> None:
    """See that everything the reading says has an effect on rows of a shape.

    Raises:
        DatasetError: something has none.
    """
    if reading.system is not None and shape in SYSTEMLESS:
        raise DatasetError(f"Rows of the format `{shape}` have no place for a system text.", param="system")
    if reading.template is not None and "prompt" not in USED_KEYS[shape]:
        raise DatasetError(f"Rows of the format `{shape}` have no prompt that a template could make.", param="template")
    for purpose, name in reading.columns.items():
        captions = purpose == "text" and "image" in reading.columns
        if purpose not in USED_KEYS[shape] and not captions:
            raise DatasetError(
                f"The column `{name}` is named for `{purpose}`, which rows of the format `{shape}` do not have.",
                param=f"columns.{purpose}",
            )


def missing_columns(names: Sequence[str], present: Sequence[str]) -> DatasetError:
    """The error for columns that no row has."""
    shown = ", ".join(f"`{name}`" for name in list(present)[:20]) or "none"
    more = f" and {len(present) - 20} more" if len(present) > 20 else ""
    return DatasetError(
        f"The rows have no column {', '.join(f'`{name}`' for name in names)}; their columns: {shown}{more}.",
        param="columns",
        hint="Name columns exactly as the file does.",
    )


def _filled(row: Mapping[str, Any], name: str | None) -> str:
    if name is None:
        return ""
    value = row[name]
    if value is None or isinstance(value, dict | list | bytes):
        raise RowError(name, f"`{name}` stands in the template and must be text or a number, got {kind_of(value)}.")
    return str(value)


def _with_caption(row: dict[str, Any]) -> dict[str, Any]:
    """A picture's caption is the answer to the picture."""
    if "image" not in row or "messages" in row or "label" in row:
        return row
    if "text" in row and "completion" not in row:
        row["completion"] = row.pop("text")
    if "completion" in row:
        row.setdefault("prompt", "")
    return row


def _asked(prompt: Content) -> Any:
    return (user_turn(prompt),) if isinstance(prompt, str) else prompt


def _answered(answer: Content) -> Any:
    return (assistant_turn(answer),) if isinstance(answer, str) else answer
