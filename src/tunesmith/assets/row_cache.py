"""Rows that trainings prepared and left for later ones: each organisation's apart, and no more than a bound.

Workers write below `folder(org)`: a folder for each content by its SHA-256, in it one for each way of preparing it. A
worker marks what it uses by the time of the folder, a running stream at each of its checkpoints.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tunesmith.storage import Storage

_IN_USE_SECONDS = 3600.0
"""So long after it was marked, a file or folder may be one that a worker still reads and writes."""


class RowCache:
    """A folder of folders."""

    def __init__(self, folder: Path, storage: Storage, max_bytes: int) -> None:
        self._folder = folder
        self._storage = storage
        self._max_bytes = max_bytes

    def folder(self, org: str) -> Path | None:
        """Where an organisation's workers keep rows; none if nothing is to be kept."""
        return self._folder / org if self._max_bytes else None

    def tidy(self) -> None:
        """Remove the rows of contents that are gone, and then those unused for longest while there is too much.

        What may be in use is spared: a worker would only write it again.
        """
        for content in self._folder.glob("*/*"):
            if not self._storage.path(content.name).exists():
                shutil.rmtree(content, ignore_errors=True)
        trim(self._folder.glob("*/*/*"), self._max_bytes)


def trim(entries: Iterable[Path], max_bytes: int) -> None:
    """Remove files and folders, those unused for longest first, while all together have more bytes. What may be in use
    is spared."""
    sizes = {path: _bytes_of(path) for path in entries}
    excess = sum(sizes.values()) - max_bytes
    used = {path: _last_used(path) for path in sizes}
    for path in sorted(sizes, key=used.__getitem__):
        if excess <= 0 or used[path] > time.time() - _IN_USE_SECONDS:
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        excess -= sizes[path]


def _bytes_of(path: Path) -> int:
    return sum(size for size, _ in _facts(path.iterdir() if path.is_dir() else [path]))


def _last_used(path: Path) -> float:
    return max((time for _, time in _facts([path])), default=0.0)


def _facts(paths: Iterable[Path]) -> Iterator[tuple[int, float]]:
    """Bytes and time of what a worker has not removed meanwhile."""
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        yield stat.st_size, stat.st_mtime
