"""A ZIP archive that is sent while it is made: in constant memory, without a temporary file."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, ZipFile, ZipInfo

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE = 1024 * 1024


def zipped(files: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of an archive of files under names. Of a file that grows meanwhile, the present length counts."""
    written = _Written()
    with ZipFile(written, "w", ZIP_STORED) as archive:
        for name, path in files:
            entry = ZipInfo.from_file(path, name, strict_timestamps=False)
            left = entry.file_size
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while left and (piece := source.read(min(left, _PIECE))):
                    left -= target.write(piece)
                    yield written.taken()
    yield written.taken()


class _Written(io.RawIOBase):
    """What was written and not yet taken. It cannot seek, which makes `zipfile` write what it knows afterwards."""

    def __init__(self) -> None:
        self._pieces = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, piece: "Buffer", /) -> int:
        before = len(self._pieces)
        self._pieces += piece
        return len(self._pieces) - before

    def taken(self) -> bytes:
        taken = bytes(self._pieces)
        self._pieces.clear()
        return taken
