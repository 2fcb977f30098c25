"""Puts what a job produced into a repository on the hub: takes a push when the job has succeeded, and follows it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from tunesmith.access.hosts import host_of
from tunesmith.integrations import (
    TRACKER_DELAYS,
    Connections,
    NotToldError,
    NotYetError,
    Place,
    ReceiverGoneError,
    Wish,
)
from tunesmith.sources.hub.api import check_name
from tunesmith.spec.errors import InvalidRequestError, PushError, SecretNotFoundError, UnsupportedError
from tunesmith.spec.job import IntegrationSpec
from tunesmith.spec.lifecycle import State
from tunesmith.store import feeds, models, pushes, secrets
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel
from tunesmith.store.pushes import Push

FOR_EVERY_JOB = False

_LOOK_SECONDS = 1.0


def create(connections: Connections) -> "HubIntegration":
    """The integration."""
    return HubIntegration(connections)


def checked(wish: Wish, place: Place) -> Wish:
    """A wish with the host that its token is for.

    Raises:
        InvalidRequestError: the name is malformed.
        UnsupportedError: this server knows no hub.
    """
    repo, param = str(wish.settings["output_repo_name"]), f"{wish.param}.output_repo_name"
    try:
        check_name(repo)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{param}: {error.message}", param=param, hint=error.hint) from None
    if "/" not in repo:
        raise InvalidRequestError(f"{param} {repo!r} names no owner; it reads owner/name.", param=param)
    if place.hub_url is None:
        raise UnsupportedError("This server knows no hub.", param=wish.param, hint="Have its operator set hub_url.")
    return replace(wish, host=host_of(place.hub_url, param="hub_url"))


def notes(_spec: IntegrationSpec) -> list[str]:
    """What a user should know: nothing that is not obvious."""
    return []


class HubIntegration:
    """One push for each feed, of the feed's id."""

    delays = TRACKER_DELAYS

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._secrets = connections.secrets
        self._hub_url = connections.hub_url
        self._clock = connections.clock

    def kinds(self, _feed: Feed) -> Collection[str]:
        """See `Integration`."""
        return ("state",)

    def receiver(self, feed: Feed) -> str:
        """See `Integration`. Waiting for a push takes no time, so each feed stands for itself."""
        return feed.id

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """See `Integration`."""
        last = events[-1]
        token = self._token_of(feed)
        if job.state is State.SUCCEEDED:
            self._follow(self._pushed(feed, job, token), feed, events)
        return last.number

    def give_up(self, _feed: Feed) -> None:
        """See `Integration`. The feed itself says what was given up."""

    def close(self, feed: Feed) -> None:
        """See `Integration`. A token that came with the job is forgotten."""
        if feed.secret_id is not None:
            with self._database.write() as connection:
                secrets.remove_unnamed(connection, feed.org, [feed.secret_id])

    def stop(self) -> None:
        """See `Integration`. There is nothing to let go of."""

    def _token_of(self, feed: Feed) -> str:
        """Id of the token, which is there."""
        if feed.secret_id is None or self._hub_url is None:
            raise ReceiverGoneError("There is no token for the hub, or this server knows no hub any more.")
        try:
            host = host_of(self._hub_url, param="hub_url")
            self._secrets.reveal(feed.org, feed.secret_id, purpose="hub", host=host)
        except SecretNotFoundError as error:
            raise ReceiverGoneError(error.message) from None
        return feed.secret_id

    def _pushed(self, feed: Feed, job: Job, token: str) -> Push:
        """The push of a feed, taken unless it was."""
        with self._database.write() as connection:
            model = models.get(connection, job.org, job.model_id) if job.model_id is not None else None
            if model is None:
                raise ReceiverGoneError("The model was deleted before it could be pushed.")
            found = pushes.get(connection, job.org, model.id, feed.id)
            return found or pushes.add(connection, feed.id, at=self._clock(), **_wanted(feed, model, token))

    def _follow(self, push: Push, feed: Feed, events: Sequence[Event]) -> None:
        """Return when a push is done; where another try may better it, one is made."""
        if push.state == "done":
            with self._database.write() as connection:
                feeds.change(connection, feed.id, url=f"{(self._hub_url or '').rstrip('/')}/{push.repo}")
            return
        if push.error is None:
            raise NotYetError(_LOOK_SECONDS)
        if push.error.code != PushError.code:
            raise ReceiverGoneError(push.error.sentence())
        with self._database.write() as connection:
            pushes.change(connection, push.id, state="queued", error=None, finished_at=None)
        raise NotToldError(events[-1], push.error.message, first=events[0])


def _wanted(feed: Feed, model: ProducedModel, token: str) -> dict[str, object]:
    """A repository that has to be made is a private one."""
    return {
        "org": feed.org,
        "model_id": model.id,
        "export_id": None,
        "repo": feed.settings["output_repo_name"],
        "private": feed.settings.get("private") is not False,
        "secret": token,
        "format": "adapter" if model.kind == "adapter" else "weights",
    }
