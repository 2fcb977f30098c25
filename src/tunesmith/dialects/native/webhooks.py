"""Webhooks, and what their receivers were told."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import Deleted, Listing, Page
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.webhook_wire import (
    AttemptAnswer,
    DeliveryAnswer,
    RotationRequest,
    WebhookAnswer,
    WebhookChanges,
    WebhookRequest,
    WebhookWithSecret,
)
from tunesmith.store.webhook_deliveries import Attempt, Delivery
from tunesmith.store.webhooks import Webhook


def routes() -> APIRouter:
    """The endpoints of webhooks."""
    router = APIRouter(tags=["webhooks"], route_class=StrictRoute)
    _add_webhooks(router)
    _add_deliveries(router)
    return router


def _add_webhooks(router: APIRouter) -> None:
    @router.post("/webhooks", summary="Create a webhook")
    def create(services: Opened, body: WebhookRequest) -> WebhookWithSecret:
        """Tell a receiver of jobs from now on. The answer is the only place where the signing secret is ever shown."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        webhook, secret = services.webhooks.create(
            body.url, events=body.events, description=body.description, project=body.project
        )
        return WebhookWithSecret(**to_webhook(webhook).model_dump(), secret=secret)

    @router.get("/webhooks", summary="List webhooks")
    def list_webhooks(services: Opened) -> Listing[WebhookAnswer]:
        """The organisation's webhooks, oldest first."""
        return Listing(data=[to_webhook(webhook) for webhook in services.webhooks.listed()])

    @router.get("/webhooks/{webhook_id}", summary="Get a webhook")
    def retrieve(services: Opened, webhook_id: str) -> WebhookAnswer:
        """One webhook."""
        return to_webhook(services.webhooks.get(webhook_id))

    @router.patch("/webhooks/{webhook_id}", summary="Change a webhook")
    def change(services: Opened, webhook_id: str, body: WebhookChanges) -> WebhookAnswer:
        """Another URL, other events, or switch it off and on."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        given = body.model_dump(exclude_unset=True)
        changes = {name: value for name, value in given.items() if value is not None or name == "description"}
        return to_webhook(services.webhooks.change(webhook_id, changes))

    @router.delete("/webhooks/{webhook_id}", summary="Delete a webhook")
    def delete(services: Opened, webhook_id: str) -> Deleted:
        """Tell it of nothing any more. What it was told stays in the log for its time."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        services.webhooks.delete(webhook_id)
        return Deleted(id=webhook_id)

    @router.post("/webhooks/{webhook_id}/rotate-secret", summary="Replace a webhook's signing secret")
    def rotate_secret(services: Opened, webhook_id: str, body: RotationRequest) -> WebhookWithSecret:
        """Make another signing secret; for a while both sign. The answer is the only place where it is ever shown."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        webhook, secret = services.webhooks.rotate_secret(webhook_id, overlap=body.overlap_seconds)
        return WebhookWithSecret(**to_webhook(webhook).model_dump(), secret=secret)

    @router.post("/webhooks/{webhook_id}/test", summary="Test a webhook")
    def test(services: Opened, webhook_id: str) -> DeliveryAnswer:
        """Post a message that tells of nothing, once, and say what the receiver answered."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        return to_delivery(*services.webhooks.test(webhook_id))


def _add_deliveries(router: APIRouter) -> None:
    @router.get("/webhook-deliveries", summary="List deliveries")
    def deliveries(
        services: Opened,
        limit: Limit = 100,
        after: After = None,
        webhook: Annotated[str | None, Query(description="Only those of the webhook with this id.")] = None,
        job: Annotated[str | None, Query(description="Only those about the job with this id.")] = None,
    ) -> Page[DeliveryAnswer]:
        """What receivers were told, newest first: those of webhooks, and those of jobs with a `webhook_url`."""
        found = services.webhooks.deliveries(limit=limit + 1, after=after, webhook=webhook, job=job)
        return page(found, limit, lambda each: to_delivery(*each))

    @router.get("/webhook-deliveries/{delivery_id}", summary="Get a delivery")
    def retrieve(services: Opened, delivery_id: str) -> DeliveryAnswer:
        """One delivery with all its tries."""
        return to_delivery(*services.webhooks.delivery(delivery_id))

    @router.post("/webhook-deliveries/{delivery_id}/redeliver", summary="Deliver again")
    def redeliver(services: Opened, delivery_id: str) -> DeliveryAnswer:
        """Post the same message once more, now, with the same id."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        return to_delivery(*services.webhooks.redeliver(delivery_id))


def to_webhook(webhook: Webhook) -> WebhookAnswer:
    """A webhook without its URL and secret."""
    return WebhookAnswer(
        id=webhook.id,
        address=webhook.address,
        events=list(webhook.events),
        description=webhook.description,
        project=webhook.project,
        enabled=webhook.disabled_at is None,
        disabled_because=webhook.disabled_because,
        previous_until=webhook.previous_until,
        created_at=webhook.created_at,
        updated_at=webhook.updated_at,
    )


def to_delivery(delivery: Delivery, attempts: Sequence[Attempt]) -> DeliveryAnswer:
    """A delivery with its tries."""
    return DeliveryAnswer(
        id=delivery.id,
        webhook=delivery.webhook_id,
        job=delivery.job_id,
        event=delivery.event,
        body=delivery.body,
        state=delivery.state,
        created_at=delivery.created_at,
        finished_at=delivery.finished_at,
        attempts=[AttemptAnswer(**each.model_dump(exclude={"delivery_id", "number"})) for each in attempts],
    )
