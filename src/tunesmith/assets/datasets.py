"""Registered datasets: names whose versions never change."""

import re
import time

from tunesmith.assets.content import ContentUse
from tunesmith.data.validate import inspect
from tunesmith.spec.errors import DatasetNotFoundError, InvalidRequestError
from tunesmith.spec.reading import Reading
from tunesmith.storage import BlobWriter
from tunesmith.store import datasets
from tunesmith.store.database import Database
from tunesmith.store.datasets import Dataset

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

_AS_IT_IS = Reading()


class Datasets:
    """The door to an organisation's registered datasets."""

    def __init__(self, database: Database, use: ContentUse, org: str) -> None:
        self._database = database
        self._use = use
        self._org = org

    def add(self, name: str, content: BlobWriter, *, filename: str, reading: Reading = _AS_IT_IS) -> Dataset:
        """Register a content as the next version of a name; the newest version's content again is no new version.

        Raises:
            InvalidRequestError: the name has letters that it may not have.
            DatasetError: the content is not rows.
            DiskFullError: the volume has no room.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(
                f"Dataset name {name!r} is not allowed.",
                param="name",
                hint="Use 1 to 128 letters, digits and . _ : / + -, beginning with a letter or digit.",
            )
        try:
            report = inspect(content.path, reading)
            with self._database.write() as connection:
                blob = content.commit()
                newest = datasets.get(connection, self._org, name, None)
                if newest is not None and newest.sha256 == blob.sha256:
                    return newest
                return datasets.add(
                    connection,
                    org=self._org,
                    name=name,
                    filename=filename,
                    bytes=blob.bytes,
                    sha256=blob.sha256,
                    report=report.model_dump(mode="json"),
                    created_at=time.time(),
                )
        finally:
            content.discard()

    def get(self, reference: str, *, param: str | None = None) -> Dataset:
        """One dataset: `name` for its newest version, or `name@version`.

        Raises:
            DatasetNotFoundError: no dataset has this name and version.
        """
        name, _, version = reference.partition("@")
        dataset = None
        if _VERSION.fullmatch(version) or reference == name:
            with self._database.read() as connection:
                dataset = datasets.get(connection, self._org, name, int(version) if version else None)
        if dataset is None:
            known = ", ".join(repr(f"{each.name}@{each.version}") for each in self.listed()[:20]) or "none yet"
            raise DatasetNotFoundError(
                f"No dataset is registered as {reference!r}; known: {known}.",
                param=param,
                hint="Register one with `tunesmith datasets add NAME FILE`.",
            )
        return dataset

    def listed(self) -> list[Dataset]:
        """All datasets by name, the newest version of each first."""
        with self._database.read() as connection:
            return datasets.all_by_name(connection, self._org)

    def delete(self, reference: str) -> None:
        """Delete one version. Its content goes when no job that has not ended needs it.

        Raises:
            DatasetNotFoundError: no dataset has this name and version.
        """
        dataset = self.get(reference)
        with self._database.write() as connection:
            datasets.mark_deleted(connection, dataset, time.time())
            self._use.release(connection, dataset.sha256)


def reference(dataset: Dataset) -> str:
    """What names exactly this version: `name@version`."""
    return f"{dataset.name}@{dataset.version}"
