"""Bodies of answers about secrets, the organisation and API keys. Times are seconds since 1970, UTC."""

from pydantic import Field

from tunesmith.spec.frozen import Frozen
from tunesmith.store.organisations import RoleName
from tunesmith.store.secrets import Purpose


class SecretAnswer(Frozen):
    """What may be told of stored credentials."""

    id: str
    name: str | None
    purpose: Purpose
    host: str | None
    field_names: list[str]
    created_at: float
    updated_at: float


class Identity(Frozen):
    """Who you are."""

    organisation: str
    name: str
    """The organisation's."""

    user: str | None
    """None for a machine's key, and on an open server."""

    role: RoleName
    project: str | None
    """The only project that the credential may work in; none = all."""


class MemberAnswer(Frozen):
    """A listed user."""

    user: str
    role: RoleName
    created_at: float


class ProjectAnswer(Frozen):
    """A part of the organisation's work."""

    id: str
    name: str
    created_at: float
    archived_at: float | None


class KeyAnswer(Frozen):
    """What is known of an API key."""

    id: str
    name: str
    role: RoleName
    user: str | None
    project: str | None
    last_four: str
    """The key's last letters, to recognise it by."""

    created_at: float
    expires_at: float | None
    last_used_at: float | None
    """To the minute."""

    revoked_at: float | None


class NewKey(KeyAnswer):
    """A key that was just made."""

    key: str = Field(examples=["ts_…"])
    """The key itself. It is not shown again."""
