"""Tensors that follow from their inputs alone, kept on disk under the digest of these."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.spec.errors import UnavailableError

_RECENT = 64
"""Files that are kept in memory once they were read: up to 4 MB each for the largest text encoders."""


_MARK_SECONDS = 300.0
"""So often the files of a running training are marked as used. The server spares what was marked within the hour."""


class TensorCache:
    """Files in safetensors format, each whole or absent. Processes may share it. A file is marked as used by its time
    of change, and may be deleted once no training uses it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._recent = lru_cache(maxsize=_RECENT)(self._read)
        self._clock = clock
        self._used: set[Path] = set()
        self._marked_at = clock()

    def has(self, key: str) -> bool:
        """Whether the tensors are there; a damaged file counts as absent."""
        path = self._path(key)
        try:
            with safe_open(path, "pt"):
                os.utime(path)
        except (OSError, SafetensorError):
            return False
        self._use(path)
        return True

    def read(self, key: str) -> dict[str, Tensor]:
        """Tensors that are there, not to be changed: those read last are kept in memory.

        Raises:
            UnavailableError: somebody has deleted them.
        """
        self._use(self._path(key))
        return self._recent(key)

    def write(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Keep tensors."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        self._use(path)

    def _use(self, path: Path) -> None:
        self._used.add(path)
        if self._clock() - self._marked_at < _MARK_SECONDS:
            return
        self._marked_at = self._clock()
        for each in self._used:
            with suppress(FileNotFoundError):  # deleted by hand; reading it will tell
                os.utime(each)

    def _read(self, key: str) -> dict[str, Tensor]:
        try:
            tensors: dict[str, Tensor] = load_file(self._path(key))
        except FileNotFoundError as error:
            raise UnavailableError(
                "What was encoded of a picture or caption was deleted while the training needed it.",
                hint="Submit the job again: it is encoded anew.",
            ) from error
        return tensors

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def key_of(**facts: Any) -> str:
    """The digest of all that tensors follow from."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def digest_of(folder: Path, poll: Callable[[], None]) -> str:
    """Digest of the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        poll()
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()
