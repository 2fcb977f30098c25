"""Rows of registered datasets: named contents that never change."""

from typing import Any

from sqlalchemy import Connection, insert, select

from tunesmith.data.validate import DatasetReport
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import datasets


class Dataset(Frozen):
    """A named content."""

    name: str
    filename: str
    bytes: int
    sha256: str
    report: DatasetReport
    created_at: float


def add(connection: Connection, **values: Any) -> Dataset:
    """Insert a dataset."""
    connection.execute(insert(datasets).values(**values))
    dataset = get(connection, values["name"])
    assert dataset is not None
    return dataset


def get(connection: Connection, name: str) -> Dataset | None:
    """One dataset."""
    row = connection.execute(select(datasets).where(datasets.c.name == name)).one_or_none()
    return to_record(Dataset, row) if row else None


def all_by_name(connection: Connection) -> list[Dataset]:
    """All datasets."""
    rows = connection.execute(select(datasets).order_by(datasets.c.name))
    return [to_record(Dataset, row) for row in rows]
