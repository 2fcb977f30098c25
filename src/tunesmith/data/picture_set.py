"""Prepared pictures with their captions: one ZIP archive without compression, so that equal sets are equal bytes.

`manifest.json` lists the pictures in the order of training; each lies in the archive under its `file`.
"""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

from tunesmith.spec.errors import DatasetError
from tunesmith.spec.frozen import Frozen

_MANIFEST = "manifest.json"
# The first moment that the format can express: the time of writing is nobody's business.
_TIME = (1980, 1, 1, 0, 0, 0)


class Picture(Frozen):
    """One picture to train on."""

    file: str
    """Name in the archive."""

    source: str
    """Where it came from, for messages: an address or a name in an archive, without secrets."""

    caption: str
    width: int
    """In pixels."""

    height: int
    """In pixels."""

    sha256: str
    """Digest of the file."""


class PictureSet:
    """A set that was written before. Reads pictures on demand."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
            listed = json.loads(self._archive.read(_MANIFEST))
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise DatasetError(f"{path.name} is no set of prepared pictures: {error}") from error
        self.pictures = tuple(Picture.model_validate(each) for each in listed["pictures"])

    def read(self, picture: Picture) -> bytes:
        """The picture's file: PNG, RGB."""
        return self._archive.read(picture.file)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()


class PictureSetWriter:
    """Writes a set, picture by picture. To be used as a context, at whose end all is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)

    def add(self, name: str, content: bytes) -> None:
        """Store a picture's file."""
        self._archive.writestr(zipfile.ZipInfo(name, _TIME), content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def finish(self, pictures: Iterable[Picture]) -> None:
        """Write the list."""
        listed = {"pictures": [picture.model_dump(mode="json") for picture in pictures]}
        self._archive.writestr(zipfile.ZipInfo(_MANIFEST, _TIME), json.dumps(listed, indent=1))
