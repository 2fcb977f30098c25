"""A job's events and metrics: as pages, and as streams."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from tunesmith.dialects import Opened, Services
from tunesmith.dialects._wire import StrictRoute
from tunesmith.dialects.native.answers import NOT_ONLY_JSON, EventAnswer, MetricsAnswer, Page
from tunesmith.dialects.native.paging import After, Limit, page
from tunesmith.dialects.native.render import to_event
from tunesmith.dialects.native.streaming import Batch, follow
from tunesmith.spec.events import Evaluated, Metrics
from tunesmith.spec.lifecycle import TERMINAL
from tunesmith.store.events import Event

_BATCH = 200
_METRICS = ("metrics", "evaluated")

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", max_length=128, description="Go on behind this event; wins over `after`."),
]

Point = TypeVar("Point")


class EventReader:
    """Goes through a job's events, waiting at the end for more."""

    def __init__(self, services: Services, job_id: str, after: str | None, kinds: Sequence[str] | None) -> None:
        """Raises JobNotFoundError or InvalidRequestError where there is no such job or event."""
        self._jobs = services.jobs
        self._job_id = job_id
        self._after = after
        self._kinds = kinds
        self._jobs.events(job_id, limit=1, after=after)

    def look(self) -> Batch:
        """The next events."""
        # The job first: once it has ended, the events read afterwards are complete.
        state = self._jobs.get(self._job_id).state
        found = self._jobs.events(self._job_id, limit=_BATCH, after=self._after)
        if found:
            self._after = found[-1].id
        is_over = state in TERMINAL and len(found) < _BATCH
        wanted = [event for event in found if self._kinds is None or event.kind in self._kinds]
        return Batch(events=tuple(_sent(event) for event in wanted), state=state if is_over else None)


def _all_events(services: Opened, job_id: str, after: After = None, last_event_id: LastEventId = None) -> EventReader:
    return EventReader(services, job_id, last_event_id or after, None)


def _metrics_events(
    services: Opened, job_id: str, after: After = None, last_event_id: LastEventId = None
) -> EventReader:
    return EventReader(services, job_id, last_event_id or after, _METRICS)


def routes() -> APIRouter:
    """The endpoints of events and metrics."""
    router = APIRouter(prefix="/jobs/{job_id}", tags=["events and metrics"], route_class=StrictRoute)

    @router.get("/events", summary="List events")
    def list_events(services: Opened, job_id: str, limit: Limit = 1000, after: After = None) -> Page[EventAnswer]:
        """A job's events, oldest first."""
        return page(services.jobs.events(job_id, limit=limit + 1, after=after), limit, to_event)

    @router.get("/events/stream", summary="Follow events", response_class=EventSourceResponse, responses=NOT_ONLY_JSON)
    async def stream_events(
        services: Opened, reader: Annotated[EventReader, Depends(_all_events)]
    ) -> AsyncIterator[ServerSentEvent]:
        """A job's events as they happen, as server-sent events: `event` is the kind, `id` the event's id, `data` the
        event. After the last one comes an `end` with the job's state; close the stream then."""
        async for event in follow(reader.look, services.ending):
            yield event

    @router.get("/metrics", summary="Get metrics")
    def metrics(
        services: Opened,
        job_id: str,
        limit: Annotated[int, Query(ge=2, le=100_000, description="Most points of each curve.")] = 1000,
    ) -> MetricsAnswer:
        """The curves of training and validation."""
        training: dict[int, Metrics] = {}
        validation: dict[int, Evaluated] = {}
        for event in _every_event(services, job_id):
            if event.kind == "metrics":
                training[event.data["step"]] = Metrics.model_validate({"at": event.at, **event.data})
            elif event.kind == "evaluated":
                validation[event.data["step"]] = Evaluated.model_validate({"at": event.at, **event.data})
        return MetricsAnswer(
            training=thinned([training[step] for step in sorted(training)], limit),
            training_count=len(training),
            validation=thinned([validation[step] for step in sorted(validation)], limit),
            validation_count=len(validation),
        )

    @router.get(
        "/metrics/stream", summary="Follow metrics", response_class=EventSourceResponse, responses=NOT_ONLY_JSON
    )
    async def stream_metrics(
        services: Opened, reader: Annotated[EventReader, Depends(_metrics_events)]
    ) -> AsyncIterator[ServerSentEvent]:
        """The events of the kinds `metrics` and `evaluated` as they happen, in the form of the stream of all events."""
        async for event in follow(reader.look, services.ending):
            yield event

    return router


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` of the points, evenly chosen, with the first and the last one."""
    if len(points) <= limit:
        return list(points)
    return [points[round(index * (len(points) - 1) / (limit - 1))] for index in range(limit)]


def _every_event(services: Services, job_id: str) -> Iterator[Event]:
    after: str | None = None
    while True:
        found = services.jobs.events(job_id, limit=1000, after=after)
        yield from found
        if len(found) < 1000:
            return
        after = found[-1].id


def _sent(event: Event) -> ServerSentEvent:
    return ServerSentEvent(event=event.kind, id=event.id, data=to_event(event))
