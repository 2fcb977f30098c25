"""Rows of deliveries: what each receiver was to be told, every try, and what came of it."""

from collections.abc import Collection
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import deliveries, delivery_attempts, feeds

DeliveryState = Literal["pending", "delivered", "failed", "superseded"]


class Delivery(Frozen):
    """One message to one receiver."""

    number: int
    """Order of making, over all deliveries."""

    id: str
    """Sent as `webhook-id`; the same at every try."""

    org: str
    project: str | None
    job_id: str | None
    """None for a test."""

    feed_id: str | None
    webhook_id: str | None
    """None for the webhook that a job itself named."""

    event_number: int | None
    event: str
    """What it tells of."""

    body: str
    """What is sent; the same at every try."""

    state: DeliveryState
    """`failed`: given up. `superseded`: replaced by newer progress before it could be told."""

    created_at: float
    finished_at: float | None


class Attempt(Frozen):
    """One try."""

    delivery_id: str
    number: int
    at: float
    seconds: float
    by_hand: bool
    status: int | None
    """Of the answer; none without one."""

    answer: str
    """How the answer begins."""

    error: str | None
    """Why the try does not count; none if it does."""


def add(connection: Connection, **values: Any) -> Delivery:
    """Insert a delivery that is yet to be made."""
    connection.execute(insert(deliveries).values(state="pending", **values))
    delivery = get(connection, values["id"])
    assert delivery is not None
    return delivery


def get(connection: Connection, id: str) -> Delivery | None:
    """One delivery."""
    row = connection.execute(select(deliveries).where(deliveries.c.id == id)).one_or_none()
    return to_record(Delivery, row) if row else None


def of_event(connection: Connection, feed_id: str, event_number: int) -> Delivery | None:
    """The delivery that tells a feed's receiver of an event."""
    query = select(deliveries).where(deliveries.c.feed_id == feed_id, deliveries.c.event_number == event_number)
    row = connection.execute(query).one_or_none()
    return to_record(Delivery, row) if row else None


def newest_first(
    connection: Connection,
    org: str,
    *,
    limit: int,
    before: int | None = None,
    project: str | None = None,
    webhook_id: str | None = None,
    job_id: str | None = None,
) -> list[Delivery]:
    """An organisation's deliveries, those with numbers below `before`, of the given project, webhook and job (none = of
    any)."""
    query = select(deliveries).where(deliveries.c.org == org).order_by(deliveries.c.number.desc()).limit(limit)
    for column, wanted in (("project", project), ("webhook_id", webhook_id), ("job_id", job_id)):
        if wanted is not None:
            query = query.where(deliveries.c[column] == wanted)
    if before is not None:
        query = query.where(deliveries.c.number < before)
    return [to_record(Delivery, row) for row in connection.execute(query)]


def finish(connection: Connection, id: str, state: DeliveryState, *, at: float) -> None:
    """Write down how a delivery ended."""
    connection.execute(update(deliveries).where(deliveries.c.id == id).values(state=state, finished_at=at))


def finish_open(connection: Connection, state: DeliveryState, *, at: float, **of: str) -> None:
    """Write down how the deliveries ended that are still to be made: those with such an `id`, `feed_id` or
    `webhook_id`."""
    is_open = [deliveries.c[name] == value for name, value in of.items()] + [deliveries.c.state == "pending"]
    connection.execute(update(deliveries).where(*is_open).values(state=state, finished_at=at))


def add_attempt(
    connection: Connection,
    delivery_id: str,
    *,
    at: float,
    seconds: float,
    by_hand: bool,
    status: int | None,
    answer: str,
    error: str | None,
) -> None:
    """Insert a try of a delivery."""
    count = connection.execute(
        select(func.count()).select_from(delivery_attempts).where(delivery_attempts.c.delivery_id == delivery_id)
    ).scalar_one()
    connection.execute(
        insert(delivery_attempts).values(
            delivery_id=delivery_id,
            number=count + 1,
            at=at,
            seconds=seconds,
            by_hand=by_hand,
            status=status,
            answer=answer,
            error=error,
        )
    )


def attempts(connection: Connection, delivery_ids: Collection[str]) -> list[Attempt]:
    """The tries of deliveries, each one's in order."""
    query = (
        select(delivery_attempts)
        .where(delivery_attempts.c.delivery_id.in_(delivery_ids))
        .order_by(delivery_attempts.c.delivery_id, delivery_attempts.c.number)
    )
    return [to_record(Attempt, row) for row in connection.execute(query)]


def prune(connection: Connection, *, before: float) -> None:
    """Delete deliveries that ended before a time and whose feed, if they have one, had ended by then. One that never
    ended is a test that the server did not survive."""
    served = select(feeds.c.id).where(feeds.c.ended_at.is_(None) | (feeds.c.ended_at >= before))
    is_of_open_feed = deliveries.c.feed_id.is_not(None) & deliveries.c.feed_id.in_(served)
    old = select(deliveries.c.id).where(
        func.coalesce(deliveries.c.finished_at, deliveries.c.created_at) < before, ~is_of_open_feed
    )
    connection.execute(delete(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(old)))
    connection.execute(delete(deliveries).where(deliveries.c.id.in_(old)))
