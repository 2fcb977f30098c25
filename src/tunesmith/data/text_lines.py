"""Lines of a text file in UTF-8, in constant memory."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from tunesmith.spec.errors import DatasetError

MAX_LINE_BYTES = 64 * 2**20


def text_lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbers (from 1) and texts of lines, line ends included. A byte order mark is left out.

    Raises:
        DatasetError: a line is longer than 64 MiB or no UTF-8.
    """
    line = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        yield line, text_of(data, line)


def text_of(data: bytes, line: int) -> str:
    """The text of a line.

    Raises:
        DatasetError: it is longer than 64 MiB or no UTF-8.
    """
    if len(data) > MAX_LINE_BYTES:
        raise DatasetError(f"Line {line} is longer than {MAX_LINE_BYTES // 2**20} MiB.", hint="Write one row a line.")
    if line == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"Line {line} is not UTF-8: byte {error.start + 1} is 0x{data[error.start]:02x}.",
            hint="Save the file as UTF-8.",
        ) from error
