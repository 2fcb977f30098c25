"""Rows of JSON: one object a line, or one array of objects. Strict, and in constant memory."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import orjson

from tunesmith.data import text_lines
from tunesmith.data.formats import FORMAT_HINT
from tunesmith.data.turns import json_fault
from tunesmith.spec.errors import DatasetError

_ARRAY_HINT = "Write one array of objects, or better one object a line."
_CHUNK = 256 * 1024
_SPACE = " \t\r\n"


def read_json_lines(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects. Blank lines are skipped.

    Raises:
        DatasetError: a line is no JSON object in UTF-8, repeats a key, or holds NaN or half a surrogate pair.
    """
    for line, text in text_lines.text_lines(file):
        if text.strip(_SPACE):
            yield line, json_row(text, line)


def json_row(text: str, line: int) -> dict[str, Any]:
    """The object of a line that is not blank.

    Raises:
        DatasetError: as for `read_json_lines`.
    """
    return _quick(text.strip(_SPACE)) or _strict(text, line)


def read_json_array(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Row numbers (from 1) and objects of one array.

    Raises:
        DatasetError: the file is no array of objects in UTF-8, or a row is faulty as in `read_json_lines`.
    """
    text = _Text(file)
    text.skip("[")
    row = 0
    if text.next_sign() != "]":
        while True:
            row += 1
            yield row, _array_row(text, row)
            if text.next_sign() != ",":
                break
            text.skip(",")
    if text.next_sign() != "]":
        found = repr(text.next_sign()) if text.next_sign() else "the end of the file"
        raise DatasetError(f"Behind row {row} a comma or the end of the array is due, but {found} comes.")
    text.skip("]")
    if text.next_sign():
        raise DatasetError(f"Behind the array comes {text.next_sign()!r}; a file holds one array.", hint=_ARRAY_HINT)


class _RefusedJSONError(Exception):
    pass


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedJSONError(f"{name} is not a JSON value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedJSONError(f"the key {twice!r} appears twice in one object")
    return row


_QUICK = json.JSONDecoder(parse_constant=_refuse_constant)
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _quick(text: str) -> dict[str, Any] | None:
    """The object of a text without a fault; none where a closer look is needed.

    No decoder in C tells of repeated keys, and asking one in Python for each object takes three times as long. So
    colons are counted in the text and in the object written anew: a repeated key makes them differ. Only colons that
    were written as escapes could hide the difference.
    """
    try:
        row, end = _QUICK.raw_decode(text)
        written = orjson.dumps(row)  # refuses halves of surrogate pairs
    except (ValueError, TypeError, RecursionError, _RefusedJSONError):
        return None
    if type(row) is not dict or end != len(text) or text.count(":") != written.count(b":") or "\\u003" in text:
        return None
    return row


def _strict(text: str, line: int) -> dict[str, Any]:
    try:
        row = _STRICT.decode(text)
    except json.JSONDecodeError as error:
        _raise_broken(text, line, error)
    except (_RefusedJSONError, RecursionError, ValueError) as error:
        raise _refused(line, error) from error
    _require_object(row, line)
    _refuse_lone_surrogates(row, line)
    return row  # type: ignore[no-any-return]


def _refused(line: int, error: Exception) -> DatasetError:
    return DatasetError(f"Line {line} cannot be used: {json_fault(error)}.", hint=FORMAT_HINT)


def _require_object(row: Any, line: int) -> None:
    if not isinstance(row, dict):
        kind = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(type(row), "a number")
        raise DatasetError(f"Line {line} is {kind}, not an object.", hint=FORMAT_HINT)


def _raise_broken(text: str, line: int, error: json.JSONDecodeError) -> NoReturn:
    if text.lstrip().startswith("{") and error.pos >= len(text.rstrip()):
        raise DatasetError(
            f"Line {line} ends in the middle of an object. It seems pretty-printed: one object over several lines.",
            hint=FORMAT_HINT,
        ) from error
    raise DatasetError(
        f"Line {line}, column {error.pos + 1}: not valid JSON ({error.msg}).", hint=FORMAT_HINT
    ) from error


def _refuse_lone_surrogates(row: Any, line: int) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"Line {line} holds half of a UTF-16 surrogate pair (\\u{ord(error.object[error.start]):04x}).",
            hint="Write the character itself, in UTF-8.",
        ) from error


class _Text:
    """A text file, decoded as far as it was asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self.ahead = ""
        self.at = 0
        """Where in `ahead` the text goes on."""

        self.more()
        self.ahead = self.ahead.removeprefix("\ufeff")

    def more(self, size: int = _CHUNK) -> bool:
        """Take up more text, forgetting what lies behind. False at the end of the file."""
        data = self._file.read(size)
        pending = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            position = self._bytes - pending + error.start
            raise DatasetError(
                f"The file is not UTF-8: byte {position + 1} is 0x{error.object[error.start]:02x}.",
                hint="Save the file as UTF-8.",
            ) from error
        self._bytes += len(data)
        self.ahead = self.ahead[self.at :] + text
        self.at = 0
        return bool(data)

    def next_sign(self) -> str:
        """The next character that is not white space; empty at the end of the file."""
        while True:
            while self.at < len(self.ahead):
                if self.ahead[self.at] not in _SPACE:
                    return self.ahead[self.at]
                self.at += 1
            if not self.more():
                return ""

    def skip(self, sign: str) -> None:
        """Go on behind a character that was seen to come next."""
        if self.next_sign() != sign:
            raise DatasetError(f"{sign!r} is due, but {self.next_sign()!r} comes.", hint=_ARRAY_HINT)
        self.at += 1


def _array_row(text: _Text, row: int) -> dict[str, Any]:
    sign = text.next_sign()
    if sign != "{":
        found = f"{sign!r} comes" if sign else "the file ends"
        raise DatasetError(f"Row {row} must be an object, but {found}.", hint=_ARRAY_HINT)
    while True:
        try:
            _, end = _QUICK.raw_decode(text.ahead, text.at)
        except json.JSONDecodeError as error:
            if not _ends_early(error, text.ahead):
                raise DatasetError(f"Row {row}: not valid JSON ({error.msg}).", hint=_ARRAY_HINT) from error
        except (_RefusedJSONError, RecursionError, ValueError) as error:
            raise _refused(row, error) from error
        else:
            found_text = text.ahead[text.at : end]
            text.at = end
            return _quick(found_text) or _strict(found_text, row)
        size = len(text.ahead) - text.at
        if size > text_lines.MAX_LINE_BYTES:
            raise DatasetError(f"Row {row} is longer than {text_lines.MAX_LINE_BYTES // 2**20} MiB.", hint=_ARRAY_HINT)
        # Twice as much each time, so that a long row is not decoded over and over.
        if not text.more(max(_CHUNK, size)):
            raise DatasetError(f"Row {row} is not closed when the file ends.", hint=_ARRAY_HINT)


def _ends_early(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could mend a fault."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(text) - len("-Infinity")
