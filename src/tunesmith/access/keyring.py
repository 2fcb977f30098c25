"""The keys that secrets are encrypted with: files in a folder that only the server's user can open.

`NNNN.key` each, the highest number first: new content is encrypted with that one, the others only decrypt. A rotation
adds a key, encrypts everything anew and then drops the old keys, so that it can be cut off anywhere and done again.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tunesmith.spec.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

_NAME = re.compile(r"(\d{4,})\.key")
_KEY_BYTES = 32
_OTHERS = 0o077


class UnsealError(Exception):
    """No key of the ring opens this content."""


class Keyring:
    """Encrypts and decrypts. Its keys are in no representation of it."""

    def __init__(self, folder: Path, keys: tuple[bytes, ...]) -> None:
        self._folder = folder
        self._keys = keys

    @classmethod
    def open(cls, folder: Path, *, needed: bool) -> Self:
        """The ring of a folder, which is created with a first key unless contents say that there was one.

        Raises:
            SettingsError: other users can open the folder or a key, a key cannot be read, or it is gone although it is
                needed.
        """
        with _naming_faults(folder):
            if not folder.exists() and not needed:
                folder.mkdir(mode=0o700, parents=True)
            _require_private(folder)
            if not needed and not _files(folder):
                _write_next(folder)
            keys = _read_all(folder)
        if not keys:
            raise SettingsError(
                f"The database holds secrets, and their keys are missing from {str(folder)!r}.",
                param="home",
                hint="Put the folder back from the backup of the same moment as the database.",
            )
        return cls(folder, keys)

    def seal(self, content: bytes) -> bytes:
        """Encrypt with the newest key."""
        return self._fernet().encrypt(content)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt with whichever key fits.

        Raises:
            UnsealError: none fits, or the content was changed.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet().decrypt(sealed)
        except InvalidToken:
            raise UnsealError from None

    def add_key(self) -> None:
        """Begin a rotation: from now on a new key encrypts.

        Raises:
            SettingsError: the folder cannot be written.
        """
        with _naming_faults(self._folder):
            _write_next(self._folder)
            self._keys = _read_all(self._folder)

    def drop_old_keys(self) -> None:
        """End a rotation: whatever was encrypted before it can no longer be opened.

        Raises:
            SettingsError: the folder cannot be written.
        """
        with _naming_faults(self._folder):
            for file in _files(self._folder)[1:]:
                file.unlink()
            _make_durable(self._folder)
            self._keys = self._keys[:1]

    def _fernet(self) -> "MultiFernet":
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])


def _files(folder: Path) -> list[Path]:
    """Key files, the newest first."""
    numbers = {int(found[1]): file for file in folder.iterdir() if (found := _NAME.fullmatch(file.name))}
    return [numbers[number] for number in sorted(numbers, reverse=True)]


def _write_next(folder: Path) -> None:
    """Add a key file that is there whole or not at all."""
    present = _files(folder)
    number = int(present[0].stem) + 1 if present else 1
    aside = folder / "incoming"
    aside.unlink(missing_ok=True)  # of a rotation that was cut off
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(folder / f"{number:04}.key")
    _make_durable(folder)


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_all(folder: Path) -> tuple[bytes, ...]:
    return tuple(_read(file) for file in _files(folder))


def _read(file: Path) -> bytes:
    _require_private(file)
    key = file.read_bytes().strip()
    try:
        whole = len(base64.b64decode(key, altchars=b"-_", validate=True)) == _KEY_BYTES
    except binascii.Error:
        whole = False
    if not whole:
        raise SettingsError(f"{str(file)!r} is no key.", param="home", hint="Put it back from a backup.")
    return key


def _require_private(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & _OTHERS:
        raise SettingsError(
            f"{str(path)!r} can be opened by other users (mode {mode:03o}).",
            param="home",
            hint=f"Run `chmod go= {path}`, then `tunesmith secrets rotate` if somebody may have read a key.",
        )


@contextmanager
def _naming_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SettingsError(
            f"The database holds secrets, and the folder of their keys, {str(folder)!r}, is missing.",
            param="home",
            hint="Put the folder back from the backup of the same moment as the database.",
        ) from None
    except OSError as error:
        raise SettingsError(
            f"The folder of keys {str(folder)!r} cannot be used: {error.strerror}.", param="home"
        ) from error
