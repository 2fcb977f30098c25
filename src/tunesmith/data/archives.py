"""Files within a ZIP archive, read where they are; and one file within gzip."""

import gzip
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from tunesmith.data.containers import HEAD_BYTES, Container, container_of, is_image
from tunesmith.spec.errors import DatasetError

MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 20 * 2**30
MAX_RATIO = 100
"""Unpacked bytes to packed ones."""

MAX_PARQUET_BYTES = 256 * 2**20
"""Parquet is not read from front to back, so a file of it within an archive is unpacked in memory."""

_MAX_LIST_BYTES = MAX_MEMBERS * 512
_RATIO_FLOOR = 2**20  # below this many unpacked bytes, a ratio tells nothing
_ABSOLUTE = re.compile(r"^(?:/|\\|[A-Za-z]:)")
_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


@contextmanager
def opened_archive(path: Path) -> Iterator["Archive"]:
    """A ZIP archive whose list of contents was checked.

    Raises:
        DatasetError: it is damaged, or holds what it may not.
    """
    with _InPieces(path) as packed:
        try:
            file = zipfile.ZipFile(packed)
        except _FAULTS as error:
            raise _damaged("The ZIP archive", error) from error
        with file:
            yield Archive(file)


class Archive:
    """Files within a ZIP archive."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._members = _checked(file.infolist())
        self._by_name = {member.filename: member for member in self._members}

    def tables(self) -> list[tuple[str, Container]]:
        """Names and kinds of the files of rows, in the order of their names. All are of one kind.

        Raises:
            DatasetError: a member is neither rows nor a picture, or kinds differ, or there are no rows.
        """
        found: list[tuple[str, Container]] = []
        for member in sorted(self._members, key=lambda member: member.filename):
            with self._opened(member) as file:
                head = file.read(HEAD_BYTES)
            if not is_image(head):
                found.append((member.filename, _kind(member.filename, head)))
        if not found:
            raise DatasetError(
                "The archive holds no file of rows.", hint="Put a .jsonl, .json, .csv or .parquet in it."
            )
        name, kind = found[0]
        for other_name, other_kind in found:
            if other_kind != kind:
                raise DatasetError(
                    f"The archive mixes kinds of files: {name!r} is {kind}, {other_name!r} is {other_kind}.",
                    hint="Put files of one kind into an archive.",
                )
        return found

    def names(self) -> list[str]:
        """Names of all files, sorted."""
        return sorted(member.filename for member in self._members)

    def read(self, name: str, limit: int) -> bytes:
        """At most so many bytes of one file.

        Raises:
            DatasetError: it is damaged.
        """
        with self._opened(self._file.getinfo(name)) as file:
            return file.read(limit)

    @contextmanager
    def opened(self, name: str, kind: Container) -> Iterator[BinaryIO]:
        """One member, to be read from its start.

        Raises:
            DatasetError: it is damaged.
        """
        member = self._file.getinfo(name)
        with self._opened(member) as file:
            if kind != "parquet":
                yield file
            elif member.file_size > MAX_PARQUET_BYTES:
                raise DatasetError(
                    f"Parquet within an archive may have {MAX_PARQUET_BYTES // 2**20} MiB; this has "
                    f"{member.file_size // 2**20} MiB.",
                    hint="Send the file itself: Parquet is compressed already.",
                )
            else:
                yield io.BytesIO(file.read())

    def picture(self, name: str, beside: str, most: int) -> bytes:
        """A picture, named from the archive's root or from the folder of the file of rows `beside` it. May be called by
        several threads.

        Raises:
            DatasetError: there is none of this name, it has more than `most` bytes, or is damaged.
        """
        wanted = name.removeprefix("./").replace("\\", "/")
        nearby = (PurePosixPath(beside).parent / wanted).as_posix()
        member = self._by_name.get(nearby) or self._by_name.get(wanted)
        if member is None:
            raise DatasetError(
                f"the archive has no picture {name!r}.", hint="Put it in the archive, and name it as the archive does."
            )
        if member.file_size > most:
            raise DatasetError(
                f"{member.filename!r} in the archive has {member.file_size:,} bytes; up to {most:,} are read."
            )
        with self._opened(member) as file:
            return file.read()

    def _opened(self, member: zipfile.ZipInfo) -> BinaryIO:
        try:
            file = self._file.open(member)
        except _FAULTS as error:
            raise _damaged(member.filename, error) from error
        return io.BufferedReader(_Unpacking(file, member.file_size, member.filename))


@contextmanager
def opened_gzip(path: Path) -> Iterator[BinaryIO]:
    """The content of a gzip file, to be read from its start. Reading it raises DatasetError if it is damaged or unpacks
    to too much.
    """
    limit = max(_RATIO_FLOOR, min(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size))
    with gzip.open(path) as file, io.BufferedReader(_Unpacking(file, limit, "The gzip file")) as unpacked:
        yield unpacked


class _InPieces(io.FileIO):
    """A packed file. The list of an archive's members is read in one piece, whose size is the archive's own word."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece of a reasonable size."""
        if size is not None and size > _MAX_LIST_BYTES:
            raise DatasetError(f"The archive lists too many members; up to {MAX_MEMBERS} are read.")
        return super().read(size)


