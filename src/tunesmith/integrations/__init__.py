"""Integrations tell other services of jobs. One module or folder a kind; its name is the key.

An integration offers `create(connections: Connections) -> Integration`. It is fed by `_feeder.Feeder` from the stored
events of a job, in their order, and each pair of job and integration, a `Feed`, has a cursor of its own: what cannot be
told now is told later, and nothing waits for it but the rest of its own feed. `docs/integrations.md` tells users what
there is.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tunesmith.access.secrets import Secrets
from tunesmith.sources import Limits
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job

Render = Callable[[str, Job, Event], dict[str, Any] | None]
"""What the dialect of this name says to a job's own webhook about an event; none = nothing."""

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True)
class Connections:
    """What integrations are made with."""

    database: Database
    secrets: Secrets
    limits: Limits
    render: Render
    clock: Clock


class NotToldError(Exception):
    """The service could not be told now. The feeder tries again, up to its schedule's end."""

    def __init__(self, event: Event, reason: str, *, retry_after: float = 0.0) -> None:
        """`event` is the last one of those that have to be told again, and are passed over if it never succeeds.
        `reason` holds nothing secret. `retry_after` are the seconds for which the service asks to be left alone."""
        super().__init__(reason)
        self.event = event
        self.retry_after = retry_after


class ReceiverGoneError(Exception):
    """The service will never want to be told again. The feed ends."""


class Integration(Protocol):
    """Tells one kind of service."""

    def kinds(self, feed: Feed) -> Collection[str]:
        """The kinds of events that a feed needs. The one that ends a job, `state`, is always among them."""
        ...

    def receiver(self, feed: Feed) -> str:
        """Whom a feed leads to: feeds that share a receiver share the few threads that it may hold."""
        ...

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """Tell of events, the first ones that are not dealt with. Returns the number of the last one that now is.

        A call may be repeated with the same events when the server died meanwhile, so what the service sees of a
        repetition is either nothing or recognisably the same. It ends within some ten seconds.

        Raises:
            NotToldError: not now.
            ReceiverGoneError: never again.
        """
        ...

    def give_up(self, feed: Feed) -> None:
        """Write down that what could not be told will not be."""
        ...
