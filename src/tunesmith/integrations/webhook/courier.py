"""Makes tries of deliveries and writes each one down."""

import logging
import threading
from collections.abc import Mapping

from sqlalchemy import Connection

from tunesmith.access.secrets import Secrets
from tunesmith.integrations import Clock
from tunesmith.integrations.webhook.sending import Outcome, Sender, Target
from tunesmith.spec.errors import UnavailableError
from tunesmith.store import feeds, webhook_deliveries, webhooks
from tunesmith.store.database import Database
from tunesmith.store.webhook_deliveries import Delivery
from tunesmith.store.webhooks import Webhook

_log = logging.getLogger(__name__)

# Each holds a thread of the server for as long as a try may last.
_AT_ONCE_BY_HAND = 4


class Courier:
    """One for all who deliver."""

    def __init__(self, database: Database, secrets: Secrets, sender: Sender, clock: Clock) -> None:
        self._database = database
        self._secrets = secrets
        self._sender = sender
        self._clock = clock
        self._by_hand = threading.BoundedSemaphore(_AT_ONCE_BY_HAND)

    def fields(self, org: str, secret_id: str) -> Mapping[str, str]:
        """The sealed part of a webhook: `url`, and, unless a job brought it, `secret` and `previous_secret`.

        Raises:
            SecretNotFoundError: it was deleted.
        """
        return self._secrets.reveal(org, secret_id, purpose="webhook", host=None)

    def target(self, org: str, secret_id: str, webhook: Webhook | None) -> Target:
        """Where a delivery goes; `webhook` is none for that of a job.

        Raises:
            SecretNotFoundError: it was deleted.
        """
        fields = self.fields(org, secret_id)
        until = webhook.previous_until if webhook else None
        names = ("secret", "previous_secret") if until is not None and self._clock() < until else ("secret",)
        return Target(fields["url"], tuple(fields[name] for name in names if name in fields))

    def attempt(self, delivery: Delivery, target: Target, *, by_hand: bool = False) -> Outcome:
        """Try once, and put the outcome on record."""
        outcome = self._sender.send(target, id=delivery.id, body=delivery.body, at=self._clock())
        with self._database.write() as connection:
            webhook_deliveries.add_attempt(
                connection,
                delivery.id,
                at=outcome.at,
                seconds=outcome.seconds,
                by_hand=by_hand,
                status=outcome.status,
                answer=outcome.answer,
                error=outcome.error,
            )
            if outcome.error is None:
                webhook_deliveries.finish(connection, delivery.id, "delivered", at=self._clock())
        return outcome

    def attempt_by_hand(self, delivery: Delivery, target: Target) -> Outcome:
        """Try once because somebody asks for it now.

        Raises:
            UnavailableError: others are waiting for receivers already.
        """
        if not self._by_hand.acquire(blocking=False):
            raise UnavailableError(
                f"{_AT_ONCE_BY_HAND} tries by hand are under way.", hint="Try again in a few seconds."
            )
        try:
            return self.attempt(delivery, target, by_hand=True)
        finally:
            self._by_hand.release()


def disable(connection: Connection, webhook_id: str, because: str, *, at: float) -> None:
    """Tell a webhook of nothing any more; what was still to be told counts as failed."""
    webhooks.change(connection, webhook_id, disabled_at=at, disabled_because=because, updated_at=at)
    feeds.end_of_webhook(connection, webhook_id, at=at)
    webhook_deliveries.finish_open(connection, "failed", at=at, webhook_id=webhook_id)