class _Unpacking(io.RawIOBase):
    """Unpacks no more than so many bytes. Faults name the file."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int, name: str) -> None:
        self._file = file
        self._left = limit
        self._name = name

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Unpack as much as the buffer takes."""
        try:
            data = self._file.read(len(buffer))
        except _FAULTS as error:
            raise _damaged(self._name, error) from error
        self._left -= len(data)
        if self._left < 0:
            raise DatasetError(
                f"{self._name} unpacks to more than {MAX_RATIO} times its size or {MAX_UNPACKED_BYTES // 2**30} GiB.",
                hint="Send it unpacked.",
            )
        buffer[: len(data)] = data
        return len(data)


def _damaged(name: str, error: Exception) -> DatasetError:
    return DatasetError(f"{name} cannot be unpacked: {error}.", hint="Pack it anew.")


def _checked(members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Members that count, after all were checked."""
    if len(members) > MAX_MEMBERS:
        raise DatasetError(f"The archive has {len(members)} members; up to {MAX_MEMBERS} are read.")
    seen: set[str] = set()
    for member in members:
        _check_name(member)
        _check_kind(member)
        if member.filename.casefold() in seen:
            raise DatasetError(f"The archive holds {member.filename!r} twice.", hint="Give each file its own name.")
        seen.add(member.filename.casefold())
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise DatasetError(f"The archive unpacks to {unpacked} bytes; up to {MAX_UNPACKED_BYTES} are read.")
    return [member for member in members if not (member.is_dir() or _is_hidden(member.filename))]


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    if _ABSOLUTE.match(name) or ".." in re.split(r"[/\\]", name) or "\0" in name or not name:
        raise DatasetError(
            f"The archive names a file {name!r}, which leads out of it.", hint="Use names below the archive's root."
        )


def _check_kind(member: zipfile.ZipInfo) -> None:
    mode = stat.S_IFMT(member.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(f"{member.filename!r} in the archive is a link or device.", hint="Pack the file itself.")
    if member.flag_bits & 1:
        raise DatasetError(f"{member.filename!r} in the archive is encrypted.", hint="Pack it without a password.")
    if member.file_size > max(_RATIO_FLOOR, MAX_RATIO * member.compress_size):
        raise DatasetError(
            f"{member.filename!r} in the archive unpacks to more than {MAX_RATIO} times its size.",
            hint="Send the file unpacked.",
        )


def _is_hidden(name: str) -> bool:
    """Files that archivers and file managers add by themselves."""
    parts = PurePosixPath(name).parts
    return parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts)


def _kind(name: str, head: bytes) -> Container:
    try:
        kind = container_of(head)
    except DatasetError as error:
        raise DatasetError(f"{name}: {error.message}", hint=error.hint) from error
    # Any text could be a table of one column, so here the name decides.
    if kind == "csv" and not name.lower().endswith((".csv", ".tsv")):
        raise DatasetError(
            f"{name}: the file is neither rows nor a picture.", hint="Remove it from the archive, or name it .csv."
        )
    return kind
