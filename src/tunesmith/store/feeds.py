"""Rows of feeds: how far an integration has got with the events of a job."""

import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, insert, or_, select, update

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
    secret_id: str | None
    """None where no credentials are needed."""

    cursor: int
    """Number of the last event that is dealt with."""

    failures: int
    """How often the next event could not be told."""

    due_at: float
    """Not to be served before."""

    gave_up_at: float | None
    """When an event was last given up."""

    progress: dict[str, Any]
    """What the integration has to remember, such as the id that the service gave."""

    url: str | None
    """Where a person can look at what was told."""

    told_at: float | None
    """When something was last told."""

    error: str | None
    """Why the last try failed; none once one succeeded."""

    error_at: float | None
    created_at: float
    ended_at: float | None
    """Nothing more will be told."""


def open_for_job(connection: Connection, job: Job, always: Collection[str], *, at: float) -> None:
    """Feeds of a new job: of the kinds that every job has, of what it asked for, and of the organisation's webhooks."""
    for kind in always:
        _add(connection, job, kind=kind, settings={}, secret_id=None, cursor=0, at=at)
    for each in job.submission.integrations:
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


def of_job(connection: Connection, job_id: str) -> list[Feed]:
    """The feeds of a job, but for those of the organisation's webhooks."""
    own = (feeds.c.job_id == job_id, feeds.c.webhook_id.is_(None))
    query = select(feeds).where(*own).order_by(feeds.c.created_at, feeds.c.kind, feeds.c.id)
    return [to_record(Feed, row) for row in connection.execute(query)]


def secrets_in_use(connection: Connection, ids: Collection[str]) -> set[str]:
    """Those of the secrets that feeds need."""
    return set(connection.scalars(select(feeds.c.secret_id).where(feeds.c.secret_id.in_(ids))))


def secrets_needed(connection: Connection) -> set[str]:
    """The secrets that jobs brought along for feeds that are open, and for those of webhooks as long as their log is
    kept."""
    is_needed = or_(feeds.c.ended_at.is_(None), feeds.c.kind == "webhook")
    query = select(feeds.c.secret_id).where(feeds.c.webhook_id.is_(None), feeds.c.secret_id.is_not(None), is_needed)
    return set(connection.scalars(query))


def due(connection: Connection, kinds: Collection[str], *, at: float) -> list[Feed]:
    """Open feeds of these kinds whose time has come and whose job has new events, of whatever kind, or has ended; the
    longest due first."""
    has_news = exists().where(events.c.job_id == feeds.c.job_id, events.c.number > feeds.c.cursor)
    query = (
        select(feeds)
        .join(jobs, jobs.c.id == feeds.c.job_id)
        .where(feeds.c.kind.in_(kinds), feeds.c.ended_at.is_(None), feeds.c.due_at <= at)
        .where(or_(has_news, jobs.c.state.in_(TERMINAL)))
        .order_by(feeds.c.due_at, feeds.c.id)
    )
    return [to_record(Feed, row) for row in connection.execute(query)]


def change(connection: Connection, id: str, **values: Any) -> None:
    """Set columns of a feed."""
    connection.execute(update(feeds).where(feeds.c.id == id).values(**values))


def show(connection: Connection, feed: Feed, url: str) -> None:
    """Write down where a person can look, for the feed and, unless another one was first, for its job."""
    change(connection, feed.id, url=url)
    connection.execute(
        update(jobs).where(jobs.c.id == feed.job_id, jobs.c.tracking_url.is_(None)).values(tracking_url=url)
    )


def end_of_webhook(connection: Connection, webhook_id: str, *, at: float) -> None:
    """Close all feeds of a webhook."""
    connection.execute(
        update(feeds).where(feeds.c.webhook_id == webhook_id, feeds.c.ended_at.is_(None)).values(ended_at=at)
    )


def readdress(connection: Connection, webhook: Webhook) -> None:
    """Write down that a webhook leads elsewhere now."""
    connection.execute(update(feeds).where(feeds.c.webhook_id == webhook.id).values(settings=_settings(webhook)))


def prune(connection: Connection, *, before: float) -> None:
    """Delete feeds of webhooks that ended before a time, with the credentials that their jobs brought along."""
    old = and_(feeds.c.kind == "webhook", feeds.c.ended_at < before)
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
    secret_id: str | None,
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
        progress={},
        url=None,
        told_at=None,
        error=None,
        error_at=None,
        created_at=at,
        ended_at=None,
    )
    connection.execute(insert(feeds).values(**feed.model_dump()))
