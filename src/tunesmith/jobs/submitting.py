"""What accepting a job comes to, inside the transaction of the door."""

import time
import uuid

from sqlalchemy import Connection

from tunesmith.access.caller import Caller
from tunesmith.jobs.admission import Admitted
from tunesmith.plugins import load_plugins
from tunesmith.spec.errors import BusyError, ConflictError
from tunesmith.spec.job import Submission
from tunesmith.spec.lifecycle import ACTIVE, State
from tunesmith.spec.plan import Plan, shown
from tunesmith.store import events, feeds, jobs
from tunesmith.store.jobs import Job

# A submission that asks to be refused while the server is busy looks at these.
_BUSY = (State.VALIDATING, State.QUEUED, *ACTIVE)


def may_see(caller: Caller, job: Job) -> bool:
    """Whether a job is of the caller's organisation, and of its only project where it has one."""
    return job.org == caller.org and caller.project in (None, job.project)


def made_before(connection: Connection, caller: Caller, submission: Submission) -> Job | None:
    """The job that the same submission made before.

    Raises:
        ConflictError: its idempotency key came with another request.
    """
    key = submission.idempotency_key
    earlier = jobs.by_idempotency_key(connection, caller.org, key) if key is not None else None
    if earlier is None or (may_see(caller, earlier) and _says_the_same(earlier.submission, submission)):
        return earlier
    raise ConflictError(
        f"The idempotency key {key!r} was used for another request.",
        param="Idempotency-Key",
        hint="Use a new key for every new job.",
    )


def refuse_if_busy(connection: Connection, caller: Caller, submission: Submission) -> None:
    """See that nothing is in the way of a submission that does not want to wait.

    Raises:
        BusyError: another job waits or runs.
    """
    ahead = jobs.in_state(connection, *_BUSY, limit=1) if submission.when_busy == "reject" else []
    if ahead:
        which = f" ({ahead[0].id}, {ahead[0].state})" if may_see(caller, ahead[0]) else ""
        raise BusyError(
            f"A training job is in progress{which}, and this request asked not to wait.",
            hint="Send it without strategy=reject to have it queued.",
        )


def accept(connection: Connection, caller: Caller, admitted: Admitted, submission: Submission) -> Job:
    """Put an admitted job on record, with an event for each of its notes and a feed for each of its integrations."""
    now = time.time()
    job = jobs.add(
        connection,
        uuid.uuid4().hex,
        admitted.spec,
        submission,
        org=caller.org,
        created_by=caller.user,
        state=State.QUEUED if admitted.is_complete else State.VALIDATING,
        at=now,
    )
    events.add(connection, job.id, at=now, kind="state", message="The job was created.", data={"state": job.state})
    for note in (*submission.notes, *admitted.notes):
        events.add(connection, job.id, at=now, kind="note", level="warn", message=note)
    if admitted.plan is not None:
        add_plan(connection, job.id, admitted.plan, at=now)
    plugins = load_plugins("tunesmith.integrations")
    feeds.open_for_job(connection, job, [kind for kind, each in plugins.items() if each.FOR_EVERY_JOB], at=now)
    return job


def add_plan(connection: Connection, job_id: str, plan: Plan, *, at: float) -> None:
    """Put a job's plan on record, as an event."""
    data = plan.model_dump(mode="json")
    events.add(connection, job_id, at=at, kind="plan", message=_sentence(plan), data=data)


def _sentence(plan: Plan) -> str:
    rows, memory = plan.rows, plan.memory
    steps = f"{rows.steps.low:,}" if rows.steps.low == rows.steps.high else f"{rows.steps.low:,} to {rows.steps.high:,}"
    needed = "" if memory is None else f", {shown(memory.low)} to {shown(memory.high)} of memory"
    return f"Planned: {steps} steps{needed}."


def _says_the_same(one: Submission, other: Submission) -> bool:
    return (one.dialect, one.request, one.project) == (other.dialect, other.request, other.project)
