"""The only door to jobs: what every dialect calls."""

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.access.boundaries import require_open_project
from tunesmith.access.caller import Caller
from tunesmith.assets.content import ContentUse
from tunesmith.jobs.admission import Admission, Admitted
from tunesmith.jobs.outcome import step_of_weights
from tunesmith.jobs.submitting import accept, made_before, may_see, refuse_if_busy
from tunesmith.jobs.tidying import tidy
from tunesmith.jobs.transitions import move
from tunesmith.rundir import RunDirectory
from tunesmith.spec.errors import (
    CheckpointNotFoundError,
    InvalidRequestError,
    JobNotFoundError,
    JobStateError,
)
from tunesmith.spec.job import JobSpec, Submission
from tunesmith.spec.lifecycle import ACTIVE, STOPPING, TERMINAL, State, Trigger
from tunesmith.spec.plan import Plan
from tunesmith.spec.receipt import Receipt
from tunesmith.store import attempts, checkpoints, events, jobs
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job


class Jobs:
    """Submit, read and steer the jobs that a caller may see. Every method that changes something returns after the
    commit. A job of another organisation, or of another project than the caller's only one, answers as an unknown one.
    """

    def __init__(
        self,
        database: Database,
        admission: Admission,
        use: ContentUse,
        runs: Path,
        wake: Callable[[], None],
        caller: Caller,
    ) -> None:
        self._database = database
        self._admission = admission
        self._use = use
        self._runs = runs
        self._wake = wake
        self._caller = caller

    def validate(self, spec: JobSpec) -> Admitted:
        """Check a job as a submission would, and accept nothing.

        Raises:
            TunesmithError: admission refuses it; `param` is the path in the spec.
        """
        return self._admission.admit(self._caller.org, spec)

    def plan(self, spec: JobSpec) -> Admitted:
        """Tell what a job would cost, and accept nothing. One that does not fit is no error.

        Raises:
            TunesmithError: admission refuses it; `param` is the path in the spec.
        """
        return self._admission.admit(self._caller.org, spec, "plan")

    def submit(self, spec: JobSpec, submission: Submission) -> Job:
        """Accept a job. It is queued if everything that it needs is here, else it is validating until that is fetched.

        Raises:
            BusyError: the submission asked to be refused while another job waits or runs.
            ConflictError: its idempotency key came with another request before, or its project is archived.
            ProjectNotFoundError: the caller may not work in its project, or there is none.
            TunesmithError: admission refused it; `param` is the path in the spec.
        """
        project = submission.project or self._caller.project
        submission = submission.model_copy(update={"project": project})
        with self._database.read() as connection:
            if project is not None:
                require_open_project(connection, self._caller, project, param="project")
            earlier = made_before(connection, self._caller, submission)
            if earlier is not None:
                return earlier
            refuse_if_busy(connection, self._caller, submission)
        admitted = self._admission.admit(self._caller.org, spec)
        with self._database.write() as connection:
            earlier = made_before(connection, self._caller, submission)  # a repetition may have overtaken this one
            if earlier is not None:
                return earlier
            refuse_if_busy(connection, self._caller, submission)
            job = accept(connection, self._caller, admitted, submission)
        self._wake()
        return job

    def get(self, id: str) -> Job:
        """One job.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            return self._get(connection, id)

    def find_by_prefix(self, prefix: str) -> list[Job]:
        """Jobs whose id begins with these hexadecimal digits, in order of arrival."""
        with self._database.read() as connection:
            return [
                job for job in jobs.by_id_prefix(connection, self._caller.org, prefix) if may_see(self._caller, job)
            ]

    def newest_first(
        self,
        *,
        limit: int | None,
        offset: int = 0,
        after: str | None = None,
        project: str | None = None,
        states: Collection[State] = jobs.ALL_STATES,
        labels: Mapping[str, str] = {},
    ) -> list[Job]:
        """Jobs older than the one with the id `after`, of the given project (none = of any), in any of the states, with
        the given labels (`WITHOUT_LABELS` = without any).

        Raises:
            JobNotFoundError: `after` names no job.
        """
        with self._database.read() as connection:
            before = self._get(connection, after, param="after").number if after else None
            return jobs.newest_first(
                connection,
                self._caller.org,
                limit=limit,
                offset=offset,
                before=before,
                project=self._caller.project or project,
                states=states,
                labels=labels,
            )

    def count(self) -> int:
        """How many jobs the caller may see."""
        with self._database.read() as connection:
            return jobs.count(connection, self._caller.org, project=self._caller.project)

    def active(self) -> list[Job]:
        """Jobs that hold a device, in order of arrival."""
        with self._database.read() as connection:
            return [job for job in jobs.in_state(connection, *ACTIVE) if may_see(self._caller, job)]

    def queued(self) -> list[Job]:
        """Jobs that wait, in the order in which they get a device."""
        with self._database.read() as connection:
            return [
                job for job in jobs.in_state(connection, State.VALIDATING, State.QUEUED) if may_see(self._caller, job)
            ]

    def position(self, job: Job) -> int:
        """How many jobs, of whomever, wait or hold a device before this one gets its turn; 0 for one that waits for
        nobody."""
        with self._database.read() as connection:
            return jobs.waiting_in_front(connection, job) + jobs.count_active(connection) - (job.state in ACTIVE)

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

    def prioritise(self, id: str, priority: int) -> Job:
        """Move a job forward or back in the queue: 0 low, 1 normal, 2 high, 3 urgent.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it has ended.
        """
        now = time.time()
        with self._database.write() as connection:
            job = self._get(connection, id)
            if job.state in TERMINAL:
                raise JobStateError(f"The job is {job.state}; its priority has no effect any more.")
            data = {"from": job.priority, "to": priority}
            events.add(connection, id, at=now, kind="note", message=f"The job's priority is {priority} now.", data=data)
            job = jobs.change(connection, id, priority=priority, priority_changed_at=now)
        self._wake()
        return job

    def events(
        self,
        id: str,
        *,
        limit: int | None = None,
        after: str | None = None,
        newest_first: bool = False,
        kinds: Collection[str] = (),
    ) -> list[Event]:
        """A job's events behind the one with the id `after`, of the given kinds (empty = of all), in the asked order.

        Raises:
            JobNotFoundError: no such job.
            InvalidRequestError: `after` names no event of it.
        """
        with self._database.read() as connection:
            self._get(connection, id)
            number = events.number_of(connection, id, after) if after else None
            if after and number is None:
                raise InvalidRequestError(f"The job has no event {after!r}.", param="after")
            if newest_first:
                return events.of_job(connection, id, limit=limit, before=number, newest_first=True, kinds=kinds)
            return events.of_job(connection, id, limit=limit, after=number, kinds=kinds)

    def checkpoints(self, id: str) -> list[Checkpoint]:
        """The checkpoints that the user asked for, by falling step.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            self._get(connection, id)
            return checkpoints.offered(connection, id)

    def best_checkpoint(self, id: str) -> Checkpoint | None:
        """The one of the user's checkpoints whose weights the result has, if that has the best; else the one with the
        best evaluation, by the job's `selection`. None without one.

        Raises:
            JobNotFoundError: no such job.
        """
        with self._database.read() as connection:
            job = self._get(connection, id)
            found = checkpoints.offered(connection, id)
            step = step_of_weights(connection, job) if job.spec.selection.result == "best" else None
            if step is not None:
                return next((each for each in found if each.step == step), None)
            return checkpoints.best_of(found, job.spec.selection.best)

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
            job = self._get(connection, id)
        runs = [run_directory(self._runs, id, number + 1) for number in range(job.attempts)]
        return [run.log for run in runs if run.log.exists()]

    def sample_picture(self, id: str, sampled: Event) -> Path | None:
        """The file of the picture that an event `sampled` of a job tells of; none for a text, or if it is gone.

        Raises:
            JobNotFoundError: no such job.
        """
        self.get(id)
        return sample_picture(self._runs, sampled)

    def receipt(self, id: str) -> Receipt:
        """What a job trains, as its newest attempt that prepared the rows tells.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: none has.
        """
        with self._database.read() as connection:
            job = self._get(connection, id)
        receipt = newest_receipt(self._runs, job)
        if receipt is not None:
            return receipt
        if job.spec.model.modality == "image":
            raise JobStateError(
                "A job on pictures has no receipt: no token of a caption carries loss.",
                hint="Its event of the kind `prepared` shows the first caption and how many were cut.",
            )
        raise JobStateError(
            f"The job is {job.state} and has no receipt: its rows were not prepared.",
            hint="A receipt is there soon after the job has started. `tunesmith data inspect` makes one without a job.",
        )

    def plan_of(self, id: str) -> Plan:
        """What a job was expected to cost when it was accepted, or when its data had been fetched.

        Raises:
            JobNotFoundError: no such job.
            JobStateError: it has no plan.
        """
        with self._database.read() as connection:
            job = self._get(connection, id)
            event = events.latest(connection, id, "plan")
        if event is None:
            raise JobStateError(
                f"The job is {job.state} and has no plan.",
                hint="A job is planned when all that it needs is on this server, unless that takes too long.",
            )
        return Plan.model_validate(event.data)

    def _steer(self, id: str, trigger: Trigger) -> Job:
        now = time.time()
        with self._database.write() as connection:
            job = move(connection, self._get(connection, id), trigger, at=now)
            attempt = attempts.newest(connection, id)
            if attempt and attempt.ended_at is None and job.state in STOPPING and attempt.stop_requested_at is None:
                attempts.change(connection, attempt, stop_requested_at=now)
            tidy(connection, job, self._use)
        self._wake()
        return job

    def _get(self, connection: Connection, id: str, param: str = "job_id") -> Job:
        job = jobs.get(connection, id)
        if job is None or not may_see(self._caller, job):
            raise JobNotFoundError(f"No job has the id {id!r}.", param=param)
        return job


def run_directory(runs: Path, job_id: str, attempt: int) -> RunDirectory:
    """Where an attempt's worker and the server meet."""
    return RunDirectory(runs / job_id / "attempts" / str(attempt))


def sample_picture(runs: Path, sampled: Event) -> Path | None:
    """The file of the picture that an event `sampled` tells of; none for a text, or if it is gone."""
    if sampled.data["file"] is None or sampled.attempt is None:
        return None
    path = run_directory(runs, sampled.job_id, sampled.attempt).samples / Path(sampled.data["file"]).name
    return path if path.is_file() else None


def newest_receipt(runs: Path, job: Job) -> Receipt | None:
    """The receipt of a job's newest attempt that prepared the rows; none if none has."""
    for number in range(job.attempts, 0, -1):
        receipt = run_directory(runs, job.id, number).read_receipt()
        if receipt is not None:
            return receipt
    return None
