"""Uploaded and produced files."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.data.validate import DatasetReport, inspect
from tunesmith.rundir import model_files
from tunesmith.spec.errors import FileNotFoundInStoreError
from tunesmith.spec.reading import Reading
from tunesmith.storage import BlobWriter, Storage
from tunesmith.store import files
from tunesmith.store.database import Database
from tunesmith.store.files import File

TRAINING_PURPOSE = "fine-tune"
RESULTS_PURPOSE = "fine-tune-results"

_AS_IT_IS = Reading()


@dataclass(frozen=True)
class Received:
    """A whole content that may become a file."""

    content: BlobWriter
    org: str
    filename: str
    purpose: str
    report: DatasetReport | None
    """What the rows are; none unless the purpose is training."""

    lifetime: float | None
    """Seconds that the file is to be kept; none = until it is deleted."""

    @classmethod
    def inspected(
        cls,
        content: BlobWriter,
        *,
        org: str,
        filename: str,
        purpose: str,
        reading: Reading = _AS_IT_IS,
        lifetime: float | None,
    ) -> Self:
        """Training data is read through, which may take minutes.

        Raises:
            DatasetError: the purpose is training and the content is not rows.
        """
        report = inspect(content.path, reading) if purpose == TRAINING_PURPOSE else None
        return cls(content, org, filename, purpose, report, lifetime)

    def keep(self, connection: Connection) -> File:
        """Make it a file, under the lock of a write transaction: no clean-up of the same content comes between."""
        now = time.time()
        blob = self.content.commit()
        return files.add(
            connection,
            id=uuid.uuid4().hex,
            org=self.org,
            filename=self.filename,
            purpose=self.purpose,
            bytes=blob.bytes,
            sha256=blob.sha256,
            report=self.report.model_dump(mode="json") if self.report else None,
            created_at=now,
            expires_at=now + self.lifetime if self.lifetime is not None else None,
        )


class Files:
    """The door to an organisation's files."""

    def __init__(self, database: Database, storage: Storage, use: ContentUse, org: str) -> None:
        self._database = database
        self._storage = storage
        self._use = use
        self._org = org

    def add(
        self,
        content: BlobWriter,
        *,
        filename: str,
        purpose: str,
        reading: Reading = _AS_IT_IS,
        lifetime: float | None = None,
    ) -> File:
        """Keep a received content, for so many seconds or until it is deleted. Training data is read through first.

        Raises:
            DatasetError: the purpose is training and the content is not rows of JSON.
            DiskFullError: the volume has no room.
        """
        try:
            received = Received.inspected(
                content, org=self._org, filename=filename, purpose=purpose, reading=reading, lifetime=lifetime
            )
            with self._database.write() as connection:
                return received.keep(connection)
        finally:
            content.discard()

    def get(self, id: str, *, param: str | None = None) -> File:
        """One file.

        Raises:
            FileNotFoundInStoreError: no such file, or it was deleted.
        """
        with self._database.read() as connection:
            file = files.get(connection, id)
        if file is None or file.org != self._org or _is_over(file):
            raise FileNotFoundInStoreError(
                f"No file has the id {id!r}.", param=param, hint="List the files to see the ids, or upload it again."
            )
        return file

    def listed(
        self, *, limit: int | None, after: str | None = None, newest_first: bool = True, purpose: str | None = None
    ) -> list[File]:
        """Files behind the one with the id `after`.

        Raises:
            FileNotFoundInStoreError: `after` names no file.
        """
        behind = self.get(after, param="after") if after else None
        with self._database.read() as connection:
            return files.listed(
                connection, self._org, limit=limit, after=behind, newest_first=newest_first, purpose=purpose
            )

    def path(self, file: File) -> Path:
        """Where the content lies."""
        return self._storage.path(file.sha256)

    def delete(self, id: str) -> None:
        """Hide a file. Its content goes when no job that has not ended needs it.

        Raises:
            FileNotFoundInStoreError: no such file.
        """
        file = self.get(id)
        with self._database.write() as connection:
            files.mark_deleted(connection, id, time.time())
            self._use.release(connection, file.sha256)


def delete_expired(connection: Connection, use: ContentUse, *, at: float) -> None:
    """Delete the files of all organisations whose time is over."""
    for file in files.expired(connection, at):
        files.mark_deleted(connection, file.id, at)
        use.release(connection, file.sha256)


def _is_over(file: File) -> bool:
    return file.expires_at is not None and file.expires_at <= time.time()


def add_model_files(
    connection: Connection, storage: Storage, folder: Path, *, org: str, under: str, at: float
) -> list[str]:
    """Offer a checkpoint's files for download as `<under>/<name>`. Returns their ids."""
    ids = []
    for name, sha256 in model_files(folder).items():
        blob = storage.link(folder / name, sha256)
        file = files.add(
            connection,
            id=uuid.uuid4().hex,
            org=org,
            filename=f"{under}/{name}",
            purpose=RESULTS_PURPOSE,
            bytes=blob.bytes,
            sha256=sha256,
            report=None,
            created_at=at,
        )
        ids.append(file.id)
    return ids


def add_results(connection: Connection, storage: Storage, content: bytes, *, org: str, at: float) -> str:
    """Keep a job's table of metrics as a file, inside the transaction that ends the job. Returns the file's id."""
    blob = storage.put(content)
    file = files.add(
        connection,
        id=uuid.uuid4().hex,
        org=org,
        filename="step_metrics.csv",
        purpose=RESULTS_PURPOSE,
        bytes=blob.bytes,
        sha256=blob.sha256,
        report=None,
        created_at=at,
    )
    return file.id
