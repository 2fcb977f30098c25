"""Rows of jobs."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Select, Text, and_, cast, func, insert, or_, select, update

from tunesmith.spec.errors import ErrorInfo
from tunesmith.spec.exactness import Resume
from tunesmith.spec.job import Frozen, JobSpec, Submission
from tunesmith.spec.lifecycle import ACTIVE, TERMINAL, State
from tunesmith.store.rows import to_record
from tunesmith.store.tables import jobs

ALL_STATES = tuple(State)

WITHOUT_LABELS: Mapping[str, str] = MappingProxyType({})
"""Asks for jobs that have no label at all; any other empty mapping asks for nothing."""

_TURN = (jobs.c.priority.desc(), jobs.c.number)


class Job(Frozen):
    """A job as it stands."""

    number: int
    """Order of arrival."""

    id: str
    org: str
    """Id of the organisation that owns it."""

    project: str | None
    created_by: str | None
    """The user, where the credential named one."""

    state: State
    priority: int
    priority_changed_at: float | None
    spec: JobSpec
    submission: Submission
    created_at: float
    started_at: float | None
    finished_at: float | None
    step: int
    total_steps: int | None
    trained_tokens: int
    estimated_finish: float | None
    error: ErrorInfo | None
    model_id: str | None
    result_file_id: str | None
    attempts: int
    fruitless_losses: int
    resumes: tuple[Resume, ...] = ()
    """How each later attempt went on, in order."""

    tracking_url: str | None = None
    """Where a person can follow it in a tracker."""


def add(
    connection: Connection,
    id: str,
    spec: JobSpec,
    submission: Submission,
    *,
    org: str,
    created_by: str | None,
    state: State,
    at: float,
) -> Job:
    """Insert a job."""
    connection.execute(
        insert(jobs).values(
            id=id,
            org=org,
            project=submission.project,
            created_by=created_by,
            state=state,
            priority=submission.priority,
            idempotency_key=submission.idempotency_key,
            dialect=submission.dialect,
            name=submission.name,
            labels=submission.labels,
            spec=spec.model_dump(mode="json"),
            submission=submission.model_dump(mode="json"),
            created_at=at,
        )
    )
    job = get(connection, id)
    assert job is not None
    return job


def get(connection: Connection, id: str) -> Job | None:
    """One job."""
    row = connection.execute(select(jobs).where(jobs.c.id == id)).one_or_none()
    return to_record(Job, row) if row else None


def change(connection: Connection, id: str, **values: Any) -> Job:
    """Set columns of a job."""
    connection.execute(update(jobs).where(jobs.c.id == id).values(**values))
    job = get(connection, id)
    assert job is not None
    return job


def by_idempotency_key(connection: Connection, org: str, key: str) -> Job | None:
    """The job that an earlier submission with this key made."""
    row = connection.execute(select(jobs).where(jobs.c.org == org, jobs.c.idempotency_key == key)).one_or_none()
    return to_record(Job, row) if row else None


def by_id_prefix(connection: Connection, org: str, prefix: str) -> list[Job]:
    """An organisation's jobs whose id begins with these hexadecimal digits."""
    begins_so = (jobs.c.id >= prefix, jobs.c.id < f"{prefix}g")  # unlike LIKE, this reads the index
    query = select(jobs).where(jobs.c.org == org, *begins_so).order_by(jobs.c.number)
    return [to_record(Job, row) for row in connection.execute(query)]


def newest_first(
    connection: Connection,
    org: str,
    *,
    limit: int | None,
    offset: int = 0,
    before: int | None = None,
    project: str | None = None,
    states: Collection[State] = ALL_STATES,
    labels: Mapping[str, str] = {},
) -> list[Job]:
    """An organisation's jobs in falling order of arrival: those before the given number, of the given project (none =
    of any), in any of the states, with the given labels."""
    query = _owned(select(jobs), org, project).order_by(jobs.c.number.desc()).limit(limit).offset(offset)
    query = query.where(jobs.c.state.in_(states))
    if before is not None:
        query = query.where(jobs.c.number < before)
    if labels is WITHOUT_LABELS:
        query = query.where(cast(jobs.c.labels, Text) == "{}")
    for key, value in labels.items():
        # A path such as `$."key"` cannot name every key; the pairs of the object can be compared with any.
        pair = func.json_each(jobs.c.labels).table_valued("key", "value")
        query = query.where(select(pair.c.key).where(pair.c.key == key, pair.c.value == value).exists())
    return [to_record(Job, row) for row in connection.execute(query)]


def count(connection: Connection, org: str, *, project: str | None = None) -> int:
    """How many jobs an organisation has, of the given project (none = of any)."""
    number: int = connection.execute(_owned(select(func.count()).select_from(jobs), org, project)).scalar_one()
    return number


def in_state(connection: Connection, *states: State, limit: int | None = None) -> list[Job]:
    """Jobs of all organisations in any of the states, in the order in which they get a device."""
    query = select(jobs).where(jobs.c.state.in_(states)).order_by(*_TURN).limit(limit)
    return [to_record(Job, row) for row in connection.execute(query)]


def using_model(connection: Connection, org: str, id: str) -> list[Job]:
    """An organisation's jobs that have not ended and train the given model, or begin with it."""
    unfinished = in_state(connection, *(state for state in State if state not in TERMINAL))
    return [job for job in unfinished if job.org == org and id in _models_of(job)]


def waiting_in_front(connection: Connection, job: Job) -> int:
    """How many jobs of whomever get a device before this one does."""
    earlier = or_(jobs.c.priority > job.priority, and_(jobs.c.priority == job.priority, jobs.c.number < job.number))
    waiting = jobs.c.state.in_((State.VALIDATING, State.QUEUED))
    return connection.execute(select(func.count()).select_from(jobs).where(waiting, earlier)).scalar_one()


def _models_of(job: Job) -> tuple[str, ...]:
    start = job.spec.init_from
    return (job.spec.model.base, start.id) if start else (job.spec.model.base,)


def _owned(query: Select[Any], org: str, project: str | None) -> Select[Any]:
    query = query.where(jobs.c.org == org)
    return query if project is None else query.where(jobs.c.project == project)


def next_queued(connection: Connection) -> Job | None:
    """The job whose turn it is."""
    query = select(jobs).where(jobs.c.state == State.QUEUED).order_by(*_TURN).limit(1)
    row = connection.execute(query).one_or_none()
    return to_record(Job, row) if row else None


def count_active(connection: Connection) -> int:
    """Number of jobs that hold a device."""
    query = select(func.count()).select_from(jobs).where(jobs.c.state.in_(ACTIVE))
    return connection.execute(query).scalar_one()
