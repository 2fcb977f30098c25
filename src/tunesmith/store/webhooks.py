"""Rows of an organisation's webhooks. The whole URL and the signing secret are sealed elsewhere."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import webhooks


class Webhook(Frozen):
    """A receiver that an organisation wants to be told of its jobs."""

    id: str
    org: str
    project: str | None
    """The only project whose jobs it is told of; none = all of the organisation."""

    description: str | None
    address: str
    """Scheme and host: the rest of the URL is often a password."""

    events: tuple[str, ...]
    """Names of the events that it is told of."""

    secret_id: str
    previous_until: float | None
    """Until then the former signing secret signs as well."""

    created_at: float
    updated_at: float
    disabled_at: float | None
    disabled_because: str | None
    deleted_at: float | None


def add(connection: Connection, webhook: Webhook) -> None:
    """Insert a webhook."""
    connection.execute(insert(webhooks).values(**webhook.model_dump()))


def get(connection: Connection, id: str) -> Webhook | None:
    """One webhook, unless it was deleted."""
    row = connection.execute(_present().where(webhooks.c.id == id)).one_or_none()
    return to_record(Webhook, row) if row else None


def of_org(connection: Connection, org: str) -> list[Webhook]:
    """An organisation's webhooks, oldest first."""
    query = _present().where(webhooks.c.org == org).order_by(webhooks.c.created_at, webhooks.c.id)
    return [to_record(Webhook, row) for row in connection.execute(query)]


def enabled(connection: Connection, org: str) -> list[Webhook]:
    """Those of an organisation's webhooks that are told of jobs."""
    return [webhook for webhook in of_org(connection, org) if webhook.disabled_at is None]


def secrets_needed(connection: Connection) -> set[str]:
    """The secrets of all webhooks that were not deleted."""
    return set(connection.scalars(select(webhooks.c.secret_id).where(webhooks.c.deleted_at.is_(None))))


def change(connection: Connection, id: str, **values: Any) -> None:
    """Set columns of a webhook."""
    connection.execute(update(webhooks).where(webhooks.c.id == id).values(**values))


def prune(connection: Connection, *, before: float) -> None:
    """Forget webhooks that were deleted before a time; their feeds must be gone."""
    connection.execute(delete(webhooks).where(webhooks.c.deleted_at < before))


def _present() -> Any:
    return select(webhooks).where(webhooks.c.deleted_at.is_(None))
