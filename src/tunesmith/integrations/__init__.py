"""Integrations tell other services of jobs. One module or folder a kind; its name is the key.

An integration offers:

- `create(connections: Connections) -> Integration`;
- `FOR_EVERY_JOB`: whether every job has it, or only one that asks for it;
- if a job can ask for it by name, `checked(wish, place) -> Wish`, the wish as it is kept, or why it cannot be had, and
  `notes(spec) -> list[str]`, what the user should know of it.

It is fed by `_feeder.Feeder` from the stored events of a job, in their order, and each pair of job and integration, a
`Feed`, has a cursor of its own: what cannot be told now is told later, and nothing waits for it but the rest of its own
feed. `docs/integrations.md` tells users what there is.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunesmith.access.secrets import Secrets
from tunesmith.sources import Limits
from tunesmith.sources.hub.upload import FileToPush
from tunesmith.spec.receipt import Receipt
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel
from tunesmith.store.secrets import Secret

Render = Callable[[str, Job, Event], dict[str, Any] | None]
"""What the dialect of this name says to a job's own webhook about an event; none = nothing."""

Clock = Callable[[], float]
"""Seconds since the epoch."""

DAY_SECONDS = 24 * 3600.0

TRACKER_DELAYS = (5.0, 10.0, *[30.0] * int(3 * DAY_SECONDS / 30))
"""Seconds from each failure to the next try, for services that belong to the user: soon after they are back, and for
three days."""


@dataclass(frozen=True)
class Results:
    """What a job leaves beside its events."""

    receipt: Callable[[Job], Receipt | None]
    """The mask receipt; none where no rows were prepared."""

    files: Callable[[ProducedModel], list[FileToPush]]
    """The files of a produced model, as they may go elsewhere."""

    picture: Callable[[Event], Path | None]
    """The picture (PNG) that an event `sampled` tells of; none for a text, or if it is gone."""


@dataclass(frozen=True)
class Connections:
    """What integrations are made with."""

    database: Database
    secrets: Secrets
    limits: Limits
    render: Render
    results: Results
    folder: Path
    """What integrations keep on this machine: a folder for each job."""

    hub_url: str | None
    clock: Clock
    ending: threading.Event
    """Set when the server is about to end: long transfers break off."""


@dataclass(frozen=True)
class Wish:
    """An integration that a job asks for."""

    kind: str
    settings: Mapping[str, Any]
    """Nothing in it is secret."""

    param: str
    """Where the request asks for it."""

    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Those that the request brought along."""

    host: str | None = None
    """The one that the credentials are for, as `access.hosts` writes it; none = that of their purpose."""

    secret: str | None = None
    """Id or name of stored credentials, instead."""


@dataclass(frozen=True)
class Place:
    """What this server can do for a wish."""

    limits: Limits
    hub_url: str | None
    named: Callable[[str], Secret | None]
    """The organisation's secret of a name."""


class NotToldError(Exception):
    """The service could not be told now. The feeder tries again, up to its schedule's end."""

    def __init__(self, event: Event, reason: str, *, first: Event | None = None, retry_after: float = 0.0) -> None:
        """`event` is the last one of those that have to be told again, and are passed over if it never succeeds;
        `first` is the first of them (none = it is the only one). `reason` holds nothing secret. `retry_after` are the
        seconds for which the service asks to be left alone."""
        super().__init__(reason)
        self.event = event
        self.first = first or event
        self.retry_after = retry_after


class NotYetError(Exception):
    """Telling is under way elsewhere. The feeder asks again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked again in {seconds:g} s")
        self.seconds = seconds


class ReceiverGoneError(Exception):
    """The service will never want to be told again. The feed ends; `reason` holds nothing secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Integration(Protocol):
    """Tells one kind of service."""

    @property
    def delays(self) -> Sequence[float]:
        """Seconds from each failure to the next try; after the last one, what could not be told is given up."""
        ...

    def kinds(self, feed: Feed) -> Collection[str]:
        """The kinds of events that a feed needs. The one that ends a job, `state`, is always among them."""
        ...

    def receiver(self, feed: Feed) -> str:
        """Whom a feed leads to: feeds that share a receiver share the few threads that it may hold."""
        ...

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """Tell of events, the first ones that are not dealt with. Returns the number of the last one that now is.

        A call may be repeated with the same events when the server died meanwhile, so what the service sees of a
        repetition is either nothing or recognisably the same. It ends within some ten seconds, or soon after the
        server is asked to end.

        Raises:
            NotToldError: not now.
            NotYetError: it is being done.
            ReceiverGoneError: never again.
        """
        ...

    def give_up(self, feed: Feed) -> None:
        """Write down that what could not be told will not be."""
        ...

    def close(self, feed: Feed) -> None:
        """Let go of what the feed held; it has ended."""
        ...

    def stop(self) -> None:
        """Let go of everything; the server ends, and another one will go on."""
        ...
