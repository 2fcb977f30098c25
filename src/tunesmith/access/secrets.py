"""Credentials for other services, kept for the server's own use: what goes in never comes out of any API."""

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.access.keyring import Keyring, UnsealError
from tunesmith.access.names import require_name
from tunesmith.access.purposes import checked, effective_host
from tunesmith.spec.errors import ConflictError, InternalError, InvalidRequestError, SecretNotFoundError, SettingsError
from tunesmith.store import secrets
from tunesmith.store.database import Database
from tunesmith.store.secrets import Purpose, Secret


class Revealed(Mapping[str, str]):
    """A secret's fields. Printing or logging the mapping shows their names only."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> str:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Revealed({', '.join(self._fields)})"


def open_secrets(database: Database, folder: Path) -> "Secrets":
    """The door to secrets whose keys lie in a folder; creates the folder where there are no secrets yet.

    Raises:
        SettingsError: the keys are missing, do not fit the secrets, or can be read by other users.
    """
    with database.read() as connection:
        present = secrets.all_sealed(connection)
    keyring = Keyring.open(folder, needed=bool(present))
    for sealed in present.values():
        try:
            keyring.unseal(sealed)
        except UnsealError:
            raise SettingsError(
                f"The keys in {str(folder)!r} do not open all secrets of the database.",
                param="home",
                hint="Put the folder back from the backup of the same moment as the database.",
            ) from None
    return Secrets(database, keyring)


class Secrets:
    """The door to secrets. Whether a caller may create or delete them is decided by `permissions.py`.

    Contents are sealed together with what they are bound to, so a changed row of the database is noticed.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        # A content that was read before a rotation could not be opened after it.
        self._no_rotation = threading.Lock()

    def create(
        self, org: str, *, name: str, purpose: str, fields: Mapping[str, str], host: str | None = None
    ) -> Secret:
        """A new secret under a name.

        Raises:
            InvalidRequestError: a name, purpose, host or field is not allowed; values are not repeated.
            ConflictError: the organisation has a secret of this name.
        """
        require_name(name)
        return self._add(org, name, purpose, fields, host)

    def put_for_request(self, org: str, purpose: str, fields: Mapping[str, str], host: str | None = None) -> str:
        """Keep credentials that arrived inside a request, without a name. Returns the secret's id.

        Raises:
            InvalidRequestError: a purpose, host or field is not allowed; values are not repeated.
        """
        return self._add(org, None, purpose, fields, host).id

    def replace(self, org: str, id: str, fields: Mapping[str, str]) -> Secret:
        """Other fields for a secret, which stays bound to its purpose and host.

        Raises:
            SecretNotFoundError: the organisation has no such secret.
            InvalidRequestError: a field is not allowed, or its address leads to another host.
        """
        with self._database.write() as connection:
            present = _get(connection, org, id)
            _, host = checked(present.purpose, present.host, fields)
            if host != present.host:
                raise InvalidRequestError(
                    f"The secret is for {_target(present.purpose, effective_host(present.purpose, None))}, "
                    f"and the new fields lead to {host!r}.",
                    param="fields",
                    hint="Create another secret for another host.",
                )
            secret = present.model_copy(update={"field_names": tuple(fields), "updated_at": time.time()})
            secrets.change(
                connection,
                id,
                field_names=secret.field_names,
                updated_at=secret.updated_at,
                sealed=self._seal(secret, fields),
            )
        return secret

    def listed(self, org: str) -> list[Secret]:
        """An organisation's secrets by name, without their fields; those of requests are left out."""
        with self._database.read() as connection:
            return secrets.named(connection, org)

    def describe(self, org: str, id: str, *, param: str | None = None) -> Secret:
        """What may be told of a secret.

        Raises:
            SecretNotFoundError: the organisation has no such secret.
        """
        with self._database.read() as connection:
            return _get(connection, org, id, param=param)

    def find(self, org: str, reference: str, *, param: str | None = None) -> Secret:
        """A secret by its id or its name.

        Raises:
            SecretNotFoundError: the organisation has no such secret.
        """
        with self._database.read() as connection:
            named = secrets.by_name(connection, org, reference)
            return named or _get(connection, org, reference, param=param)

    def delete(self, org: str, id: str) -> None:
        """Forget a secret.

        Raises:
            SecretNotFoundError: the organisation has no such secret.
        """
        with self._database.write() as connection:
            secrets.remove(connection, _get(connection, org, id).id)

    def reveal(self, org: str, id: str, *, purpose: Purpose, host: str | None) -> Mapping[str, str]:
        """The fields, for the server's own use at this moment. No answer, event, spec or log may hold them.

        `host` is the one that they are about to be sent to, as `hosts.host_of` writes it; none where the purpose's
        default is meant, which for s3 is whichever endpoint Amazon has for a region.

        Raises:
            SecretNotFoundError: the organisation has no such secret, or it is for another purpose or host.
        """
        with self._no_rotation:
            with self._database.read() as connection:
                secret = _get(connection, org, id)
                sealed = secrets.sealed(connection, id)
            bound = effective_host(secret.purpose, secret.host)
            if secret.purpose != purpose or bound != effective_host(purpose, host):
                raise SecretNotFoundError(
                    f"Secret {id!r} is for {_target(secret.purpose, bound)}, "
                    f"not for {_target(purpose, effective_host(purpose, host))}.",
                    hint="Create a secret for that purpose and host.",
                )
            return Revealed(self._unseal(secret, sealed))

    def rotate(self) -> int:
        """Encrypt all secrets with a new key and drop the old ones. Returns the number of secrets.

        Cut off at any moment, it leaves every secret readable, and doing it again completes it.

        Raises:
            SettingsError: the folder of keys cannot be written.
        """
        with self._no_rotation:
            self._keyring.add_key()
            with self._database.write() as connection:
                present = secrets.all_sealed(connection)
                for id, sealed in present.items():
                    secrets.change(connection, id, sealed=self._keyring.seal(self._keyring.unseal(sealed)))
            self._keyring.drop_old_keys()
        return len(present)

    def _add(self, org: str, name: str | None, purpose: str, fields: Mapping[str, str], host: str | None) -> Secret:
        known_purpose, bound_host = checked(purpose, host, fields)
        now = time.time()
        secret = Secret(
            id=uuid.uuid4().hex,
            org=org,
            name=name,
            purpose=known_purpose,
            host=bound_host,
            field_names=tuple(fields),
            created_at=now,
            updated_at=now,
        )
        with self._database.write() as connection:
            if name is not None and secrets.by_name(connection, org, name) is not None:
                raise ConflictError(
                    f"A secret is called {name!r} already.", param="name", hint="Delete it or choose another name."
                )
            # Sealed under the database's lock: a rotation comes before or after, never between.
            secrets.add(connection, secret, self._seal(secret, fields))
        return secret

    def _seal(self, secret: Secret, fields: Mapping[str, str]) -> bytes:
        return self._keyring.seal(json.dumps([*_binding(secret), dict(fields)]).encode())

    def _unseal(self, secret: Secret, sealed: bytes) -> dict[str, str]:
        try:
            *binding, fields = json.loads(self._keyring.unseal(sealed))
        except UnsealError:
            binding, fields = [], {}
        if binding != _binding(secret):
            raise InternalError(
                f"Secret {secret.id!r} cannot be opened: its row or its key was changed from outside.",
                hint="Create it again.",
            )
        opened: dict[str, str] = fields
        return opened


def _binding(secret: Secret) -> list[str | None]:
    return [secret.id, secret.org, secret.purpose, secret.host]


def _get(connection: Connection, org: str, id: str, *, param: str | None = None) -> Secret:
    secret = secrets.get(connection, org, id)
    if secret is None:
        raise SecretNotFoundError(
            # What was sent is not repeated: it may be a credential in the wrong place.
            "No secret has this id or name.",
            param=param,
            hint="List the secrets to see their ids, or create one.",
        )
    return secret


def _target(purpose: Purpose, host: str | None) -> str:
    return f"{purpose} at {host}" if host else purpose
