"""Rows of secrets. The fields are encrypted before they come here, and no record holds them."""

from collections.abc import Collection
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from tunesmith.spec.frozen import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import secrets

Purpose = Literal["s3", "gcs", "hub", "http", "wandb", "mlflow", "webhook"]


class Secret(Frozen):
    """What may be told of a secret."""

    id: str
    org: str
    name: str | None
    """None for one that arrived inside a request."""

    purpose: Purpose
    host: str | None
    """The only host that it may be sent to; none = the purpose's default."""

    field_names: tuple[str, ...]
    created_at: float
    updated_at: float


def add(connection: Connection, secret: Secret, sealed: bytes) -> None:
    """Insert a secret with its encrypted fields."""
    connection.execute(insert(secrets).values(**secret.model_dump(), sealed=sealed))


def get(connection: Connection, org: str, id: str) -> Secret | None:
    """One of an organisation's secrets."""
    row = connection.execute(select(secrets).where(secrets.c.org == org, secrets.c.id == id)).one_or_none()
    return to_record(Secret, row) if row else None


def by_name(connection: Connection, org: str, name: str) -> Secret | None:
    """The organisation's secret of this name."""
    row = connection.execute(select(secrets).where(secrets.c.org == org, secrets.c.name == name)).one_or_none()
    return to_record(Secret, row) if row else None


def named(connection: Connection, org: str) -> list[Secret]:
    """An organisation's secrets that have a name, by name."""
    query = select(secrets).where(secrets.c.org == org, secrets.c.name.is_not(None)).order_by(secrets.c.name)
    return [to_record(Secret, row) for row in connection.execute(query)]


def sealed(connection: Connection, id: str) -> bytes:
    """The encrypted fields of a secret, which must exist."""
    content: bytes = connection.execute(select(secrets.c.sealed).where(secrets.c.id == id)).scalar_one()
    return content


def all_sealed(connection: Connection) -> dict[str, bytes]:
    """The encrypted fields of every secret of every organisation, by id."""
    return {row.id: row.sealed for row in connection.execute(select(secrets.c.id, secrets.c.sealed))}


def change(connection: Connection, id: str, **values: Any) -> None:
    """Set columns of a secret."""
    connection.execute(update(secrets).where(secrets.c.id == id).values(**values))


def remove(connection: Connection, id: str) -> None:
    """Delete a secret."""
    connection.execute(delete(secrets).where(secrets.c.id == id))


def remove_orphans(connection: Connection, needed: Collection[str]) -> None:
    """Delete those secrets of all organisations that arrived inside a request and are not among the needed ones."""
    unnamed = set(connection.scalars(select(secrets.c.id).where(secrets.c.name.is_(None))))
    connection.execute(delete(secrets).where(secrets.c.id.in_(unnamed - set(needed))))


def remove_unnamed(connection: Connection, org: str, ids: Collection[str]) -> None:
    """Delete those of the organisation's secrets that arrived inside a request."""
    if ids:
        unnamed = (secrets.c.org == org, secrets.c.name.is_(None), secrets.c.id.in_(ids))
        connection.execute(delete(secrets).where(*unnamed))
