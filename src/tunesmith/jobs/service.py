"""The only door to jobs: what every dialect calls."""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.tidying import tidy
from tunesmith.jobs.transitions import move
from tunesmith.rundir import RunDirectory
from tunesmith.spec.errors import BusyError, CheckpointNotFoundError, InvalidRequestError, JobNotFoundError
from tunesmith.spec.job import JobSpec, Submission
from tunesmith.spec.lifecycle import STOPPING, State, Trigger
from tunesmith.store import attempts, checkpoints, events, jobs
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

# A submission that asks to be refused while the server is busy looks at these.
_BUSY = (State.QUEUED, State.STARTING, State.RUNNING, State.PAUSING, State.REQUEUEING, State.CANCELLING)


class Jobs:
    """Submit, read and steer jobs. Every method that changes something returns after the commit."""

    def __init__(
        self, database: Database, admission: Admission, use: ContentUse, runs: Path, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._admission = admission
        self._use = use
        self._runs = runs
        self._wake = wake

    def submit(self, spec: JobSpec, submission: Submission) -> Job:
        """Accept a job.

        Raises:
            BusyError: the submission asked to be refused while another job waits or runs.
            TunesmithError: admission refused it; `param` is the path in the spec.
        """
        self._refuse_if_busy(submission)
        self._admission.admit(spec)
        now = time.time()
        with self._database.write() as connection:
            _refuse_if_busy(connection, submission)
            job = jobs.add(connection, uuid.uuid4().hex, spec, submission, now)
            events.add(
                connection, job.id, at=now, kind="state", message="The job was created.", data={"state": job.state}
            )
            for note in submission.notes:
                events.add(connection, job.id, at=now, kind="note", level="warn", message=note)
        self._wake()
        return job

    def get(self, id: str) -> Job:
        """One job.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            return _get(connection, id)

    def newest_first(
        self, *, limit: int | None, after: str | None = None, labels: Mapping[str, str] | None = {}
    ) -> list[Job]:
        """Jobs older than the one with the id `after`, with the given labels (none = without any).

        Raises:
            JobNotFoundError: `after` names no job.
        """
        with self._database.read() as connection:
            before = _get(connection, after, param="after").number if after else None
            return jobs.newest_first(connection, limit=limit, before=before, labels=labels)

    def oldest_first(self) -> list[Job]:
        """All jobs in order of arrival."""
        with self._database.read() as connection:
            return jobs.oldest_first(connection)

    def active(self) -> list[Job]:
        """Jobs that hold a device, in order of arrival."""
        with self._database.read() as connection:
            return jobs.in_state(connection, *(state for state in _BUSY if state is not State.QUEUED))

    def queued(self) -> list[Job]:
        """Jobs that wait, in order of arrival."""
        with self._database.read() as connection:
            return jobs.in_state(connection, State.QUEUED)

    def cancel(self, id: str) -> Job:
        """Cancel a job: at once if it waits, else as soon as its worker has ended.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it has ended.
        """
        return self._steer(id, Trigger.CANCEL)

    def pause(self, id: str) -> Job:
        """Save a job's state and give its device back.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it has ended or is paused.
        """
        return self._steer(id, Trigger.PAUSE)

    def resume(self, id: str) -> Job:
        """Let a paused job go on where it stopped.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it is not paused.
        """
        return self._steer(id, Trigger.RESUME)

    def events(
        self, id: str, *, limit: int | None = None, after: str | None = None, newest_first: bool = False
    ) -> list[Event]:
        """A job's events behind the one with the id `after`, in the asked order.

        Raises:
            JobNotFoundError: no such job.
            InvalidRequestError: `after` names no event of it.
        """
        with self._database.read() as connection:
            _get(connection, id)
            number = events.number_of(connection, id, after) if after else None
            if after and number is None:
                raise InvalidRequestError(f"The job has no event {after!r}.", param="after")
            if newest_first:
                return events.of_job(connection, id, limit=limit, before=number, newest_first=True)
            return events.of_job(connection, id, limit=limit, after=number)

    def latest_events(self, id: str) -> list[Event]:
        """The newest metrics and the newest evaluation of a job, as far as there are any."""
        with self._database.read() as connection:
            found = [events.latest(connection, id, kind) for kind in ("metrics", "evaluated")]
        return [event for event in found if event]

    def checkpoints(self, id: str) -> list[Checkpoint]:
        """The checkpoints that the user asked for, by falling step.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            _get(connection, id)
            return checkpoints.offered(connection, id)

    def checkpoint(self, id: str, checkpoint_id: str) -> Checkpoint:
        """One checkpoint.

        Raises:
            JobNotFoundError: no such job.
            CheckpointNotFoundError: the job has no such checkpoint.
        """
        for checkpoint in self.checkpoints(id):
            if checkpoint.id == checkpoint_id:
                return checkpoint
        raise CheckpointNotFoundError(
            f"The job has no checkpoint {checkpoint_id!r}.", param="checkpoint_id", hint="List its checkpoints."
        )

    def logs(self, id: str) -> list[Path]:
        """Log files of a job's attempts, oldest first, those that exist.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            job = _get(connection, id)
        runs = [run_directory(self._runs, id, number + 1) for number in range(job.attempts)]
        return [run.log for run in runs if run.log.exists()]

    def _steer(self, id: str, trigger: Trigger) -> Job:
        now = time.time()
        with self._database.write() as connection:
            job = move(connection, _get(connection, id), trigger, at=now)
            attempt = attempts.newest(connection, id)
            if attempt and attempt.ended_at is None and job.state in STOPPING and attempt.stop_requested_at is None:
                attempts.change(connection, attempt, stop_requested_at=now)
            tidy(connection, job, self._use)
        self._wake()
        return job

    def _refuse_if_busy(self, submission: Submission) -> None:
        with self._database.read() as connection:
            _refuse_if_busy(connection, submission)


def run_directory(runs: Path, job_id: str, attempt: int) -> RunDirectory:
    """Where an attempt's worker and the server meet."""
    return RunDirectory(runs / job_id / "attempts" / str(attempt))


def _get(connection: Connection, id: str, param: str = "job_id") -> Job:
    job = jobs.get(connection, id)
    if job is None:
        raise JobNotFoundError(f"No job has the id {id!r}.", param=param)
    return job


def _refuse_if_busy(connection: Connection, submission: Submission) -> None:
    if submission.when_busy == "queue":
        return
    ahead = jobs.in_state(connection, *_BUSY)
    if ahead:
        raise BusyError(
            f"A training job is in progress ({ahead[0].id}, {ahead[0].state}), and this request asked not to wait.",
            hint="Send it without strategy=reject to have it queued.",
        )
