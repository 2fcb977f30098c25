"""The main of a process that decodes what strangers wrote: it may be killed at any time, and has little to give away.

It reads requests from standard input and writes answers to standard output until the input ends, which it does when the
server does.
"""

import hashlib
import io
import resource
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Self

from tunesmith.data.archives import Archive, opened_archive
from tunesmith.data.containers import ZIP
from tunesmith.data.imaging.captions import MAX_CAPTION_BYTES
from tunesmith.data.imaging.decoding import MAX_FILE_BYTES, PictureError, decoded
from tunesmith.data.imaging.likeness import look_of
from tunesmith.data.imaging.protocol import (
    REQUEST,
    Answer,
    Caption,
    Decode,
    Decoded,
    Open,
    Opened,
    Place,
    ReadCaption,
    Refused,
    Request,
    Transform,
    Written,
)
from tunesmith.data.imaging.transforming import transformed
from tunesmith.spec.errors import DatasetError

_MAX_MEMORY_BYTES = 4 * 2**30
"""A picture of the largest size in four channels takes a sixteenth; transforms hold several of them."""

_ARCHIVES = (ZIP, b"PK\x05\x06")


def main(requests: IO[str], answers: IO[str]) -> None:
    """Answer until there are no more requests."""
    _confine()
    with _Files() as files:
        for line in requests:
            answers.write(_answered(files, REQUEST.validate_json(line)).model_dump_json() + "\n")
            answers.flush()


class _Files:
    """Reads files. The archive that was read last stays open: its list of members may be long."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._path: Path | None = None
        self._archive: Archive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def archive(self, path: Path) -> Archive:
        """Raises DatasetError if it holds what it may not."""
        if path != self._path:
            self._opened.close()
            self._path = None
            self._archive = self._opened.enter_context(opened_archive(path))
            self._path = path
        return self._archive

    def content(self, place: Place) -> bytes:
        """At most one byte more than a picture may have. Raises DatasetError if it cannot be unpacked."""
        if place.member is not None:
            return self.archive(place.path).read(place.member, MAX_FILE_BYTES + 1)
        with place.path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def _confine() -> None:
    with suppress(ValueError, OSError):  # already less
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answered(files: _Files, request: Request) -> Answer:
    try:
        return _carried_out(files, request)
    except DatasetError as error:
        return Refused(reason=error.message.rstrip("."))
    except PictureError as error:
        return Refused(reason=str(error))
    except MemoryError:
        return Refused(reason="it needs more memory than a picture may have")


def _carried_out(files: _Files, request: Request) -> Answer:
    match request:
        case Open():
            return _open(files, request)
        case Decode():
            return _decode(files, request)
        case ReadCaption():
            return _read_caption(files, request)
        case Transform():
            return _transform(files, request)


def _open(files: _Files, request: Open) -> Opened:
    if not files.content(request.place).startswith(_ARCHIVES):
        return Opened(members=None)
    return Opened(members=tuple(files.archive(request.place.path).names()))


def _decode(files: _Files, request: Decode) -> Decoded:
    picture = decoded(files.content(request.place))
    digest = hashlib.sha256(f"{picture.mode} {picture.width} {picture.height} ".encode())
    digest.update(picture.tobytes())
    return Decoded(pixels=digest.hexdigest(), look=look_of(picture))


def _read_caption(files: _Files, request: ReadCaption) -> Caption:
    content = files.content(request.place)
    if len(content) > MAX_CAPTION_BYTES:
        raise PictureError(f"a caption may have {MAX_CAPTION_BYTES // 1024} KiB")
    try:
        return Caption(text=content.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        raise PictureError(f"the caption is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _transform(files: _Files, request: Transform) -> Written:
    result = transformed(decoded(files.content(request.place)), request.transforms, request.seed)
    result.picture.info.clear()  # notes of cameras and colour profiles are nobody's business
    content = io.BytesIO()
    result.picture.save(content, "PNG", compress_level=1)
    request.into.write_bytes(content.getvalue())
    return Written(
        width=result.picture.width,
        height=result.picture.height,
        bytes=content.tell(),
        sha256=hashlib.sha256(content.getvalue()).hexdigest(),
        too_small=result.too_small,
        looks=result.looks,
    )


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
