"""Rows of API keys: what is known of a key without the key."""

from typing import Any

from sqlalchemy import Connection, insert, select, update

from tunesmith.spec.frozen import Frozen
from tunesmith.store.organisations import RoleName
from tunesmith.store.rows import to_record
from tunesmith.store.tables import api_keys


class ApiKey(Frozen):
    """A key that an organisation handed out."""

    id: str
    org: str
    name: str
    role: RoleName
    user: str | None
    """Whose it is; none for one of a machine."""

    project: str | None
    """Id of the only project that it may work in; none = all of the organisation."""

    last_four: str
    """The key's last letters, to recognise it by."""

    created_at: float
    expires_at: float | None
    last_used_at: float | None
    """To the minute."""

    revoked_at: float | None


def add(connection: Connection, key: ApiKey, digest: str) -> None:
    """Insert a key with the digest that it is found by."""
    connection.execute(insert(api_keys).values(**key.model_dump(), digest=digest))


def get(connection: Connection, org: str, id: str) -> ApiKey | None:
    """One of an organisation's keys."""
    row = connection.execute(select(api_keys).where(api_keys.c.org == org, api_keys.c.id == id)).one_or_none()
    return to_record(ApiKey, row) if row else None


def by_digest(connection: Connection, digest: str) -> ApiKey | None:
    """The key with this digest, whoever's it is."""
    row = connection.execute(select(api_keys).where(api_keys.c.digest == digest)).one_or_none()
    return to_record(ApiKey, row) if row else None


def of_org(connection: Connection, org: str) -> list[ApiKey]:
    """An organisation's keys, oldest first, revoked ones too."""
    query = select(api_keys).where(api_keys.c.org == org).order_by(api_keys.c.created_at, api_keys.c.id)
    return [to_record(ApiKey, row) for row in connection.execute(query)]


def change(connection: Connection, key: ApiKey, **values: Any) -> ApiKey:
    """Set columns of a key."""
    connection.execute(update(api_keys).where(api_keys.c.id == key.id).values(**values))
    return key.model_copy(update=values)


def revoke_of_user(connection: Connection, org: str, user: str, at: float) -> None:
    """Revoke every key of a user."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.org == org, api_keys.c.user == user, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=at)
    )
