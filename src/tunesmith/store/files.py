"""Rows of uploaded and produced files."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from tunesmith.data.validate import DatasetReport
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import datasets, files


class File(Frozen):
    """A file that a user can name."""

    number: int
    id: str
    org: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    report: DatasetReport | None
    """What its rows are, for training data."""

    created_at: float
    expires_at: float | None


def add(connection: Connection, **values: Any) -> File:
    """Insert a file."""
    connection.execute(insert(files).values(**values))
    file = get(connection, values["id"])
    assert file is not None
    return file


def get(connection: Connection, id: str) -> File | None:
    """One file that was not deleted."""
    row = connection.execute(select(files).where(files.c.id == id, files.c.deleted_at.is_(None))).one_or_none()
    return to_record(File, row) if row else None


def listed(
    connection: Connection, org: str, *, limit: int | None, after: File | None, newest_first: bool, purpose: str | None
) -> list[File]:
    """An organisation's files behind `after` in the asked order."""
    order = files.c.number.desc() if newest_first else files.c.number
    query = select(files).where(files.c.org == org, files.c.deleted_at.is_(None)).order_by(order).limit(limit)
    if after is not None:
        query = query.where(files.c.number < after.number if newest_first else files.c.number > after.number)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    return [to_record(File, row) for row in connection.execute(query)]


def expired(connection: Connection, at: float) -> list[File]:
    """Files of all organisations whose time is over."""
    query = select(files).where(files.c.deleted_at.is_(None), files.c.expires_at <= at)
    return [to_record(File, row) for row in connection.execute(query)]


def mark_deleted(connection: Connection, id: str, at: float) -> None:
    """Hide a file from everybody."""
    connection.execute(update(files).where(files.c.id == id).values(deleted_at=at))


def is_named(connection: Connection, sha256: str) -> bool:
    """Whether a file or dataset still stands for this content."""
    in_files = select(files.c.id).where(files.c.sha256 == sha256, files.c.deleted_at.is_(None))
    in_datasets = select(datasets.c.name).where(datasets.c.sha256 == sha256, datasets.c.deleted_at.is_(None))
    return any(connection.execute(query.limit(1)).first() is not None for query in (in_files, in_datasets))
