"""Rows of a table as text: CSV with a header, fields apart by comma, semicolon, tab or bar."""

import csv
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

from tunesmith.data.text_lines import text_lines
from tunesmith.spec.errors import DatasetError

MAX_FIELD_CHARACTERS = 16 * 2**20
MAX_COLUMNS = 1_000

_DELIMITERS = ",;\t|"
_HINT = (
    "What begins with neither { nor [ is read as a table. The first line must name the columns, and fields with a "
    "delimiter or line end in them need quotation marks."
)

# The limit is one for the whole process. The default, 128 KiB, is shorter than texts that people train on.
csv.field_size_limit(MAX_FIELD_CHARACTERS)


def read_csv(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the line where each row begins, and its fields, all text. Blank lines are skipped.

    Raises:
        DatasetError: the file is no table in UTF-8: a row has more or fewer fields than the header, a column has no
            name or another's, a field exceeds 16 Mi characters, quotation marks do not match.
    """
    records = _records(file)
    _, names = next(records, (1, []))  # of blank lines alone, none
    header = _checked([name.strip() for name in names])
    for line, fields in records:
        if len(fields) != len(header):
            raise DatasetError(
                f"Line {line} has {len(fields)} fields, but the header names {len(header)} columns.", hint=_HINT
            )
        yield line, dict(zip(header, fields, strict=True))


def _records(file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    lines = _without_zeros(file)
    skipped, header = next(((line - 1, text) for line, text in lines if text.strip()), (0, ""))
    texts = chain([header], (text for _, text in lines))
    reader = csv.reader(texts, delimiter=_delimiter(header), strict=True)
    start = skipped + 1
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = skipped + reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"The row that begins in line {start}: {_reason(error)}.", hint=_HINT) from error


def _without_zeros(file: BinaryIO) -> Iterator[tuple[int, str]]:
    for line, text in text_lines(file):
        if "\0" in text:
            raise DatasetError(f"Line {line} holds a zero byte, which no text does.", hint="Save the table as UTF-8.")
        yield line, text


def _delimiter(header: str) -> str:
    """The delimiter that takes the header apart into most names."""
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _reason(error: csv.Error) -> str:
    if "field limit" in str(error):
        return f"a field has more than {MAX_FIELD_CHARACTERS} characters, or a quotation mark is not closed"
    if "unexpected end" in str(error):
        return "a quotation mark is not closed when the file ends"
    return str(error)


def _checked(header: list[str]) -> list[str]:
    if len(header) > MAX_COLUMNS:
        raise DatasetError(f"The header has {len(header):,} columns; at most {MAX_COLUMNS:,} are read.", hint=_HINT)
    known: set[str] = set()
    for number, name in enumerate(header, 1):
        if not name:
            raise DatasetError(f"Column {number} of the header has no name.", hint=_HINT)
        if name in known:
            raise DatasetError(f"The header names the column {name!r} twice.", hint=_HINT)
        known.add(name)
    return header
