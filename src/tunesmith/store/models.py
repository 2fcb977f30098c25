"""Rows of produced models."""

from typing import Any, Literal

from sqlalchemy import Connection, func, insert, select, update

from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import models


class ProducedModel(Frozen):
    """What a succeeded job left."""

    number: int
    id: str
    """The name that a user asks for it by."""

    org: str
    job_id: str | None
    """None for one that was brought in."""

    base: str
    base_revision: str | None
    """Commit of a base from the hub."""

    kind: Literal["adapter", "full"]
    path: str
    name: str | None
    """The user's own name; several versions may share it."""

    version: int | None
    """Counts up from 1 for each name."""

    description: str | None
    created_at: float


def add(connection: Connection, *, org: str, name: str | None, **values: Any) -> None:
    """Insert a produced model, as the next version of its name if it has one."""
    version = None
    if name is not None:
        of_name = (models.c.org == org, models.c.name == name)
        newest = connection.scalar(select(func.max(models.c.version)).where(*of_name))
        version = (newest or 0) + 1
    connection.execute(insert(models).values(org=org, name=name, version=version, **values))


def get(connection: Connection, org: str, id: str) -> ProducedModel | None:
    """One model of an organisation that was not deleted."""
    query = select(models).where(models.c.org == org, models.c.id == id, models.c.deleted_at.is_(None))
    row = connection.execute(query).one_or_none()
    return to_record(ProducedModel, row) if row else None


def by_name(connection: Connection, org: str, name: str, version: int | None) -> ProducedModel | None:
    """The given version of a name, or its newest."""
    query = select(models).where(models.c.org == org, models.c.name == name, models.c.deleted_at.is_(None))
    if version is not None:
        query = query.where(models.c.version == version)
    row = connection.execute(query.order_by(models.c.version.desc()).limit(1)).one_or_none()
    return to_record(ProducedModel, row) if row else None


def newest_first(connection: Connection, org: str) -> list[ProducedModel]:
    """An organisation's models that were not deleted."""
    query = select(models).where(models.c.org == org, models.c.deleted_at.is_(None)).order_by(models.c.number.desc())
    return [to_record(ProducedModel, row) for row in connection.execute(query)]


def resting_on(connection: Connection, org: str, id: str) -> list[str]:
    """Ids of an organisation's adapters whose base is the given model, oldest first."""
    rests = (models.c.org == org, models.c.base == id, models.c.kind == "adapter", models.c.deleted_at.is_(None))
    return list(connection.scalars(select(models.c.id).where(*rests).order_by(models.c.number)))


def mark_deleted(connection: Connection, id: str, at: float) -> None:
    """Hide a model from everybody."""
    connection.execute(update(models).where(models.c.id == id).values(deleted_at=at))
