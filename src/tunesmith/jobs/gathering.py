"""Brings the pictures that rows show into one content, before a vision-language model is trained on them."""

import base64
import binascii
import re
from collections import deque
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

from tunesmith.data.archives import Archive, opened_archive
from tunesmith.data.containers import ZIP, is_image
from tunesmith.data.examples import Conversation, Image
from tunesmith.data.row_pictures import MAX_PICTURE_BYTES, RowPicturesWriter
from tunesmith.data.rows import read_examples
from tunesmith.jobs.errands import Errands
from tunesmith.spec.errors import DatasetError, TooLargeError, TunesmithError
from tunesmith.spec.reading import Reading
from tunesmith.storage import BlobWriter

MAX_PICTURES = 100_000

_AT_ONCE = 8
_AHEAD = 2 * _AT_ONCE
_POLL_SECONDS = 0.1
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_DATA = re.compile(r"data:[^,;]*(;[^,;]*)*;base64,", re.IGNORECASE)
_HINT = "Name an address, a data URI in base64, or a file in the archive that the rows come in."

Fetch = Callable[[str, int], bytes]
"""The content at a URL, of at most so many bytes. Raises TunesmithError."""

Count = Callable[[int, int | None], None]
"""Told the bytes that were gathered. What it raises ends the gathering."""


class PictureGatherer:
    """Gathers the pictures of one file of rows after the other."""

    def __init__(self, fetch: Fetch, max_bytes: int) -> None:
        """`max_bytes` is the most that the pictures of a file may have together."""
        self._fetch = fetch
        self._max_bytes = max_bytes

    def gather(self, rows: Path, reading: Reading, target: BlobWriter, progress: Count) -> None:
        """Write all pictures of all rows; the caller commits or discards them.

        Raises:
            DatasetError: a row cannot be used, or names no picture; the message has its line.
            TunesmithError: a picture could not be fetched. Whatever `progress` raises passes through.
        """
        known: dict[str | bytes, int] = {}
        with (
            _archive_of(rows) as archive,
            Errands(_AT_ONCE) as errands,
            RowPicturesWriter(_Sink(target)) as writer,
        ):

            def fetch(row: Conversation, image: Image) -> Future[bytes]:
                return errands.submit(self._content, archive, row, image)

            for row, line, contents in _ahead(rows, reading, fetch, known):
                numbers = []
                for image, content in zip(row.images, contents, strict=True):
                    if content is not None:
                        with _in_row(line):
                            _await(content, lambda: progress(target.bytes, None))
                            known[image.source] = writer.add(_checked(content.result()))
                    numbers.append(known[image.source])
                    self._require_room(target.bytes, len(known), line)
                    progress(target.bytes, None)
                writer.add_row(row.member, line, numbers)
            writer.finish()
        target.finish()

    def _content(self, archive: Archive | None, row: Conversation, image: Image) -> bytes:
        source = image.source
        if isinstance(source, bytes):
            return source
        if _ADDRESS.match(source):
            return self._fetch(source, MAX_PICTURE_BYTES)
        if source[:5].lower() == "data:":
            return _decoded(source)
        if archive is None or row.member is None:
            raise DatasetError(
                f"the picture {_shortened(source)} is no address, and the rows come in no archive.", hint=_HINT
            )
        return archive.picture(source, row.member, MAX_PICTURE_BYTES)

    def _require_room(self, size: int, count: int, line: int) -> None:
        if size > self._max_bytes:
            raise TooLargeError(
                f"Line {line}: the pictures have more than {self._max_bytes:,} bytes, this server's limit."
            )
        if count > MAX_PICTURES:
            raise TooLargeError(f"Line {line}: the rows show more than {MAX_PICTURES:,} pictures.")


def _ahead(
    rows: Path,
    reading: Reading,
    fetch: Callable[[Conversation, Image], Future[bytes]],
    known: Container[str | bytes],
) -> Iterator[tuple[Conversation, int, list[Future[bytes] | None]]]:
    """Rows with pictures in order, with those contents on their way that are not known yet."""
    waiting: deque[tuple[Conversation, int, list[Future[bytes] | None]]] = deque()
    for example in read_examples(rows, reading):
        if isinstance(example, Conversation) and example.images:
            contents = [None if image.source in known else fetch(example, image) for image in example.images]
            waiting.append((example, example.line, contents))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft()
    yield from waiting


def _await(content: Future[bytes], poll: Callable[[], None]) -> None:
    """Wait for a content, and raise whatever `poll` raises meanwhile."""
    while not wait([content], timeout=_POLL_SECONDS).done:
        poll()


@contextmanager
def _archive_of(rows: Path) -> Iterator[Archive | None]:
    """The archive that rows come in; none if they come in none."""
    with rows.open("rb") as file:
        is_archive = file.read(len(ZIP)) == ZIP
    if not is_archive:
        yield None
        return
    with opened_archive(rows) as archive:
        yield archive


class _Sink:
    """A content that an archive is written into."""

    def __init__(self, target: BlobWriter) -> None:
        self._target = target

    def write(self, piece: bytes) -> int:
        self._target.write(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Nothing: the target is flushed when it is whole."""


@contextmanager
def _in_row(line: int) -> Iterator[None]:
    """Names the line in an error that is about one of its pictures."""
    try:
        yield
    except TunesmithError as error:
        raise type(error)(f"Line {line}: {error.message}", param=error.param, hint=error.hint) from error


def _checked(content: bytes) -> bytes:
    if len(content) > MAX_PICTURE_BYTES:
        raise TooLargeError(f"a picture has {len(content):,} bytes; up to {MAX_PICTURE_BYTES:,} are read.")
    if not is_image(content[:512]):
        raise DatasetError(
            "what should be a picture is none." if content else "a picture is empty.",
            hint="Pictures may be PNG, JPEG, WebP, GIF or BMP.",
        )
    return content


def _decoded(source: str) -> bytes:
    head = _DATA.match(source)
    if head is None:
        raise DatasetError(f"the data URI {_shortened(source)} is not in base64.", hint=_HINT)
    try:
        return base64.b64decode(source[head.end() :], validate=True)
    except binascii.Error as error:
        raise DatasetError(f"the data URI {_shortened(source)} cannot be decoded: {error}.", hint=_HINT) from error


def _shortened(source: str) -> str:
    return repr(source if len(source) <= 60 else f"{source[:60]}…")
