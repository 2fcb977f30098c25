"""API keys: made here, shown once, kept as digests."""

import hashlib
import math
import secrets
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from tunesmith.access.boundaries import find_open_project
from tunesmith.access.caller import Caller, Role
from tunesmith.access.names import require_name
from tunesmith.access.organisations import is_user
from tunesmith.spec.errors import (
    ApiKeyNotFoundError,
    DiskFullError,
    InvalidRequestError,
    UnauthenticatedError,
)
from tunesmith.store import api_keys, organisations
from tunesmith.store.api_keys import ApiKey
from tunesmith.store.database import Database

PREFIX = "ts_"
"""How every key begins, so that scanners for leaked credentials can recognise one."""

_SECRET_BYTES = 32
_USE_SECONDS = 60

# From much to little.
_ROLES = (Role.OWNER, Role.MEMBER, Role.VIEWER)


class ApiKeys:
    """The door to API keys. Whether a caller may manage them is decided by `permissions.py`."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(
        self,
        org: str,
        *,
        name: str,
        role: Role,
        user: str | None = None,
        project: str | None = None,
        expires_at: float | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key: what is known of it, and the key itself, which nobody can see again.

        Raises:
            InvalidRequestError: the name or user is not allowed, the time is over, or an owner's key is to be bound
                to a project.
            ProjectNotFoundError: the organisation has no such project.
            ConflictError: the project is archived.
        """
        self._check(name=name, role=role, user=user, project=project, expires_at=expires_at)
        plaintext = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(
            id=uuid.uuid4().hex,
            org=org,
            name=name,
            role=role.value,
            user=user,
            project=project,
            last_four=plaintext[-4:],
            created_at=self._clock(),
            expires_at=expires_at,
            last_used_at=None,
            revoked_at=None,
        )
        with self._database.write() as connection:
            if project is not None:
                find_open_project(connection, org, project, param="project")
            api_keys.add(connection, key, _digest(plaintext))
        return key, plaintext

    def listed(self, org: str) -> list[ApiKey]:
        """An organisation's keys, oldest first, revoked ones too."""
        with self._database.read() as connection:
            return api_keys.of_org(connection, org)

    def revoke(self, org: str, id: str) -> ApiKey:
        """End a key at once. Revoking it again changes nothing.

        Raises:
            ApiKeyNotFoundError: the organisation has no key with this id.
        """
        with self._database.write() as connection:
            key = api_keys.get(connection, org, id)
            if key is None:
                raise ApiKeyNotFoundError(f"No API key has the id {id!r}.", hint="List the keys to see their ids.")
            return key if key.revoked_at else api_keys.change(connection, key, revoked_at=self._clock())

    def caller(self, plaintext: str) -> Caller:
        """Who presents this key.

        Raises:
            UnauthenticatedError: the key is unknown, revoked or expired.
        """
        now = self._clock()
        with self._database.read() as connection:
            key = api_keys.by_digest(connection, _digest(plaintext))
            member = organisations.member(connection, key.org, key.user) if key and key.user else None
        if key is None:
            raise UnauthenticatedError("This API key is unknown.")
        if key.revoked_at is not None:
            raise UnauthenticatedError("This API key was revoked.")
        if key.expires_at is not None and key.expires_at <= now:
            raise UnauthenticatedError("This API key has expired.")
        self._note_use(key, now)
        role = _lesser(Role(key.role), Role(member.role)) if member else Role(key.role)
        return Caller(org=key.org, user=key.user, role=role, project=key.project)

    def _note_use(self, key: ApiKey, now: float) -> None:
        if key.last_used_at is not None and now - key.last_used_at < _USE_SECONDS:
            return
        with suppress(DiskFullError), self._database.write() as connection:  # a full disk keeps nobody from looking
            api_keys.change(connection, key, last_used_at=now)

    def _check(self, *, name: str, role: Role, user: str | None, project: str | None, expires_at: float | None) -> None:
        require_name(name)
        if user is not None and not is_user(user):
            raise InvalidRequestError(f"User {user!r} is not allowed.", param="user")
        if project is not None and role is Role.OWNER:
            raise InvalidRequestError(
                "A key that is bound to a project cannot have the role 'owner': owners manage the whole organisation.",
                param="role",
                hint="Use 'member' or 'viewer', or leave the project out.",
            )
        if expires_at is not None and not self._clock() < expires_at < math.inf:
            raise InvalidRequestError(
                f"expires_at {expires_at:g} is not in the future.", param="expires_at", hint="Seconds since 1970, UTC."
            )


def _digest(plaintext: str) -> str:
    """What a key is stored as and found by.

    Plain SHA-256 suffices: slow, salted hashes protect passwords, which can be guessed, and nobody guesses 256 random
    bits. It also makes the look-up safe to time: what the index compares are digests, of which a caller cannot choose
    a single letter without knowing the key.
    """
    return hashlib.sha256(plaintext.encode()).hexdigest()


def _lesser(one: Role, other: Role) -> Role:
    return max(one, other, key=_ROLES.index)
