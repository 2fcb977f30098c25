"""The pictures that the rows of one file show, gathered: a ZIP archive without compression, equal for equal pictures.

Pictures lie in the archive under the SHA-256 of their bytes. `manifest.json` says which pictures each row shows.
Neither names where a picture came from: an address may hold a signature.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, cast

from tunesmith.spec.errors import DatasetError

MAX_PICTURE_BYTES = 40 * 2**20

_MANIFEST = "manifest.json"
# The first moment that the format can express: the time of writing is nobody's business.
_TIME = (1980, 1, 1, 0, 0, 0)


class RowPictures:
    """Pictures that were gathered before. Each is read when it is asked for."""

    def __init__(self, path: Path | None) -> None:
        """`path` is none where no row shows a picture."""
        self.path = path
        self._process: int | None = None
        self._archive: zipfile.ZipFile

    def __repr__(self) -> str:
        return f"RowPictures({self.path.name if self.path else None})"

    def __len__(self) -> int:
        return len(self._manifest[0])

    def row_of(self, member: str | None, line: int) -> int:
        """The number, from 1, of a row that shows pictures.

        Raises:
            DatasetError: none were gathered for it.
        """
        number = self._numbers.get((member, line))
        if number is None:
            raise DatasetError(f"Line {line}: its pictures were not gathered.", hint="Submit the job again.")
        return number

    def shown_by(self, row: int) -> tuple[int, ...]:
        """Numbers, from 0, of the pictures of a row, in their order."""
        return self._manifest[1][row - 1]

    @property
    def lines(self) -> dict[int, int]:
        """The line of the first row that shows each picture, in the order of the rows."""
        found: dict[int, int] = {}
        for row in self._listed["rows"]:
            for picture in row["pictures"]:
                found.setdefault(picture, row["line"])
        return found

    def read(self, picture: int) -> bytes:
        """The file of a picture, as it was found."""
        if self._process != os.getpid():  # processes that were forked must not share a place in the file
            self._process, self._archive = os.getpid(), zipfile.ZipFile(str(self.path))
        return self._archive.read(self._manifest[0][picture])

    @cached_property
    def _manifest(self) -> tuple[list[str], list[tuple[int, ...]]]:
        """Names of the pictures, and the pictures of each row."""
        return self._listed["pictures"], [tuple(row["pictures"]) for row in self._listed["rows"]]

    @cached_property
    def _numbers(self) -> dict[tuple[str | None, int], int]:
        return {(row["member"], row["line"]): number for number, row in enumerate(self._listed["rows"], 1)}

    @cached_property
    def _listed(self) -> dict[str, list[Any]]:
        if self.path is None:
            return {"pictures": [], "rows": []}
        try:
            with zipfile.ZipFile(self.path) as archive:
                listed: dict[str, list[Any]] = json.loads(archive.read(_MANIFEST))
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise DatasetError(f"{self.path.name} holds no gathered pictures: {error}") from error
        return listed


class Target(Protocol):
    """All that an archive is written with."""

    def write(self, piece: bytes, /) -> int:
        """Append."""
        ...

    def flush(self) -> None:
        """Leave nothing in memory."""
        ...


class RowPicturesWriter:
    """Writes what rows show, row by row. To be used as a context, at whose end all is written."""

    def __init__(self, file: Target) -> None:
        self._archive = zipfile.ZipFile(cast(Any, file), "w", zipfile.ZIP_STORED)
        self._pictures: dict[str, int] = {}
        self._rows: list[dict[str, object]] = []

    def add(self, content: bytes) -> int:
        """Store a picture once. Returns its number."""
        name = hashlib.sha256(content).hexdigest()
        if name not in self._pictures:
            self._archive.writestr(zipfile.ZipInfo(name, _TIME), content)
        return self._pictures.setdefault(name, len(self._pictures))

    def add_row(self, member: str | None, line: int, pictures: Sequence[int]) -> None:
        """Say which pictures a row shows."""
        self._rows.append({"member": member, "line": line, "pictures": list(pictures)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def finish(self) -> None:
        """Write the list."""
        listed = {"pictures": list(self._pictures), "rows": self._rows}
        self._archive.writestr(zipfile.ZipInfo(_MANIFEST, _TIME), json.dumps(listed))
