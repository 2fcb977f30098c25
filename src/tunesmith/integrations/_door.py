"""The door to the integrations of jobs: what a request asks for is checked and put away, and how each fares is told."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from tunesmith.access.caller import Caller
from tunesmith.access.secrets import Secrets
from tunesmith.integrations import Place, Wish
from tunesmith.plugins import load_plugins
from tunesmith.sources import Limits
from tunesmith.spec.errors import InvalidRequestError, SecretNotFoundError
from tunesmith.spec.job import Frozen, IntegrationSpec
from tunesmith.store import feeds
from tunesmith.store.database import Database
from tunesmith.store.feeds import Feed
from tunesmith.store.secrets import Purpose, Secret

_PURPOSES: dict[str, Purpose] = {"mlflow": "mlflow", "wandb": "wandb", "hub": "hub"}


class Standing(Frozen):
    """How one integration of a job fares."""

    kind: str
    state: Literal["active", "retrying", "done", "incomplete", "failed"]
    """`incomplete`: it ended, and something was given up on the way. `failed`: it ended without having told all."""

    url: str | None
    """Where a person can look at what was told."""

    told_at: float | None
    """When something was last told, in seconds since 1970."""

    error: str | None
    """Why the last try failed; none once one succeeded."""

    error_at: float | None


class Integrations:
    """The integrations of the caller's jobs."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        limits: Limits,
        caller: Caller,
        *,
        hub_url: str | None,
        mlflow_url: str | None,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._caller = caller
        self._place = Place(limits=limits, hub_url=hub_url, named=self._named)
        self.mlflow_url = mlflow_url
        """The MLflow server that stands for none in particular."""

    @contextmanager
    def kept(self, wishes: Sequence[Wish]) -> Iterator[tuple[IntegrationSpec, ...]]:
        """Check what a job asks for and put its credentials away, for as long as the job is accepted: those that no job
        has when the block ends are forgotten.

        Raises:
            InvalidRequestError: a wish is malformed, or its credentials are.
            AddressRefusedError: an address leads to where no request may go.
            SecretNotFoundError: there are no such stored credentials, or they are for another service.
            UnsupportedError: this server cannot do it.
        """
        put: list[str] = []
        try:
            yield tuple(self._kept(wish, put) for wish in wishes)
        finally:
            self._forget(put)

    def of_job(self, job_id: str) -> list[Standing]:
        """How the integrations of a job fare, which the caller may see."""
        with self._database.read() as connection:
            return [_standing(feed) for feed in feeds.of_job(connection, job_id)]

    def _named(self, name: str) -> Secret | None:
        return next((each for each in self._secrets.listed(self._caller.org) if each.name == name), None)

    def _kept(self, wish: Wish, put: list[str]) -> IntegrationSpec:
        checked: Wish = load_plugins("tunesmith.integrations")[wish.kind].checked(wish, self._place)
        secret = None
        if checked.credentials:
            secret = self._put_away(checked)
            put.append(secret)
        elif checked.secret is not None:
            secret = self._found(checked)
        return IntegrationSpec.model_validate(
            {"kind": checked.kind, "settings": dict(checked.settings), "secret": secret}
        )

    def _put_away(self, wish: Wish) -> str:
        purpose = _PURPOSES[wish.kind]
        try:
            return self._secrets.put_for_request(self._caller.org, purpose, wish.credentials, host=wish.host)
        except InvalidRequestError as error:  # in the words of a secret
            raise InvalidRequestError(f"{wish.param}: {error.message}", param=wish.param, hint=error.hint) from None

    def _found(self, wish: Wish) -> str:
        param, purpose = f"{wish.param}.secret", _PURPOSES[wish.kind]
        found = self._secrets.find(self._caller.org, wish.secret or "", param=param)
        try:  # one for another purpose or host is refused now, not when it is needed
            self._secrets.reveal(self._caller.org, found.id, purpose=purpose, host=wish.host or found.host)
        except SecretNotFoundError as error:
            raise SecretNotFoundError(error.message, param=param, hint=error.hint) from None
        return found.id

    def _forget(self, put: Collection[str]) -> None:
        with self._database.read() as connection:
            used = feeds.secrets_in_use(connection, put)
        for secret in set(put) - used:
            self._secrets.delete(self._caller.org, secret)


def notes_on(specs: Sequence[IntegrationSpec]) -> list[str]:
    """What a job's user should know of the integrations that were asked for."""
    plugins = load_plugins("tunesmith.integrations")
    return [note for each in specs if each.kind in _PURPOSES for note in plugins[each.kind].notes(each)]


def _standing(feed: Feed) -> Standing:
    return Standing(
        kind=feed.kind,
        state=_state(feed),
        url=feed.url,
        told_at=feed.told_at,
        error=feed.error,
        error_at=feed.error_at,
    )


def _state(feed: Feed) -> Literal["active", "retrying", "done", "incomplete", "failed"]:
    if feed.ended_at is None:
        return "retrying" if feed.error is not None else "active"
    if feed.error is not None:
        return "failed"
    return "incomplete" if feed.gave_up_at is not None else "done"
