"""Bodies of requests and answers about webhooks. Times are seconds since 1970, UTC."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from tunesmith.dialects.native.wire import Text
from tunesmith.integrations.webhook.catalogue import ENDS, EventName
from tunesmith.spec.frozen import Frozen
from tunesmith.store.webhook_deliveries import DeliveryState

Events = Annotated[list[EventName], Field(min_length=1, max_length=16)]
Description = Annotated[str, StringConstraints(max_length=512)]

MAX_OVERLAP_SECONDS = 7 * 24 * 3600


class WebhookRequest(Frozen):
    """A receiver to be told of jobs."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [{"url": "https://hooks.example.org/tunesmith"}]}
    )

    url: Text
    """Where messages are posted. Answers show its scheme and host only."""

    events: Events = Field(default_factory=lambda: list(ENDS))
    """What to tell of; the ends of jobs unless said."""

    description: Description | None = None
    """What it is for."""

    project: Text | None = None
    """Id of the only project whose jobs to tell of; none = all of the organisation."""


class WebhookChanges(Frozen):
    """What is to be different. What is left out stays; so does what is null, but for the description."""

    model_config = ConfigDict(strict=True)

    url: Text | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = None
    """Whether it is told of anything. One that is enabled again is not told of what happened meanwhile."""


class RotationRequest(Frozen):
    """Another signing secret."""

    model_config = ConfigDict(strict=True)

    overlap_seconds: int = Field(default=24 * 3600, ge=0, le=MAX_OVERLAP_SECONDS)
    """For how long the former secret signs as well."""


class WebhookAnswer(Frozen):
    """A webhook."""

    id: str
    address: str
    """Scheme and host of its URL."""

    events: list[str]
    description: str | None
    project: str | None
    enabled: bool
    disabled_because: str | None
    previous_until: float | None
    """Until then the former signing secret signs as well."""

    created_at: float
    updated_at: float


class WebhookWithSecret(WebhookAnswer):
    """A webhook whose signing secret was just made."""

    secret: str = Field(examples=["whsec_…"])
    """What messages are signed with. It is not shown again."""


class AttemptAnswer(Frozen):
    """One try of a delivery."""

    at: float
    seconds: float
    by_hand: bool
    status: int | None
    """Of the receiver's answer; none without one."""

    answer: str
    """Its first 1,000 characters."""

    error: str | None
    """Why the try does not count; none if it does."""


class DeliveryAnswer(Frozen):
    """One message to one receiver."""

    id: str
    """Sent as `webhook-id`."""

    webhook: str | None
    """None for the `webhook_url` of a job."""

    job: str | None
    """None for a test."""

    event: str
    body: str
    """What is sent."""

    state: DeliveryState
    created_at: float
    finished_at: float | None
    attempts: list[AttemptAnswer]
