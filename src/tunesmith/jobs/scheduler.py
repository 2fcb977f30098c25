"""Gives waiting jobs a device: first come, first served."""

import logging
import time
from pathlib import Path

from tunesmith.assets.content import ContentUse
from tunesmith.devices import Device
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.resources import facts
from tunesmith.jobs.service import run_directory
from tunesmith.jobs.tidying import tidy
from tunesmith.jobs.transitions import move
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Runner
from tunesmith.spec.errors import InternalError, TunesmithError
from tunesmith.spec.job import AttemptSpec
from tunesmith.spec.lifecycle import State, Trigger
from tunesmith.store import attempts, checkpoints, jobs
from tunesmith.store.attempts import Attempt
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job

_log = logging.getLogger(__name__)

CLAIM_SECONDS = 30.0
"""A claim that its server does not renew for so long belongs to nobody."""


class Scheduler:
    """Claims jobs for free devices and starts their workers."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        resolver: InputResolver,
        use: ContentUse,
        runs: Path,
        server_id: str,
        device_memory: int | None = None,
    ) -> None:
        self._database = database
        self._runner = runner
        self._resolver = resolver
        self._use = use
        self._runs = runs
        self._server_id = server_id
        self._device_memory = device_memory

    def tick(self) -> None:
        """Start a job on every free device, as long as jobs wait."""
        if not self._runner.is_ready():
            return
        for device in self._free_devices():
            claimed = self._claim(device)
            if claimed is None:
                return
            self._start(*claimed, device)

    def _free_devices(self) -> list[Device]:
        with self._database.read() as connection:
            if jobs.next_queued(connection) is None:
                return []
            taken = {attempt.device for attempt in attempts.unended(connection)}
        free = [device for device in self._runner.devices() if device.name not in taken]
        return [device for device in free if self._runner.is_clear(device)]

    def _claim(self, device: Device) -> tuple[Job, Attempt] | None:
        """One transaction: a job leaves the queue exactly when an attempt of it is on record."""
        now = time.time()
        with self._database.write() as connection:
            job = jobs.next_queued(connection)
            if job is None:
                return None
            number = job.attempts + 1
            move(connection, job, Trigger.CLAIM, at=now, attempt=number)
            job = jobs.change(connection, job.id, attempts=number)
            attempt = Attempt(
                job_id=job.id,
                number=number,
                device=device.name,
                claimed_by=self._server_id,
                claim_expires_at=now + CLAIM_SECONDS,
                handle=None,
                events_offset=0,
                started_at=now,
                stop_requested_at=None,
                settled=False,
                ended_at=None,
            )
            attempts.add(connection, attempt)
            return job, attempt

    def _start(self, job: Job, attempt: Attempt, device: Device) -> None:
        run = run_directory(self._runs, job.id, attempt.number)
        try:
            self._write_spec(run, job, attempt, device)
            handle = self._runner.start(run, device)
        except (TunesmithError, OSError) as error:
            _log.warning("attempt %d of job %s could not start: %s", attempt.number, job.id, error)
            self._give_up(job, attempt, error)
            return
        with self._database.write() as connection:
            attempts.change(connection, attempt, handle=handle)

    def _write_spec(self, run: RunDirectory, job: Job, attempt: Attempt, device: Device) -> None:
        with self._database.read() as connection:
            resume_from = tuple(Path(each.path) for each in checkpoints.of_job(connection, job.id))
        run.write_spec(
            AttemptSpec(
                job_id=job.id,
                attempt=attempt.number,
                purpose="train",
                spec=job.spec,
                inputs=self._resolver.resolve(job.org, job.spec),
                name=job.submission.name,
                resume_from=resume_from,
                device=facts(device, self._device_memory),
            )
        )

    def _give_up(self, job: Job, attempt: Attempt, error: TunesmithError | OSError) -> None:
        """What cannot even be started now, such as a model that was removed, is the job's failure."""
        now = time.time()
        info = error.info if isinstance(error, TunesmithError) else InternalError(str(error)).info
        with self._database.write() as connection:
            current = jobs.get(connection, job.id)
            assert current is not None
            moved = move(connection, current, Trigger.FAIL, at=now, attempt=attempt.number)
            if moved.state is State.FAILED:
                jobs.change(connection, job.id, error=info.model_dump())
            attempts.change(connection, attempt, settled=True, ended_at=now)
            tidy(connection, moved, self._use)
