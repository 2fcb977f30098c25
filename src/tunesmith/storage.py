"""Blobs on a local folder, addressed by the SHA-256 of their content. Knows no jobs."""

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.spec.errors import DiskFullError
from tunesmith.spec.job import Frozen


@contextmanager
def naming_full_disk(folder: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into an error that names the volume.

    Raises:
        DiskFullError: the volume has no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"No space is left on the volume of {str(folder)!r}.", hint="Free some space and try again."
        ) from error


class Blob(Frozen):
    """A stored content."""

    sha256: str
    bytes: int
    path: Path


class BlobWriter:
    """Receives one blob piece by piece; it is visible only after `commit`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._aside = folder / "incoming" / uuid.uuid4().hex
        self._digest = hashlib.sha256()
        self._file = self._aside.open("wb")
        self.bytes = 0

    def write(self, piece: bytes) -> None:
        """Append.

        Raises:
            DiskFullError: the volume has no room.
        """
        with naming_full_disk(self._folder):
            self._file.write(piece)
        self._digest.update(piece)
        self.bytes += len(piece)

    @property
    def path(self) -> Path:
        """Where the content lies before `commit`; flush with `finish` before reading it."""
        return self._aside

    def finish(self) -> None:
        """Make all pieces durable, still invisible."""
        with naming_full_disk(self._folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def commit(self) -> Blob:
        """Make the blob visible under its digest."""
        sha256 = self._digest.hexdigest()
        path = self._folder / sha256[:2] / sha256
        with naming_full_disk(self._folder):
            path.parent.mkdir(exist_ok=True)
            self._aside.replace(path)
        return Blob(sha256=sha256, bytes=self.bytes, path=path)

    def discard(self) -> None:
        """Forget everything received. Safe to call after `commit`."""
        with suppress(OSError):  # a full disk refuses the rest of the buffer, which nobody wants any more
            self._file.close()
        self._aside.unlink(missing_ok=True)


class Storage:
    """A folder of blobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        incoming = folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        for left_over in incoming.iterdir():  # of uploads cut off by the end of an earlier server
            left_over.unlink()

    def writer(self) -> BlobWriter:
        """Begin to receive a blob."""
        with naming_full_disk(self._folder):
            return BlobWriter(self._folder)

    def path(self, sha256: str) -> Path:
        """Where a blob lies."""
        return self._folder / sha256[:2] / sha256

    def put(self, content: bytes) -> Blob:
        """Store a small content whole."""
        writer = self.writer()
        try:
            writer.write(content)
            writer.finish()
            return writer.commit()
        finally:
            writer.discard()

    def link(self, file: Path, sha256: str) -> Blob:
        """Let a file that was written elsewhere on this volume be a blob too, without a copy of its content.

        Raises:
            DiskFullError: the volume has no room.
        """
        path = self.path(sha256)
        with naming_full_disk(self._folder):
            path.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError):
                os.link(file, path)
        return Blob(sha256=sha256, bytes=path.stat().st_size, path=path)

    def remove(self, sha256: str) -> None:
        """Delete a blob, if it is there."""
        self.path(sha256).unlink(missing_ok=True)
