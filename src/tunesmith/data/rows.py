"""Rows of a JSON Lines file, one at a time, in constant memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tunesmith.data.formats import READERS, Example, Format, RowError, detect_format
from tunesmith.spec.errors import DatasetError

MAX_LINE_BYTES = 64 * 2**20

_FORMAT_HINT = 'Write one JSON object a line, such as {"messages": [{"role": "user", "content": "..."}, ...]}.'

_MAGIC = (
    (b"\xff\xfe", "is UTF-16 text"),
    (b"\xfe\xff", "is UTF-16 text"),
    (b"PAR1", "is a Parquet file"),
    (b"PK\x03\x04", "is a ZIP archive"),
    (b"\x1f\x8b", "is gzip-compressed"),
    (b"BZh", "is bzip2-compressed"),
    (b"\xfd7zXZ", "is xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed"),
    (b"ARROW1", "is an Arrow file"),
    (b"%PDF", "is a PDF document"),
    (b"\x80\x02", "is a Python pickle"),
    (b"\x80\x03", "is a Python pickle"),
    (b"\x80\x04", "is a Python pickle"),
    (b"\x80\x05", "is a Python pickle"),
)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and decoded objects. Blank lines are skipped, a UTF-8 byte order mark is accepted.

    Raises:
        DatasetError: the file is not JSON Lines in UTF-8; the message names the line and what to do.
    """
    with path.open("rb") as file:
        _refuse_other_kinds(file.read(512))
        file.seek(0)
        found = False
        for line, text in _lines(file):
            found = True
            yield line, _decode(text, line)
        if not found:
            file.seek(0)
            what = "holds only blank lines" if file.read(1) else "is empty"
            raise DatasetError(f"The file {what}.", hint=_FORMAT_HINT)


def read_examples(path: Path) -> Iterator[Example]:
    """The file's examples in order.

    Raises:
        DatasetError: as for `read_rows`, or a row cannot be trained.
    """
    kind: Format | None = None
    for line, row in read_rows(path):
        kind = row_format(row, line, kind)
        try:
            yield READERS[kind](row, line)
        except RowError as error:
            raise DatasetError(f"Line {line}: {error.reason}", param=error.path) from error


def row_format(row: dict[str, Any], line: int, expected: Format | None) -> Format:
    """The format to read a row with: that of the file's first row.

    Raises:
        DatasetError: the row has the keys of another format, or the first row those of none.
    """
    found = detect_format(row)
    if expected is None:
        if found is None:
            keys = ", ".join(f"`{key}`" for key in list(row)[:8]) or "none"
            raise DatasetError(
                f"Line {line} has neither `messages` nor `prompt` and `completion` nor `text`; its keys: {keys}.",
                hint=_FORMAT_HINT,
            )
        return found
    if found is not None and found != expected:
        raise DatasetError(
            f"Line {line} is a `{found}` row, but the rows before it are `{expected}` rows.",
            hint="Use one format throughout a file.",
        )
    return expected


def _refuse_other_kinds(head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise DatasetError(f"The file {what}, not JSON Lines in UTF-8.", hint=_FORMAT_HINT)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"<":
        raise DatasetError("The file is an HTML or XML page, not JSON Lines.", hint=_FORMAT_HINT)
    if start[:1] == b"[":
        raise DatasetError("The file is one JSON array, not JSON Lines.", hint=_FORMAT_HINT)


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    line = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if len(data) > MAX_LINE_BYTES:
            raise DatasetError(f"Line {line} is longer than {MAX_LINE_BYTES // 2**20} MiB.", hint=_FORMAT_HINT)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"Line {line} is not UTF-8: byte {error.start + 1} is 0x{data[error.start]:02x}.",
                hint="Save the file as UTF-8.",
            ) from error
        if line == 1:
            text = text.removeprefix("\ufeff")
        if not text.isspace() and text:
            yield line, text


def _decode(text: str, line: int) -> dict[str, Any]:
    try:
        row = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        _raise_broken(text, line, error)
    except (_RefusedJSONError, RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DatasetError(f"Line {line} cannot be used: {reason}.", hint=_FORMAT_HINT) from error
    if not isinstance(row, dict):
        kind = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(row), "a number")
        raise DatasetError(f"Line {line} is {kind}, not an object.", hint=_FORMAT_HINT)
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(row, line)
    return row


class _RefusedJSONError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedJSONError(f"the key {twice!r} appears twice in one object")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedJSONError(f"{name} is not a JSON value")


def _raise_broken(text: str, line: int, error: json.JSONDecodeError) -> NoReturn:
    if text.lstrip().startswith("{") and error.pos >= len(text.rstrip()):
        raise DatasetError(
            f"Line {line} ends in the middle of an object. It seems pretty-printed: one object over several lines.",
            hint=_FORMAT_HINT,
        ) from error
    raise DatasetError(
        f"Line {line}, column {error.pos + 1}: not valid JSON ({error.msg}).", hint=_FORMAT_HINT
    ) from error


def _refuse_lone_surrogates(row: dict[str, Any], line: int) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"Line {line} holds half of a UTF-16 surrogate pair (\\u{ord(error.object[error.start]):04x}).",
            hint="Write the character itself, in UTF-8.",
        ) from error
