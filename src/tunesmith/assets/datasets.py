"""Registered datasets: a name, such as a version, for a content that never changes."""

import re
import time

from tunesmith.data.validate import inspect
from tunesmith.spec.errors import ConflictError, DatasetNotFoundError, InvalidRequestError
from tunesmith.storage import BlobWriter
from tunesmith.store import datasets
from tunesmith.store.database import Database
from tunesmith.store.datasets import Dataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}")


class Datasets:
    """The door to registered datasets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, content: BlobWriter, *, filename: str) -> Dataset:
        """Register a content under a name. The same content again is no error.

        Raises:
            InvalidRequestError: the name has letters that it may not have.
            ConflictError: the name stands for another content.
            DatasetError: the content is not rows of JSON.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(
                f"Dataset name {name!r} is not allowed.",
                param="name",
                hint="Use 1 to 128 letters, digits and . _ : @ / + -, beginning with a letter or digit.",
            )
        try:
            report = inspect(content.path)
            with self._database.write() as connection:
                blob = content.commit()
                present = datasets.get(connection, name)
                if present is None:
                    return datasets.add(
                        connection,
                        name=name,
                        filename=filename,
                        bytes=blob.bytes,
                        sha256=blob.sha256,
                        report=report.model_dump(mode="json"),
                        created_at=time.time(),
                    )
        finally:
            content.discard()
        if present.sha256 != blob.sha256:
            raise ConflictError(
                f"Dataset {name!r} exists with other content, and a dataset never changes.",
                param="name",
                hint="Register the new content under a new name.",
            )
        return present

    def get(self, name: str, *, param: str | None = None) -> Dataset:
        """One dataset.

        Raises:
            DatasetNotFoundError: no dataset has this name.
        """
        with self._database.read() as connection:
            dataset = datasets.get(connection, name)
        if dataset is None:
            known = ", ".join(repr(each.name) for each in self.listed()[:20]) or "none yet"
            raise DatasetNotFoundError(
                f"No dataset is registered as {name!r}; known: {known}.",
                param=param,
                hint=f"Register one with `tunesmith datasets add {name} FILE`.",
            )
        return dataset

    def listed(self) -> list[Dataset]:
        """All datasets by name."""
        with self._database.read() as connection:
            return datasets.all_by_name(connection)
