"""Rows of feeds: how far an integration has got with the events of a job."""

import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from tunesmith.spec.job import Frozen
from tunesmith.spec.lifecycle import TERMINAL
from tunesmith.store import events as event_rows
from tunesmith.store import jobs as job_rows
from tunesmith.store import secrets, webhooks
from tunesmith.store.jobs import Job
from tunesmith.store.rows import to_record
from tunesmith.store.tables import events, feeds, jobs
from tunesmith.store.webhooks import Webhook


class Feed(Frozen):
    """One integration of one job."""

    id: str
    job_id: str
    org: str
    kind: str
    """Name of the integration."""

    webhook_id: str | None
    """The organisation's webhook that it serves; none for what the job itself asked for."""

    settings: dict[str, Any]
    secret_id: str
    cursor: int
    """Number of the last event that is dealt with."""

    failures: int
    """How often the next event could not be told."""

    due_at: float
    """Not to be served before."""

    gave_up_at: float | None
    """When an event was last given up."""

    created_at: float
    ended_at: float | None
    """Nothing more will be told."""


def open_for_job(connection: Connection, job: Job, kinds: Collection[str], *, at: float) -> None:
    """Feeds of a new job: of what it asked for, as far as its kind is among those given, and of the organisation's
    webhooks."""
    for each in job.submission.integrations:
        if each.kind in kinds and each.secret is not None:
            _add(connection, job, kind=each.kind, settings=each.settings, secret_id=each.secret, cursor=0, at=at)
    for webhook in webhooks.enabled(connection, job.org):
        if webhook.project in (None, job.project):
            _add_for_webhook(connection, job, webhook, cursor=0, at=at)


def open_for_webhook(connection: Connection, webhook: Webhook, *, at: float) -> None:
    """Feeds of a webhook for all jobs that have not ended. It is told of what happens from now on."""
    open_states = [state for state in job_rows.ALL_STATES if state not in TERMINAL]
    found = job_rows.newest_first(connection, webhook.org, limit=None, project=webhook.project, states=open_states)
    for job in found:
        newest = event_rows.of_job(connection, job.id, limit=1, newest_first=True)
        _add_for_webhook(connection, job, webhook, cursor=newest[0].number if newest else 0, at=at)


def get(connection: Connection, id: str) -> Feed | None:
    """One feed."""
    row = connection.execute(select(feeds).where(feeds.c.id == id)).one_or_none()
    return to_record(Feed, row) if row else None


def due(connection: Connection, *, at: float) -> list[Feed]:
    """Open feeds whose time has come and whose job has new events, of whatever kind, or has ended; the longest due
    first."""
    has_news = exists().where(events.c.job_id == feeds.c.job_id, events.c.number > feeds.c.cursor)
    query = (
        select(feeds)
        .join(jobs, jobs.c.id == feeds.c.job_id)
        .where(feeds.c.ended_at.is_(None), feeds.c.due_at <= at, or_(has_news, jobs.c.state.in_(TERMINAL)))
        .order_by(feeds.c.due_at, feeds.c.id)
    )
    return [to_record(Feed, row) for row in connection.execute(query)]


def change(connection: Connection, id: str, **values: Any) -> None:
    """Set columns of a feed."""
    connection.execute(update(feeds).where(feeds.c.id == id).values(**values))


def end_of_webhook(connection: Connection, webhook_id: str, *, at: float) -> None:
    """Close all feeds of a webhook."""
    connection.execute(
        update(feeds).where(feeds.c.webhook_id == webhook_id, feeds.c.ended_at.is_(None)).values(ended_at=at)
    )


def readdress(connection: Connection, webhook: Webhook) -> None:
    """Write down that a webhook leads elsewhere now."""
    connection.execute(update(feeds).where(feeds.c.webhook_id == webhook.id).values(settings=_settings(webhook)))


def prune(connection: Connection, *, before: float) -> None:
    """Delete feeds that ended before a time, with the credentials that their jobs brought along."""
    old = feeds.c.ended_at < before
    own = select(feeds.c.org, feeds.c.secret_id).where(old, feeds.c.webhook_id.is_(None))
    for org, secret_id in connection.execute(own).all():
        secrets.remove_unnamed(connection, org, [secret_id])
    connection.execute(delete(feeds).where(old))


def _add_for_webhook(connection: Connection, job: Job, webhook: Webhook, *, cursor: int, at: float) -> None:
    settings = _settings(webhook)
    _add(
        connection,
        job,
        kind="webhook",
        settings=settings,
        secret_id=webhook.secret_id,
        cursor=cursor,
        at=at,
        webhook_id=webhook.id,
    )


def _settings(webhook: Webhook) -> dict[str, Any]:
    return {"address": webhook.address}


def _add(
    connection: Connection,
    job: Job,
    *,
    kind: str,
    settings: dict[str, Any],
    secret_id: str,
    cursor: int,
    at: float,
    webhook_id: str | None = None,
) -> None:
    feed = Feed(
        id=uuid.uuid4().hex,
        job_id=job.id,
        org=job.org,
        kind=kind,
        webhook_id=webhook_id,
        settings=settings,
        secret_id=secret_id,
        cursor=cursor,
        failures=0,
        due_at=at,
        gave_up_at=None,
        created_at=at,
        ended_at=None,
    )
    connection.execute(insert(feeds).values(**feed.model_dump()))
