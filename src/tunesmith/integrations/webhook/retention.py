"""Forgets what was delivered long ago."""

import time

from tunesmith.integrations import Clock
from tunesmith.store import feeds, webhook_deliveries, webhooks
from tunesmith.store.database import Database

_LOOK_SECONDS = 3600.0
_DAY_SECONDS = 24 * 3600.0


class Retention:
    """Looks once an hour for deliveries, and for the feeds and webhooks behind them, that ended so many days ago."""

    def __init__(self, database: Database, days: int, clock: Clock) -> None:
        self._database = database
        self._days = days
        self._clock = clock
        self._next = 0.0

    def tick(self) -> None:
        """Delete what is old, if it is time to look."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_SECONDS
        before = self._clock() - self._days * _DAY_SECONDS
        with self._database.write() as connection:
            webhook_deliveries.prune(connection, before=before)
            feeds.prune(connection, before=before)
            webhooks.prune(connection, before=before)
