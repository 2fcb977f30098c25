"""What kind of file holds the rows, told by its content."""

import codecs
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Literal

from tunesmith.data.csv_rows import read_csv
from tunesmith.data.json_rows import read_json_array, read_json_lines
from tunesmith.data.parquet_rows import read_parquet
from tunesmith.spec.errors import DatasetError

Container = Literal["jsonl", "json", "csv", "parquet"]

Rows = Iterator[tuple[int, dict[str, Any]]]
"""Line or row numbers from 1, and rows."""

HEAD_BYTES = 512

READERS: dict[Container, Callable[[BinaryIO], Rows]] = {
    "jsonl": read_json_lines,
    "json": read_json_array,
    "csv": read_csv,
    "parquet": read_parquet,
}

_HINT = "Rows may come as JSON Lines, a JSON array, CSV with a header, or Parquet; plain, or in a ZIP archive."

ZIP = b"PK\x03\x04"
GZIP = b"\x1f\x8b"

_REFUSED = (
    (b"\xff\xfe", "is UTF-16 text"),
    (b"\xfe\xff", "is UTF-16 text"),
    (ZIP, "is a ZIP archive within another archive"),
    (GZIP, "is gzip-compressed within another archive"),
    (b"PK\x05\x06", "is an empty ZIP archive"),
    (b"BZh", "is bzip2-compressed"),
    (b"\xfd7zXZ", "is xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "is zstd-compressed"),
    (b"7z\xbc\xaf", "is a 7z archive"),
    (b"Rar!", "is a RAR archive"),
    (b"ARROW1", "is an Arrow file"),
    (b"%PDF", "is a PDF document"),
    (b"\x80\x02", "is a Python pickle"),
    (b"\x80\x03", "is a Python pickle"),
    (b"\x80\x04", "is a Python pickle"),
    (b"\x80\x05", "is a Python pickle"),
)

_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def container_of(head: bytes) -> Container:
    """The kind of file that begins with these bytes (512 of them, or all if there are fewer).

    Raises:
        DatasetError: it is none that rows come in; the message names it.
    """
    if head.startswith(b"PAR1") and b"\x15" in head:  # the first byte of any header in Parquet, and none of a text
        return "parquet"
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise DatasetError(f"The file {what}.", hint=_HINT)
    if is_image(head):
        raise DatasetError("The file is a picture.", hint=_HINT)
    if b"\0" in head:
        raise DatasetError("The file is not text: it holds zero bytes.", hint=_HINT)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if start[:1] == b"<":
        raise DatasetError("The file is an HTML or XML page.", hint=_HINT)
    if start[:1] in (b"{", b""):
        return "jsonl"
    return "json" if start[:1] == b"[" else "csv"


def is_image(head: bytes) -> bool:
    """Whether a file that begins so is a picture."""
    bitmap = head.startswith(b"BM") and b"\0" in head
    return bitmap or head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
