"""Hands the stored events of jobs to integrations: in order, again where it failed, and beside everything else."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunesmith.integrations import Clock, Integration, NotToldError, NotYetError, ReceiverGoneError
from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.lifecycle import TERMINAL
from tunesmith.store import events, feeds, jobs
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job

_log = logging.getLogger(__name__)

JITTER = 0.1
"""Delays vary by this share, so that receivers which come back are not met by everybody at once."""

MAX_RETRY_AFTER = 86400.0
"""Longest rest that a service can ask for, in seconds."""

_AT_ONCE = 32
_AT_ONCE_OF_ONE_ORGANISATION = 8
_AT_ONCE_TO_ONE_RECEIVER = 2

_BATCH = 200
# A feed with much to tell gives its thread up now and then.
_BATCHES_IN_A_ROW = 50
_RETRY_SECONDS = 5.0
_FAULT_SECONDS = 300.0


def jitter() -> float:
    """A factor for a delay."""
    return random.uniform(1 - JITTER, 1 + JITTER)


@dataclass(frozen=True)
class _Running:
    feed: Feed
    receiver: str
    thread: threading.Thread


class Feeder:
    """One thread for each feed that has something to tell now. What a feed has told is on record before it goes on."""

    def __init__(
        self,
        database: Database,
        integrations: Mapping[str, Integration],
        clock: Clock,
        jitter: Callable[[], float] = jitter,
    ) -> None:
        self._database = database
        self._integrations = integrations
        self._clock = clock
        self._jitter = jitter
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()

    def tick(self) -> None:
        """Begin with feeds whose time has come."""
        self._running = {id: each for id, each in self._running.items() if each.thread.is_alive()}
        with self._database.read() as connection:
            due = feeds.due(connection, tuple(self._integrations), at=self._clock())
        for feed in due:
            if len(self._running) >= _AT_ONCE or self._stopping.is_set():
                return
            integration = self._integrations[feed.kind]
            if self._has_room(feed, integration) and self._has_news(feed, integration):
                thread = threading.Thread(target=self._serve, args=(feed.id,), name=f"feed {feed.id}", daemon=True)
                self._running[feed.id] = _Running(feed, integration.receiver(feed), thread)
                thread.start()

    def join(self) -> None:
        """Wait for the feeds that are being served."""
        for each in self._running.values():
            each.thread.join()

    def stop(self) -> None:
        """End after what is being told now; the rest stays where it is."""
        self._stopping.set()
        self.join()
        for integration in self._integrations.values():
            integration.stop()

    def _has_room(self, feed: Feed, integration: Integration) -> bool:
        receivers = Counter(each.receiver for each in self._running.values())
        organisations = Counter(each.feed.org for each in self._running.values())
        return (
            feed.id not in self._running
            and receivers[integration.receiver(feed)] < _AT_ONCE_TO_ONE_RECEIVER
            and organisations[feed.org] < _AT_ONCE_OF_ONE_ORGANISATION
        )

    def _has_news(self, feed: Feed, integration: Integration) -> bool:
        job, found = self._news(feed, integration, limit=1)
        return bool(found) or job.state in TERMINAL

    def _news(self, feed: Feed, integration: Integration, limit: int) -> tuple[Job, list[Event]]:
        """A job as it stands, and what its feed has to tell."""
        with self._database.read() as connection:
            job = jobs.get(connection, feed.job_id)
            assert job is not None
            kinds = integration.kinds(feed)
            return job, events.of_job(connection, feed.job_id, after=feed.cursor, limit=limit, kinds=kinds)

    def _serve(self, id: str) -> None:
        try:
            for _ in range(_BATCHES_IN_A_ROW):
                if self._stopping.is_set() or not self._advance(id):
                    return
        except TunesmithError as error:
            _log.error("feed %s is left alone for %s s: %s", id, _RETRY_SECONDS, error.message)
            self._stopping.wait(_RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - a fault of ours must not take the other feeds along
            _log.exception("feed %s is left alone for %s s", id, _FAULT_SECONDS)
            with self._database.write() as connection:
                feeds.change(connection, id, due_at=self._clock() + _FAULT_SECONDS)

    def _advance(self, id: str) -> bool:
        """Tell of the next events. False if there is nothing more to do now."""
        with self._database.read() as connection:
            feed = feeds.get(connection, id)
        if feed is None or feed.ended_at is not None:
            return False
        integration = self._integrations[feed.kind]
        job, found = self._news(feed, integration, _BATCH)
        if not found:
            if job.state in TERMINAL:
                self._end(feed, integration)
            return False
        try:
            through = integration.tell(feed, job, found)
        except NotToldError as error:
            return self._postpone(feed, integration, error)
        except NotYetError as error:
            self._change(feed, due_at=self._clock() + error.seconds)
            return False
        except ReceiverGoneError as error:
            self._end(feed, integration, error=str(error), error_at=self._clock())
            return False
        now = self._clock()
        self._change(feed, cursor=through, failures=0, due_at=now, told_at=now, error=None)
        return True

    def _postpone(self, feed: Feed, integration: Integration, error: NotToldError) -> bool:
        """Fix the next try, or pass over what was tried often enough. True if the feed can go on at once."""
        now, event = self._clock(), error.event
        told = {"error": str(error), "error_at": now}
        if feed.failures >= len(integration.delays) or _waited_in_vain(feed, event):
            _log.warning("job %s: %s gives up event %s: %s", feed.job_id, feed.kind, event.id, error)
            integration.give_up(feed)
            self._change(feed, cursor=event.number, failures=0, due_at=now, gave_up_at=now, **told)
            return True
        delay = max(integration.delays[feed.failures] * self._jitter(), min(error.retry_after, MAX_RETRY_AFTER))
        # What comes before is dealt with.
        self._change(feed, cursor=error.first.number - 1, failures=feed.failures + 1, due_at=now + delay, **told)
        return False

    def _end(self, feed: Feed, integration: Integration, **values: object) -> None:
        self._change(feed, ended_at=self._clock(), **values)
        integration.close(feed)

    def _change(self, feed: Feed, **values: object) -> None:
        with self._database.write() as connection:
            feeds.change(connection, feed.id, **values)


def _waited_in_vain(feed: Feed, event: Event) -> bool:
    """Whether an event stood behind one that was given up: a service that was away for days gets one try of each, or
    the last of them would be told weeks later. The end of a job gets all its tries."""
    ends_the_job = event.kind == "state" and event.data.get("state") in TERMINAL
    return feed.gave_up_at is not None and event.at <= feed.gave_up_at and not ends_the_job
