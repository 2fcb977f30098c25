"""Rows of registered datasets: named contents whose versions never change."""

from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from tunesmith.data.validate import DatasetReport
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import datasets


class Dataset(Frozen):
    """One version of a named content."""

    org: str
    name: str
    version: int
    """Counts up from 1 for each name."""

    filename: str
    bytes: int
    sha256: str
    report: DatasetReport
    created_at: float


def add(connection: Connection, *, org: str, name: str, **values: Any) -> Dataset:
    """Insert a dataset as the next version of its name."""
    of_name = (datasets.c.org == org, datasets.c.name == name)
    version = (connection.scalar(select(func.max(datasets.c.version)).where(*of_name)) or 0) + 1
    connection.execute(insert(datasets).values(org=org, name=name, version=version, **values))
    dataset = get(connection, org, name, version)
    assert dataset is not None
    return dataset


def get(connection: Connection, org: str, name: str, version: int | None) -> Dataset | None:
    """The given version of a name, or its newest."""
    query = select(datasets).where(datasets.c.org == org, datasets.c.name == name, datasets.c.deleted_at.is_(None))
    if version is not None:
        query = query.where(datasets.c.version == version)
    row = connection.execute(query.order_by(datasets.c.version.desc()).limit(1)).one_or_none()
    return to_record(Dataset, row) if row else None


def all_by_name(connection: Connection, org: str) -> list[Dataset]:
    """An organisation's datasets, the newest version of a name first."""
    query = select(datasets).where(datasets.c.org == org, datasets.c.deleted_at.is_(None))
    rows = connection.execute(query.order_by(datasets.c.name, datasets.c.version.desc()))
    return [to_record(Dataset, row) for row in rows]


def mark_deleted(connection: Connection, dataset: Dataset, at: float) -> None:
    """Hide a version from everybody."""
    of_version = (
        datasets.c.org == dataset.org, datasets.c.name == dataset.name, datasets.c.version == dataset.version,
    )  # fmt: skip
    connection.execute(update(datasets).where(*of_version).values(deleted_at=at))
