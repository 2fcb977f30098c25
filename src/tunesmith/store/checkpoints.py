"""Rows of checkpoints: whole states on disk."""

import uuid
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Connection, insert, select, update

from tunesmith.spec.events import CheckpointSaved
from tunesmith.spec.job import Frozen
from tunesmith.store.rows import to_record
from tunesmith.store.tables import checkpoints


class Checkpoint(Frozen):
    """A state from which a job can go on, and which can be used as a model."""

    number: int
    id: str
    job_id: str
    attempt: int
    step: int
    path: str
    offered: bool
    """Belongs to the cadence that the user asked for, or has the weights of the result."""

    metrics: dict[str, float]
    score: float | None
    """The figure by which the job chooses the best; none without an evaluation at its step."""

    files: tuple[str, ...]
    """Ids of its files that a user can download."""

    created_at: float


def add(
    connection: Connection,
    saved: CheckpointSaved,
    *,
    job_id: str,
    attempt: int,
    path: str,
    metrics: dict[str, float],
    files: list[str],
) -> None:
    """Insert a checkpoint that a worker saved in an absolute folder."""
    connection.execute(
        insert(checkpoints).values(
            id=uuid.uuid4().hex,
            job_id=job_id,
            attempt=attempt,
            step=saved.step,
            path=path,
            offered=saved.offered,
            metrics=metrics,
            score=saved.score,
            files=files,
            created_at=saved.at.timestamp(),
        )
    )


def get(connection: Connection, id: str) -> Checkpoint | None:
    """One checkpoint that is still on disk."""
    query = select(checkpoints).where(checkpoints.c.id == id, checkpoints.c.removed_at.is_(None))
    row = connection.execute(query).one_or_none()
    return to_record(Checkpoint, row) if row else None


def at_path(connection: Connection, job_id: str, path: str) -> Checkpoint | None:
    """The checkpoint in a folder."""
    return next((each for each in of_job(connection, job_id) if each.path == path), None)


def offer(connection: Connection, id: str, files: list[str]) -> None:
    """Count a checkpoint among those that the user asked for."""
    connection.execute(update(checkpoints).where(checkpoints.c.id == id).values(offered=True, files=files))


def remove(connection: Connection, *, job_id: str, path: str, at: float) -> None:
    """Mark a checkpoint as deleted from disk."""
    connection.execute(
        update(checkpoints).where(checkpoints.c.job_id == job_id, checkpoints.c.path == path).values(removed_at=at)
    )


def best_step(connection: Connection, job_id: str) -> int:
    """The furthest step that a checkpoint holds, 0 without one."""
    present = of_job(connection, job_id)
    return max((checkpoint.step for checkpoint in present), default=0)


def of_job(connection: Connection, job_id: str) -> list[Checkpoint]:
    """A job's checkpoints that are still on disk, by falling step, then by falling age."""
    query = (
        select(checkpoints)
        .where(checkpoints.c.job_id == job_id, checkpoints.c.removed_at.is_(None))
        .order_by(checkpoints.c.step.desc(), checkpoints.c.number.desc())
    )
    return [to_record(Checkpoint, row) for row in connection.execute(query)]


def offered(connection: Connection, job_id: str) -> list[Checkpoint]:
    """Those that the user asked for, one a step: a later attempt's replaces an earlier one's."""
    newest: dict[int, Checkpoint] = {}
    for checkpoint in of_job(connection, job_id):
        if checkpoint.offered:
            newest.setdefault(checkpoint.step, checkpoint)
    return list(newest.values())


def best_of(offered: Sequence[Checkpoint], best: Literal["lowest", "highest"]) -> Checkpoint | None:
    """The one with the best score, of equal ones the earliest; none if none was evaluated."""
    scored = [checkpoint for checkpoint in offered if checkpoint.score is not None]
    sign = 1 if best == "lowest" else -1
    return min(scored, key=lambda checkpoint: (sign * (checkpoint.score or 0.0), checkpoint.step), default=None)
