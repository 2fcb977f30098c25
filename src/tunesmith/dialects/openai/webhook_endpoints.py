"""`/v1/webhook_endpoints`, as OpenAI's client uses it: receivers that are told of jobs."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Opened
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.openai import answers, ids
from tunesmith.dialects.openai.hyperparameters import Wire
from tunesmith.dialects.openai.paging import After, Limit, behind, page
from tunesmith.integrations.webhook.catalogue import EVENTS, EventName
from tunesmith.spec.errors import ConflictError, WebhookNotFoundError
from tunesmith.store.webhooks import Webhook

_OVERLAP_SECONDS = 24 * 3600.0

Events = Annotated[list[EventName], Field(min_length=1, max_length=16)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class CreateEndpoint(Wire):
    """Body of `POST /v1/webhook_endpoints`."""

    event_types: Events
    name: Name
    url: Url


class UpdateEndpoint(Wire):
    """Body of `POST /v1/webhook_endpoints/{webhook_endpoint_id}`; what is left out stays."""

    event_types: Events | None = None
    name: Name | None = None
    url: Url | None = None


class RotateSecret(Wire):
    """Body of `POST …/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class TestEndpoint(Wire):
    """Body of `POST …/test`."""

    event_type: EventName


def routes() -> APIRouter:
    """The endpoints of webhook endpoints."""
    router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=StrictRoute)
    _add_reading(router)
    _add_changing(router)
    return router


def _add_reading(router: APIRouter) -> None:
    @router.get("/webhook_endpoints", response_model=answers.Page[answers.WebhookEndpoint])
    def list_endpoints(services: Opened, limit: Limit = 20, after: After = None) -> dict[str, Any]:
        """List webhook endpoints, newest first."""
        found = services.webhooks.listed()[::-1]
        rest = behind(found, ids.webhook_id(after, param="after") if after else None, lambda webhook: webhook.id)
        if rest is None:
            raise WebhookNotFoundError(f"No webhook endpoint has the id {after!r}.", param="after")
        return page(rest, limit, _rendered)

    @router.get("/webhook_endpoints/{webhook_endpoint_id}", response_model=answers.WebhookEndpoint)
    def retrieve(services: Opened, webhook_endpoint_id: str) -> dict[str, Any]:
        """Get a webhook endpoint."""
        return _rendered(services.webhooks.get(ids.webhook_id(webhook_endpoint_id)))

    @router.get("/webhook_event_types", response_model=answers.EventTypes)
    def event_types(_services: Opened) -> dict[str, Any]:
        """List what can be told of."""
        return {"object": "list", "data": list(EVENTS)}


def _add_changing(router: APIRouter) -> None:
    @router.post("/webhook_endpoints", response_model=answers.WebhookEndpointWithSecret)
    def create(services: Opened, body: CreateEndpoint) -> dict[str, Any]:
        """Create a webhook endpoint. For owners."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        webhook, secret = services.webhooks.create(
            body.url, events=body.event_types, description=body.name, project=None
        )
        return {**_rendered(webhook), "signing_secret": secret}

    @router.post("/webhook_endpoints/{webhook_endpoint_id}", response_model=answers.WebhookEndpoint)
    def update(services: Opened, webhook_endpoint_id: str, body: UpdateEndpoint) -> dict[str, Any]:
        """Change a webhook endpoint. For owners."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        given = {"events": body.event_types, "description": body.name, "url": body.url}
        changes = {name: value for name, value in given.items() if value is not None}
        return _rendered(services.webhooks.change(ids.webhook_id(webhook_endpoint_id), changes))

    @router.delete("/webhook_endpoints/{webhook_endpoint_id}", response_model=answers.Deleted)
    def delete(services: Opened, webhook_endpoint_id: str) -> dict[str, Any]:
        """Delete a webhook endpoint. For owners."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        services.webhooks.delete(ids.webhook_id(webhook_endpoint_id))
        return {"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}

    @router.post(
        "/webhook_endpoints/{webhook_endpoint_id}/rotate_secret", response_model=answers.WebhookEndpointWithSecret
    )
    def rotate_secret(services: Opened, webhook_endpoint_id: str, body: RotateSecret) -> dict[str, Any]:
        """Replace the signing secret of a webhook endpoint. For owners."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        overlap = _OVERLAP_SECONDS if body.keep_old_secret_active_for_24_hours else 0.0
        webhook, secret = services.webhooks.rotate_secret(ids.webhook_id(webhook_endpoint_id), overlap=overlap)
        return {**_rendered(webhook), "signing_secret": secret}

    @router.post("/webhook_endpoints/{webhook_endpoint_id}/test", response_model=answers.WebhookEndpointTest)
    def test(services: Opened, webhook_endpoint_id: str, body: TestEndpoint) -> dict[str, Any]:
        """Send a sample event, once. Its `data.id` is the endpoint's own. For owners."""
        require(services.caller, Action.MANAGE_WEBHOOKS)
        id = ids.webhook_id(webhook_endpoint_id)
        _, attempts = services.webhooks.test(id, event=body.event_type)
        status = attempts[-1].status
        if status is None:
            raise ConflictError(f"The endpoint gave no answer: {attempts[-1].error}")
        return {
            "object": "webhook_endpoint.test",
            "event_type": body.event_type,
            "status_code": status,
            "success": True,
            "webhook_endpoint_id": webhook_endpoint_id,
        }


def _rendered(webhook: Webhook) -> dict[str, Any]:
    """A `webhook_endpoint`. Of its URL, only scheme and host are shown: the rest is often a password."""
    return {
        "id": ids.render_webhook_id(webhook.id),
        "object": "webhook_endpoint",
        "created_at": int(webhook.created_at),
        "updated_at": int(webhook.updated_at),
        "event_types": list(webhook.events),
        "name": webhook.description or "",
        "signing_secret_hint": None,
        "url": webhook.address,
    }
