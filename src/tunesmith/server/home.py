"""The server's home folder, held by one server at a time."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tunesmith.spec.errors import SettingsError


@dataclass(frozen=True)
class Home:
    """Where everything lies."""

    path: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / "tunesmith.db"

    @property
    def files(self) -> Path:
        """Contents of uploaded and produced files, by digest."""
        return self.path / "files"

    @property
    def jobs(self) -> Path:
        """Run directories: `<job>/attempts/<number>`."""
        return self.path / "jobs"

    @property
    def models(self) -> Path:
        """Produced models."""
        return self.path / "models"

    @property
    def exports(self) -> Path:
        """What was made of produced models, and is being made."""
        return self.path / "exports"

    @property
    def hub(self) -> Path:
        """Models fetched from the hub."""
        return self.path / "cache" / "hub"

    @property
    def rows(self) -> Path:
        """Prepared rows, kept for later trainings."""
        return self.path / "cache" / "rows"

    @property
    def tracking(self) -> Path:
        """What integrations keep of jobs: `<job>/tensorboard` and `<job>/wandb`."""
        return self.path / "tracking"

    @property
    def encoded(self) -> Path:
        """What workers computed from content alone, to be used again."""
        return self.path / "cache" / "encoded"

    @property
    def keys(self) -> Path:
        """The keys that secrets are encrypted with."""
        return self.path / "keys"

    @property
    def pictures(self) -> Path:
        """What the preparation of pictures works with, one folder a job; emptied at every start."""
        return self.path / "pictures"

    @property
    def checks(self) -> Path:
        """Run directories of the checks that precede a job; they live for a second."""
        return self.path / "checks"


class HomeLock:
    """Keeps a second server away from a home, until this process ends in whatever way."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take hold.

        Raises:
            SettingsError: the folder cannot be used, or another server holds it.
        """
        try:
            for folder in (self._home.path, self._home.jobs, self._home.models):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._home.path / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"Home {str(self._home.path)!r} cannot be used: {error.strerror}.", param="home"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode().strip() or "unknown"
            os.close(self._descriptor)
            raise SettingsError(
                f"Home {str(self._home.path)!r} is in use by another server (process {owner}).",
                param="home",
                hint="Stop that server, or choose another folder with --home.",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
