"""Tells receivers of jobs by HTTP POST: those of an organisation's webhooks, and those that a job itself named."""

import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from tunesmith.integrations import Connections, NotToldError, ReceiverGoneError
from tunesmith.integrations.webhook import catalogue
from tunesmith.integrations.webhook.courier import Courier, disable
from tunesmith.integrations.webhook.sending import Sender, Target
from tunesmith.spec.errors import SecretNotFoundError
from tunesmith.store import webhook_deliveries, webhooks
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job
from tunesmith.store.webhook_deliveries import Delivery
from tunesmith.store.webhooks import Webhook

FOR_EVERY_JOB = False

DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds from each failure to the next try: the schedule of Standard Webhooks, ten tries in about three days."""

_PROGRESS = "metrics"


def create(connections: Connections) -> "WebhookIntegration":
    """The integration."""
    return WebhookIntegration(connections)


class WebhookIntegration:
    """Makes one delivery at a time for each feed. A delivery is on record before it is sent, so that its id and its
    body are the same at every try, also after a crash."""

    delays = DELAYS

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._render = connections.render
        self._clock = connections.clock
        self._courier = Courier(
            connections.database, connections.secrets, Sender(connections.limits), connections.clock
        )

    def kinds(self, feed: Feed) -> Collection[str]:
        """See `Integration`."""
        return catalogue.KINDS if feed.webhook_id is not None else ("state", _PROGRESS)

    def receiver(self, feed: Feed) -> str:
        """See `Integration`."""
        return str(feed.settings["address"])

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """See `Integration`."""
        webhook, target = self._opened(feed)
        told = [(event, body) for event in events if (body := self._body(feed, webhook, job, event)) is not None]
        while len(told) > 1 and told[0][0].kind == told[1][0].kind == _PROGRESS:
            told.pop(0)  # newer progress stands for it
        if not told:
            return events[-1].number
        event, body = told[0]
        delivery = self._begin(feed, job, event, body)
        if delivery.state == "pending":
            self._deliver(feed, event, delivery, target)
        return event.number

    def give_up(self, feed: Feed) -> None:
        """See `Integration`."""
        with self._database.write() as connection:
            webhook_deliveries.finish_open(connection, "failed", at=self._clock(), feed_id=feed.id)

    def close(self, _feed: Feed) -> None:
        """See `Integration`. The URL stays as long as the log: somebody may ask for a delivery again."""

    def stop(self) -> None:
        """See `Integration`. There is nothing to let go of."""

    def _opened(self, feed: Feed) -> tuple[Webhook | None, Target]:
        """The organisation's webhook, if it is one, and where it leads.

        Raises:
            ReceiverGoneError: it was deleted or disabled.
        """
        with self._database.read() as connection:
            webhook = webhooks.get(connection, feed.webhook_id) if feed.webhook_id is not None else None
        if feed.webhook_id is not None and (webhook is None or webhook.disabled_at is not None):
            raise ReceiverGoneError("The webhook was deleted or disabled.")
        try:
            return webhook, self._courier.target(feed.org, feed.secret_id or "", webhook)
        except SecretNotFoundError as error:
            raise ReceiverGoneError(error.message) from None

    def _body(self, feed: Feed, webhook: Webhook | None, job: Job, event: Event) -> dict[str, Any] | None:
        if webhook is None:
            return self._render(feed.settings["format"], job, event)
        body = catalogue.render(event)
        return body if body is not None and body["type"] in webhook.events else None

    def _begin(self, feed: Feed, job: Job, event: Event, body: dict[str, Any]) -> Delivery:
        """The delivery about an event, made unless it is there already."""
        with self._database.write() as connection:
            found = webhook_deliveries.of_event(connection, feed.id, event.number)
            if found is not None:
                return found
            webhook_deliveries.finish_open(connection, "superseded", at=self._clock(), feed_id=feed.id)
            return webhook_deliveries.add(
                connection,
                id=uuid.uuid4().hex,
                org=job.org,
                project=job.project,
                job_id=job.id,
                feed_id=feed.id,
                webhook_id=feed.webhook_id,
                event_number=event.number,
                event=body["type"] if feed.webhook_id is not None else event.data.get("state", event.kind),
                body=json.dumps(body, ensure_ascii=False),
                created_at=self._clock(),
            )

    def _deliver(self, feed: Feed, event: Event, delivery: Delivery, target: Target) -> None:
        outcome = self._courier.attempt(delivery, target)
        if outcome.error is None:
            return
        if not outcome.is_gone:
            raise NotToldError(event, outcome.error, retry_after=outcome.retry_after)
        with self._database.write() as connection:
            now = self._clock()
            webhook_deliveries.finish(connection, delivery.id, "failed", at=now)
            if feed.webhook_id is not None:
                disable(connection, feed.webhook_id, "The receiver answered 410: it is gone.", at=now)
        raise ReceiverGoneError("The receiver answered 410: it is gone.")
