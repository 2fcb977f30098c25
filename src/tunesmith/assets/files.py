"""Uploaded and produced files."""

import time
import uuid
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.data.validate import DatasetReport, inspect
from tunesmith.rundir import model_files
from tunesmith.spec.errors import FileNotFoundInStoreError
from tunesmith.storage import BlobWriter, Storage
from tunesmith.store import files
from tunesmith.store.database import Database
from tunesmith.store.files import File

TRAINING_PURPOSE = "fine-tune"
RESULTS_PURPOSE = "fine-tune-results"


class Files:
    """The door to files."""

    def __init__(self, database: Database, storage: Storage, use: ContentUse) -> None:
        self._database = database
        self._storage = storage
        self._use = use

    def add(self, content: BlobWriter, *, filename: str, purpose: str) -> File:
        """Keep a received content. Training data is read through first.

        Raises:
            DatasetError: the purpose is training and the content is not rows of JSON.
            DiskFullError: the volume has no room.
        """
        try:
            report: DatasetReport | None = inspect(content.path) if purpose == TRAINING_PURPOSE else None
            # Under the lock of the write transaction, so that no clean-up of the same content comes between.
            with self._database.write() as connection:
                blob = content.commit()
                return files.add(
                    connection,
                    id=uuid.uuid4().hex,
                    filename=filename,
                    purpose=purpose,
                    bytes=blob.bytes,
                    sha256=blob.sha256,
                    report=report.model_dump(mode="json") if report else None,
                    created_at=time.time(),
                )
        finally:
            content.discard()

    def get(self, id: str, *, param: str | None = None) -> File:
        """One file.

        Raises:
            FileNotFoundInStoreError: no such file, or it was deleted.
        """
        with self._database.read() as connection:
            file = files.get(connection, id)
        if file is None:
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
            return files.listed(connection, limit=limit, after=behind, newest_first=newest_first, purpose=purpose)

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


def add_model_files(connection: Connection, storage: Storage, folder: Path, *, under: str, at: float) -> list[str]:
    """Offer a checkpoint's files for download as `<under>/<name>`. Returns their ids."""
    ids = []
    for name, sha256 in model_files(folder).items():
        blob = storage.link(folder / name, sha256)
        file = files.add(
            connection,
            id=uuid.uuid4().hex,
            filename=f"{under}/{name}",
            purpose=RESULTS_PURPOSE,
            bytes=blob.bytes,
            sha256=sha256,
            report=None,
            created_at=at,
        )
        ids.append(file.id)
    return ids


def add_results(connection: Connection, storage: Storage, content: bytes, *, at: float) -> str:
    """Keep a job's table of metrics as a file, inside the transaction that ends the job. Returns the file's id."""
    blob = storage.put(content)
    file = files.add(
        connection,
        id=uuid.uuid4().hex,
        filename="step_metrics.csv",
        purpose=RESULTS_PURPOSE,
        bytes=blob.bytes,
        sha256=blob.sha256,
        report=None,
        created_at=at,
    )
    return file.id
