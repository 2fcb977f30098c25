"""Tells Weights & Biases of jobs, through the service's own library in a process for each run.

Without a key, the library writes the files that `wandb sync` takes to the service later.
"""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tunesmith.access.purposes import effective_host
from tunesmith.integrations import (
    TRACKER_DELAYS,
    Connections,
    NotToldError,
    NotYetError,
    Place,
    ReceiverGoneError,
    Wish,
)
from tunesmith.integrations._addresses import check_url
from tunesmith.integrations._figures import KINDS, figures_of, told_once
from tunesmith.integrations._spec import shown_spec
from tunesmith.integrations._titles import title_of
from tunesmith.integrations.wandb.orders import STEP, Begin, Finish, Mark, Row, Sample
from tunesmith.integrations.wandb.process import SenderProcess
from tunesmith.spec.errors import SecretNotFoundError, TunesmithError
from tunesmith.spec.job import IntegrationSpec
from tunesmith.spec.lifecycle import TERMINAL, State
from tunesmith.store import events as event_rows
from tunesmith.store import feeds, secrets
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job

FOR_EVERY_JOB = False

_PAGE = 1000
_WAIT_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_STUCK_SECONDS = 300.0
_NOT_INSTALLED = (
    "The library of W&B is not installed beside this server, so nothing is told there; the operator installs it with "
    "pip install 'tunesmith[wandb]'."
)


def create(connections: Connections) -> "WandbIntegration":
    """The integration."""
    return WandbIntegration(connections)


def checked(wish: Wish, place: Place) -> Wish:
    """A wish with credentials: without any, those that the organisation stored under the name `wandb`."""
    if wish.credentials or wish.secret is not None:
        return wish
    stored = place.named("wandb")
    is_key = stored is not None and stored.purpose == "wandb"
    return Wish(wish.kind, wish.settings, wish.param, secret=stored.id) if stored is not None and is_key else wish


def notes(spec: IntegrationSpec) -> list[str]:
    """What a user should know: that nothing leaves this machine without a key, or without the library at all."""
    if find_spec("wandb") is None:
        return [_NOT_INSTALLED]
    if spec.secret is None:
        return [
            "No key for W&B came along or is stored under the name 'wandb', so the run is written to files on the "
            "server; wandb sync takes them to the service."
        ]
    return []


def service_of(key: Mapping[str, str]) -> str | None:
    """Address of the service that a key is for; none without a key. It is always said to the library, whose own default
    is another host than the one that keys without an address are bound to."""
    return key.get("base_url", f"https://{effective_host('wandb', None)}") if key else None


