"""The door to webhooks and to what they were told. Who may change them is decided by `access/permissions.py`."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from tunesmith.access.boundaries import require_open_project
from tunesmith.access.caller import Caller
from tunesmith.access.secrets import Secrets
from tunesmith.integrations import Clock
from tunesmith.integrations._addresses import check_url
from tunesmith.integrations.webhook import catalogue, signing
from tunesmith.integrations.webhook.courier import Courier, disable
from tunesmith.sources import Limits
from tunesmith.spec.errors import (
    ConflictError,
    DeliveryNotFoundError,
    SecretNotFoundError,
    WebhookNotFoundError,
)
from tunesmith.spec.job import IntegrationSpec
from tunesmith.store import feeds, webhook_deliveries, webhooks
from tunesmith.store.database import Database
from tunesmith.store.webhook_deliveries import Attempt, Delivery
from tunesmith.store.webhooks import Webhook

_MAX_WEBHOOKS = 100
_BY_USER = "It was switched off."


class Webhooks:
    """The webhooks of a caller's organisation. A caller who is bound to a project sees those of that project, and the
    deliveries about its jobs."""

    def __init__(
        self,
        database: Database,
        secrets: Secrets,
        courier: Courier,
        limits: Limits,
        clock: Clock,
        caller: Caller,
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._courier = courier
        self._limits = limits
        self._clock = clock
        self._caller = caller

    def create(
        self, url: str, *, events: Sequence[str], description: str | None, project: str | None
    ) -> tuple[Webhook, str]:
        """A new webhook and its signing secret, which is not shown again. It is told of jobs from now on.

        Raises:
            InvalidRequestError: the URL is malformed.
            AddressRefusedError: the URL leads to where no request may go.
            ProjectNotFoundError: the caller may not work in the project, or there is none.
            ConflictError: the project is archived, or there are too many webhooks.
        """
        address = check_url(url, self._limits, param="url")
        project = project or self._caller.project
        with self._database.read() as connection:
            self._require_room(connection)
            if project is not None:
                require_open_project(connection, self._caller, project, param="project")
        secret, now = signing.new_secret(), self._clock()
        webhook = Webhook(
            id=uuid.uuid4().hex,
            org=self._caller.org,
            project=project,
            description=description,
            address=address,
            events=tuple(dict.fromkeys(events)),
            secret_id=self._seal({"url": url, "secret": secret}),
            previous_until=None,
            created_at=now,
            updated_at=now,
            disabled_at=None,
            disabled_because=None,
            deleted_at=None,
        )
        with self._database.write() as connection:
            webhooks.add(connection, webhook)
            feeds.open_for_webhook(connection, webhook, at=now)
        return webhook, secret

    def listed(self) -> list[Webhook]:
        """Webhooks, oldest first."""
        with self._database.read() as connection:
            found = webhooks.of_org(connection, self._caller.org)
        return [webhook for webhook in found if self._may_see(webhook)]

    def get(self, id: str) -> Webhook:
        """One webhook.

        Raises:
            WebhookNotFoundError: no such webhook.
        """
        with self._database.read() as connection:
            return self._get(connection, id)

    def change(self, id: str, changes: Mapping[str, Any]) -> Webhook:
        """Other values for `url`, `events`, `description` and `enabled`, those that are given. A webhook that is
        enabled again is not told of what happened meanwhile.

        Raises:
            WebhookNotFoundError: no such webhook.
            InvalidRequestError: the URL is malformed.
            AddressRefusedError: the URL leads to where no request may go.
        """
        now = self._clock()
        webhook = self.get(id)
        values = {name: changes[name] for name in ("events", "description") if name in changes}
        if "url" in changes:
            values["address"] = check_url(changes["url"], self._limits, param="url")
            fields = {**self._courier.fields(webhook.org, webhook.secret_id), "url": changes["url"]}
            self._secrets.replace(webhook.org, webhook.secret_id, fields)
        with self._database.write() as connection:
            webhook = self._get(connection, id)
            webhooks.change(connection, id, **values, updated_at=now)
            self._switch(connection, webhook, changes.get("enabled"), now)
            webhook = self._get(connection, id)
            feeds.readdress(connection, webhook)
        return webhook

    def delete(self, id: str) -> None:
        """Tell a webhook of nothing any more, and forget its URL and secret. What it was told stays in the log.

        Raises:
            WebhookNotFoundError: no such webhook.
        """
        now = self._clock()
        with self._database.write() as connection:
            webhook = self._get(connection, id)
            disable(connection, id, "It was deleted.", at=now)
            webhooks.change(connection, id, deleted_at=now)
        self._secrets.delete(webhook.org, webhook.secret_id)

    def rotate_secret(self, id: str, *, overlap: float) -> tuple[Webhook, str]:
        """Another signing secret. For `overlap` seconds the former one signs as well.

        Raises:
            WebhookNotFoundError: no such webhook.
        """
        webhook, secret = self.get(id), signing.new_secret()
        fields = self._courier.fields(webhook.org, webhook.secret_id)
        kept = {"previous_secret": fields["secret"]} if overlap else {}
        self._secrets.replace(webhook.org, webhook.secret_id, {"url": fields["url"], "secret": secret, **kept})
        now = self._clock()
        with self._database.write() as connection:
            until = now + overlap if overlap else None
            webhooks.change(connection, id, previous_until=until, updated_at=now)
            return self._get(connection, id), secret

    def test(self, id: str, event: str = catalogue.TEST) -> tuple[Delivery, list[Attempt]]:
        """Deliver an event that tells of nothing, or a sample of another one, once, and say what came of it.

        Raises:
            WebhookNotFoundError: no such webhook.
            UnavailableError: others are waiting for receivers already.
        """
        webhook, now = self.get(id), self._clock()
        target = self._courier.target(webhook.org, webhook.secret_id, webhook)
        delivery_id = uuid.uuid4().hex
        body = catalogue.envelope(delivery_id, event, now, {"id": webhook.id})
        with self._database.write() as connection:
            delivery = webhook_deliveries.add(
                connection,
                id=delivery_id,
                org=webhook.org,
                project=webhook.project,
                webhook_id=webhook.id,
                event=event,
                body=json.dumps(body),
                created_at=now,
            )
        try:
            self._courier.attempt_by_hand(delivery, target)
        finally:
            with self._database.write() as connection:
                webhook_deliveries.finish_open(connection, "failed", at=self._clock(), id=delivery_id)
        return self.delivery(delivery_id)

    def deliveries(
        self, *, limit: int, after: str | None = None, webhook: str | None = None, job: str | None = None
    ) -> list[tuple[Delivery, list[Attempt]]]:
        """Deliveries with their tries, newest first: those behind the one with the id `after`, of the given webhook and
        job (none = of any).

        Raises:
            DeliveryNotFoundError: `after` names no delivery.
        """
        with self._database.read() as connection:
            before = self._find(connection, after, param="after").number if after is not None else None
            found = webhook_deliveries.newest_first(
                connection,
                self._caller.org,
                limit=limit,
                before=before,
                project=self._caller.project,
                webhook_id=webhook,
                job_id=job,
            )
            tries = webhook_deliveries.attempts(connection, [delivery.id for delivery in found])
        return [(delivery, [each for each in tries if each.delivery_id == delivery.id]) for delivery in found]

    def delivery(self, id: str) -> tuple[Delivery, list[Attempt]]:
        """One delivery with its tries.

        Raises:
            DeliveryNotFoundError: no such delivery.
        """
        with self._database.read() as connection:
            return self._find(connection, id, param="delivery_id"), webhook_deliveries.attempts(connection, [id])

    def redeliver(self, id: str) -> tuple[Delivery, list[Attempt]]:
        """Make a delivery once more, at once and beside the order of its job. What waits behind it goes on if it is
        taken now.

        Raises:
            DeliveryNotFoundError: no such delivery.
            ConflictError: its webhook was deleted.
            UnavailableError: others are waiting for receivers already.
        """
        with self._database.read() as connection:
            delivery = self._find(connection, id, param="delivery_id")
            feed = feeds.get(connection, delivery.feed_id) if delivery.feed_id is not None else None
            webhook = webhooks.get(connection, delivery.webhook_id) if delivery.webhook_id is not None else None
        secret_id = webhook.secret_id if webhook else feed.secret_id if feed else None
        try:
            target = self._courier.target(delivery.org, secret_id or "", webhook)
        except SecretNotFoundError:
            raise ConflictError(
                "The webhook of this delivery was deleted, and its URL with it.",
                hint="Create a webhook; it is told of what happens from then on.",
            ) from None
        outcome = self._courier.attempt_by_hand(delivery, target)
        if outcome.error is None and delivery.state == "pending" and delivery.feed_id is not None:
            with self._database.write() as connection:
                feeds.change(connection, delivery.feed_id, due_at=self._clock())
        return self.delivery(id)

    @contextmanager
    def kept(self, url: str | None, dialect: str, *, param: str) -> Iterator[tuple[IntegrationSpec, ...]]:
        """Put the URL that a job names away, for as long as the job is accepted: if the block ends with an error, it is
        forgotten. The dialect says what is told there.

        Raises:
            InvalidRequestError: the URL is malformed.
            AddressRefusedError: the URL leads to where no request may go.
        """
        if url is None:
            yield ()
            return
        settings = {"format": dialect, "address": check_url(url, self._limits, param=param)}
        secret = self._seal({"url": url})
        try:
            yield (IntegrationSpec(kind="webhook", settings=settings, secret=secret),)
        except BaseException:
            self._secrets.delete(self._caller.org, secret)
            raise

    def _seal(self, fields: Mapping[str, str]) -> str:
        return self._secrets.put_for_request(self._caller.org, "webhook", fields)

    def _switch(self, connection: Connection, webhook: Webhook, enabled: bool | None, now: float) -> None:
        if enabled is False and webhook.disabled_at is None:
            disable(connection, webhook.id, _BY_USER, at=now)
        if enabled is True and webhook.disabled_at is not None:
            webhooks.change(connection, webhook.id, disabled_at=None, disabled_because=None)
            feeds.open_for_webhook(connection, self._get(connection, webhook.id), at=now)

    def _require_room(self, connection: Connection) -> None:
        if len(webhooks.of_org(connection, self._caller.org)) >= _MAX_WEBHOOKS:
            raise ConflictError(f"There are {_MAX_WEBHOOKS} webhooks already.", hint="Delete one first.")

    def _may_see(self, webhook: Webhook) -> bool:
        return webhook.org == self._caller.org and self._caller.project in (None, webhook.project)

    def _get(self, connection: Connection, id: str) -> Webhook:
        webhook = webhooks.get(connection, id)
        if webhook is None or not self._may_see(webhook):
            raise WebhookNotFoundError(
                f"No webhook has the id {id[:100]!r}.", param="webhook_id", hint="List the webhooks to see their ids."
            )
        return webhook

    def _find(self, connection: Connection, id: str, *, param: str) -> Delivery:
        delivery = webhook_deliveries.get(connection, id)
        is_visible = delivery is not None and delivery.org == self._caller.org
        if delivery is None or not is_visible or self._caller.project not in (None, delivery.project):
            raise DeliveryNotFoundError(
                f"No delivery has the id {id[:100]!r}.", param=param, hint="List the deliveries to see their ids."
            )
        return delivery
