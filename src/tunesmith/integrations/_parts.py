"""Files on their way to another service."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from tunesmith.sources.hub.upload import FileToPush

_PIECE = 1024 * 1024


def size_of(file: FileToPush) -> int:
    """In bytes, of what is sent."""
    return file.size if file.content is None else len(file.content)


def pieces_of(file: FileToPush) -> Iterator[bytes]:
    """What is sent, a MiB at a time."""
    if file.content is not None:
        yield file.content
        return
    with file.path.open("rb") as source:
        while piece := source.read(_PIECE):
            yield piece


def file_at(path: Path) -> FileToPush:
    """A file as it is on disk."""
    with path.open("rb") as file:
        return FileToPush(path.name, path, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def text_file(name: str, text: str) -> FileToPush:
    """A file that is nowhere on disk."""
    content = text.encode()
    return FileToPush(name, Path(name), len(content), hashlib.sha256(content).hexdigest(), content)