class WandbIntegration:
    """A sender for each feed that has figures to tell. One that is gone is replaced, and told everything again: the
    service says how many rows it has, and files are begun anew."""

    delays = TRACKER_DELAYS

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._secrets = connections.secrets
        self._limits = connections.limits
        self._folder = connections.folder
        self._picture = connections.results.picture
        self._senders: dict[str, SenderProcess] = {}

    def kinds(self, _feed: Feed) -> Collection[str]:
        """See `Integration`."""
        return ("state", *KINDS)

    def receiver(self, feed: Feed) -> str:
        """See `Integration`. Each feed has a process of its own."""
        return feed.id

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """See `Integration`."""
        key = self._key(feed)
        last = events[-1]
        ends = any(event.data.get("state") in TERMINAL for event in events)
        has_rows = any(event.kind in KINDS for event in events)
        if not has_rows and not (ends and job.started_at is not None):
            return last.number
        sender = self._sender(feed, job, key, events)
        self._hand_over(feed, sender, last.number)
        self._require(sender.wait_for(last.number, _WAIT_SECONDS), feed, sender, events)
        if ends:
            sender.say(Finish(state=job.state, exit_code=0 if job.state is State.SUCCEEDED else 1))
            self._require(sender.wait_until_finished(_WAIT_SECONDS), feed, sender, events)
        return last.number

    def give_up(self, _feed: Feed) -> None:
        """See `Integration`. The feed itself says what was given up."""

    def close(self, feed: Feed) -> None:
        """See `Integration`. A key that came with the job is forgotten, and files that the service has are removed."""
        sender = self._senders.pop(feed.id, None)
        if sender is not None:
            sender.end()
        if feed.secret_id is not None:
            shutil.rmtree(self._place_of(feed), ignore_errors=True)
            with self._database.write() as connection:
                secrets.remove_unnamed(connection, feed.org, [feed.secret_id])

    def stop(self) -> None:
        """See `Integration`."""
        for sender in self._senders.values():
            sender.end()
        self._senders.clear()

    def _key(self, feed: Feed) -> dict[str, str]:
        """The fields of the feed's secret; empty without one."""
        if find_spec("wandb") is None:
            raise ReceiverGoneError(_NOT_INSTALLED)
        if feed.secret_id is None:
            return {}
        try:
            host = self._secrets.describe(feed.org, feed.secret_id).host
            return dict(self._secrets.reveal(feed.org, feed.secret_id, purpose="wandb", host=host))
        except SecretNotFoundError as error:
            raise ReceiverGoneError(error.message) from None

    def _sender(self, feed: Feed, job: Job, key: dict[str, str], events: Sequence[Event]) -> SenderProcess:
        """The sender of a feed, once its run is there."""
        sender = self._senders.get(feed.id)
        if sender is None:
            sender = self._senders[feed.id] = self._started(feed, job, key, events)
        self._require(sender.wait_until_begun(_WAIT_SECONDS), feed, sender, events)
        url = sender.began.url if sender.began is not None else None
        if feed.url is None:
            self._show(feed, url)
        return sender

    def _started(self, feed: Feed, job: Job, key: dict[str, str], events: Sequence[Event]) -> SenderProcess:
        """A new sender, which is told all from the first row on."""
        base_url = service_of(key)
        if not key:
            shutil.rmtree(self._place_of(feed), ignore_errors=True)
        try:
            if base_url is not None:
                check_url(base_url, self._limits, param="base_url")
            return SenderProcess(
                Begin(
                    run=feed.id,
                    project=feed.settings["project"],
                    entity=feed.settings.get("entity"),
                    name=title_of(job, feed.settings.get("name")),
                    tags=tuple(feed.settings.get("tags") or ()),
                    config={"job": job.id, **shown_spec(job)},
                    folder=str(self._place_of(feed)),
                    key=key.get("api_key"),
                    base_url=base_url,
                    allowed_networks=self._limits.allowed_networks,
                )
            )
        except TunesmithError as error:
            raise NotToldError(events[-1], error.message, first=events[0]) from None
        except OSError as error:
            reason = f"The process that tells W&B cannot be started: {error.strerror}."
            raise NotToldError(events[-1], reason, first=events[0]) from None

    def _require(self, is_done: bool, feed: Feed, sender: SenderProcess, events: Sequence[Event]) -> None:
        """Come back later for what a sender has not done yet; one that is gone or stuck is removed."""
        if is_done:
            return
        if sender.is_alive and sender.silent_seconds < _STUCK_SECONDS:
            raise NotYetError(_LOOK_SECONDS)
        reason = "did not get on" if sender.is_alive else "ended"
        del self._senders[feed.id]
        sender.end()
        raise NotToldError(events[-1], sender.failed or f"The process that tells W&B {reason}.", first=events[0])

    def _hand_over(self, feed: Feed, sender: SenderProcess, through: int) -> None:
        """Give a sender the rows that it was not given yet, up to the event of a number, and ask it to say when it has
        them."""
        while True:
            with self._database.read() as connection:
                page = event_rows.of_job(
                    connection, feed.job_id, kinds=KINDS, after=sender.through, before=through + 1, limit=_PAGE
                )
                fresh = told_once(connection, page)
            if not page:
                break
            for event in fresh:
                sender.say(_row(event, sender.rows, self._picture))
                sender.rows += 1
            sender.through = page[-1].number
        sender.say(Mark(number=through))

    def _place_of(self, feed: Feed) -> Path:
        return self._folder / feed.job_id / "wandb"

    def _show(self, feed: Feed, url: str | None) -> None:
        with self._database.write() as connection:
            if url is not None:
                feeds.show(connection, feed, url)
            else:
                feeds.change(connection, feed.id, url=self._place_of(feed).as_uri())


def _row(event: Event, number: int, picture: Callable[[Event], Path | None]) -> Row | Sample:
    """The row of the history that an event becomes."""
    figures = figures_of(event)
    if figures is not None:
        return Row(number=number, values={**figures.values, STEP: figures.step}, at=figures.at)
    drawn = picture(event)
    return Sample(
        number=number,
        step=event.data["step"],
        key=f"sample/{event.data['number']}",
        prompt=event.data["prompt"],
        text=event.data["text"] or "",
        picture=str(drawn) if drawn is not None else None,
        at=event.at,
    )
