"""A multipart form whose one file goes straight to disk, in constant memory.

Starlette's own form parser would spool the file to the system's temporary folder first, and cannot limit its size.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import anyio
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from tunesmith.spec.errors import InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from tunesmith.storage import BlobWriter, Storage

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_BATCH = 1024 * 1024
_MAX_PARTS = 32
_MAX_TEXT_BYTES = 1024 * 1024


@dataclass
class Form:
    """A received form."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    file: BlobWriter | None = None
    """The content of the file part, finished and not yet committed; the caller commits or discards it."""


async def receive(
    pieces: AsyncIterator[bytes], content_type: str | None, *, storage: Storage, file_field: str, max_bytes: int
) -> Form:
    """Read a multipart body.

    Raises:
        UnsupportedMediaTypeError: the body is not a multipart form.
        InvalidRequestError: the body is malformed or cut off.
        TooLargeError: the file has more than `max_bytes`.
        DiskFullError: the volume has no room.
    """
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"Content-Type is {content_type!r}; this route reads multipart/form-data with a part {file_field!r}."
        )
    receiver = _Receiver(storage, file_field, max_bytes)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), receiver.callbacks())
        batch = b""
        async for piece in pieces:
            batch += piece
            if len(batch) >= _BATCH:
                await anyio.to_thread.run_sync(parser.write, batch)
                batch = b""
        await anyio.to_thread.run_sync(receiver.end, parser, batch)
    except (FormParserError, MultipartParseError) as error:
        receiver.discard()
        raise InvalidRequestError(f"The multipart body is malformed: {error}.") from error
    except BaseException:
        receiver.discard()
        raise
    return receiver.form


class _Receiver:
    """Takes the parser's callbacks for one form."""

    def __init__(self, storage: Storage, file_field: str, max_bytes: int) -> None:
        self.form = Form()
        self._storage = storage
        self._file_field = file_field
        self._max_bytes = max_bytes
        self._ended = False
        self._parts = 0
        self._header = (b"", b"")
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._is_file = False
        self._text = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._add_header(data[start:end], b""),
            "on_header_value": lambda data, start, end: self._add_header(b"", data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._add_data(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def end(self, parser: MultipartParser, rest: bytes) -> None:
        parser.write(rest)
        parser.finalize()
        if not self._ended:
            raise InvalidRequestError("The multipart body ends before its final boundary; the upload was cut off.")
        if self.form.file is not None:
            self.form.file.finish()

    def discard(self) -> None:
        if self.form.file is not None:
            self.form.file.discard()

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequestError(f"The form has more than {_MAX_PARTS} parts.")
        self._headers, self._text = {}, b""

    def _add_header(self, name: bytes, value: bytes) -> None:
        self._header = (self._header[0] + name, self._header[1] + value)

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = (b"", b"")

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise InvalidRequestError("A part of the form has no name in its Content-Disposition.")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = self._name == self._file_field
        if self._is_file:
            self._begin_file(options.get(b"filename"))

    def _begin_file(self, filename: bytes | None) -> None:
        if self.form.file is not None:
            raise InvalidRequestError(f"The form has two parts {self._file_field!r}; send one.", param=self._file_field)
        if filename is None:
            raise InvalidRequestError(
                f"The part {self._file_field!r} is text; send it as a file with a filename.", param=self._file_field
            )
        # A name is a label: nothing on disk is called by it.
        name = PurePosixPath(filename.decode("utf-8", "replace").replace("\\", "/")).name
        self.form.filename = "".join(letter for letter in name if letter.isprintable())[:255] or "upload"
        self.form.file = self._storage.writer()

    def _add_data(self, data: bytes) -> None:
        if self._is_file:
            assert self.form.file is not None
            if self.form.file.bytes + len(data) > self._max_bytes:
                raise TooLargeError(
                    f"The file has more than {self._max_bytes:,} bytes, the limit of this server.",
                    param=self._file_field,
                )
            self.form.file.write(data)
        else:
            self._text += data
            if len(self._text) > _MAX_TEXT_BYTES:
                raise TooLargeError(
                    f"The part {self._name!r} has more than {_MAX_TEXT_BYTES:,} bytes.", param=self._name
                )

    def _end_part(self) -> None:
        if self._is_file:
            return
        if self._name in self.form.fields:
            raise InvalidRequestError(f"The form has two parts {self._name[:100]!r}; send one.", param=self._name[:100])
        try:
            self.form.fields[self._name] = self._text.decode()
        except UnicodeDecodeError:
            raise InvalidRequestError(f"The part {self._name!r} is not UTF-8 text.", param=self._name) from None

    def _end(self) -> None:
        self._ended = True
