"""Follows every running attempt: reads what its worker reports, notices its death, enforces its end."""

import logging
import time
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.recording import Recorder
from tunesmith.jobs.scheduler import CLAIM_SECONDS
from tunesmith.jobs.service import run_directory
from tunesmith.jobs.stalls import Patience, Stalls
from tunesmith.jobs.tidying import tidy
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Exit, Handle, Runner
from tunesmith.spec.errors import OutOfMemoryError, TunesmithError, UnavailableError, WorkerLostError
from tunesmith.spec.lifecycle import STOPPING, Trigger
from tunesmith.spec.plan import shown
from tunesmith.store import attempts, events, jobs
from tunesmith.store.attempts import Attempt
from tunesmith.store.database import Database

_log = logging.getLogger(__name__)

GRACE_SECONDS = 30.0
"""Time that a worker has to save its state when it is asked to end."""

_LINGER_SECONDS = 15.0  # time to end after the last event was reported
_RENEW_SECONDS = 5.0
_MAX_FRUITLESS_LOSSES = 3
_EVENTS_AT_ONCE = 500


class Supervisor:
    """One pass over all running attempts at a time."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        publisher: Publisher,
        use: ContentUse,
        runs: Path,
        server_id: str,
        patience: Patience,
    ) -> None:
        self._database = database
        self._runner = runner
        self._publisher = publisher
        self._use = use
        self._runs = runs
        self._server_id = server_id
        self._signalled: dict[tuple[str, int], float] = {}  # when each attempt was last asked to stop
        self._settled_at: dict[tuple[str, int], float] = {}
        self._removed: set[tuple[str, int]] = set()
        self._stalls = Stalls(patience)

    def tick(self) -> None:
        """Look after every attempt that has not ended.

        Raises:
            TunesmithError: one could not be followed; all others were.
        """
        with self._database.read() as connection:
            running = attempts.unended(connection)
        failure: TunesmithError | None = None
        for attempt in running:
            try:
                self._watch(self._renew_claim(attempt))
            except TunesmithError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - one unreadable run directory must not hide the others
                _log.exception("attempt %d of job %s could not be followed", attempt.number, attempt.job_id)
                failure = UnavailableError(f"{type(error).__name__} while following job {attempt.job_id}")
        if failure:
            raise failure

    def _renew_claim(self, attempt: Attempt) -> Attempt:
        """Keep, or after a restart take over, the claim to drive an attempt."""
        now = time.time()
        renewed = attempt.claim_expires_at - CLAIM_SECONDS
        if attempt.claimed_by == self._server_id and now - renewed < _RENEW_SECONDS:
            return attempt
        with self._database.write() as connection:
            return attempts.change(
                connection, attempt, claimed_by=self._server_id, claim_expires_at=now + CLAIM_SECONDS
            )

    def _watch(self, attempt: Attempt) -> None:
        run = run_directory(self._runs, attempt.job_id, attempt.number)
        handle = attempt.handle or self._recover(attempt, run)
        # Asked before the events are read: whatever a dead worker wrote is then complete.
        ended = self._runner.poll(handle, run) if handle else Exit()
        attempt = self._record(attempt, run)
        if ended is not None:
            self._end(attempt, run, ended)
        elif handle:
            self._enforce(attempt, handle, run)

    def _recover(self, attempt: Attempt, run: RunDirectory) -> Handle | None:
        """Find a worker that was started just before the server died and could not write down its handle."""
        handle = self._runner.find(run)
        if handle is not None:
            with self._database.write() as connection:
                attempts.change(connection, attempt, handle=handle)
        return handle

    def _record(self, attempt: Attempt, run: RunDirectory) -> Attempt:
        while True:
            reported, offset = run.read_events(attempt.events_offset, limit=_EVENTS_AT_ONCE)
            if not reported:
                return attempt
            with self._database.write() as connection:
                recorder = Recorder(connection, self._publisher, attempt, run)
                for event in reported:
                    recorder.apply(event)
                attempt = attempts.change(connection, attempt, events_offset=offset)

    def _enforce(self, attempt: Attempt, handle: Handle, run: RunDirectory) -> None:
        """Ask to stop once, remove after the grace, and remove what lingers after its last event."""
        key = (attempt.job_id, attempt.number)
        now = time.monotonic()
        if attempt.settled:
            if now - self._settled_at.setdefault(key, now) > _LINGER_SECONDS:
                self._remove(key, handle)
        elif attempt.stop_requested_at is not None:
            if key not in self._signalled:
                self._signalled[key] = now
                self._runner.stop(handle, force=False)
            elif now - self._signalled[key] > GRACE_SECONDS:
                self._remove(key, handle)
        else:
            self._look_for_stall(attempt, handle, run)

    def _look_for_stall(self, attempt: Attempt, handle: Handle, run: RunDirectory) -> None:
        """Warn of a worker that has shown no sign of getting on for long, and remove it after longer."""
        match self._stalls.look((attempt.job_id, attempt.number), run.last_sign()):
            case "warn":
                self._runner.dump(handle)
                with self._database.write() as connection:
                    job = jobs.get(connection, attempt.job_id)
                    assert job is not None
                    events.add(
                        connection, job.id, at=time.time(), kind="anomaly", level="warn", attempt=attempt.number,
                        message=f"The worker has shown no sign of getting on for {self._stalls.patience.warning:g} s, "
                        f"since step {job.step}. Where it stands is in its log.",
                        data={"what": "stall", "step": job.step, "seconds": self._stalls.patience.warning},
                    )  # fmt: skip
            case "lost":
                self._remove((attempt.job_id, attempt.number), handle)

    def _remove(self, key: tuple[str, int], handle: Handle) -> None:
        self._removed.add(key)
        self._runner.stop(handle, force=True)

    def _end(self, attempt: Attempt, run: RunDirectory, ended: Exit) -> None:
        now = time.time()
        key = (attempt.job_id, attempt.number)
        if key in self._removed:
            # By this server's signal 9, whatever else the system ended for want of memory meanwhile.
            self._removed.remove(key)
            ended = ended.model_copy(update={"out_of_memory": False})
        how = self._stalls.verdict(key) or _how(ended)
        with self._database.write() as connection:
            job = jobs.get(connection, attempt.job_id)
            assert job is not None
            if not attempt.settled:
                recorder = Recorder(connection, self._publisher, attempt, run)
                if job.state in STOPPING:
                    recorder.settle_without_word(trigger=Trigger.STOPPED, at=now)
                else:
                    losses = job.fruitless_losses + 1
                    events.add(
                        connection, job.id, at=now, kind="note", level="warn", attempt=attempt.number,
                        message=f"The worker was lost ({how}){_memory(connection, attempt, ended)}. "
                        "Its log is kept with the job.",
                    )  # fmt: skip
                    jobs.change(connection, job.id, fruitless_losses=losses)
                    if losses < _MAX_FRUITLESS_LOSSES:
                        recorder.settle_without_word(trigger=Trigger.LOST, at=now)
                    else:
                        error = _loss(losses, how, ended, _memory(connection, attempt, ended))
                        jobs.change(connection, job.id, error=error.info.model_dump())
                        recorder.settle_without_word(trigger=Trigger.FAIL, at=now)
            attempts.change(connection, attempt, ended_at=now, exit=ended.model_dump())
            ended_job = jobs.get(connection, job.id)
            assert ended_job is not None
            tidy(connection, ended_job, self._use)


def _loss(losses: int, how: str, ended: Exit, memory: str) -> TunesmithError:
    """Why a job fails whose workers die. `how` the last one ended, `memory` is what it had reported."""
    what = f"The worker was lost {losses} times without getting further ({how}){memory}."
    if ended.out_of_memory:
        return OutOfMemoryError(
            what,
            hint="Set `micro_batch_size` to 1 or `gradient_checkpointing` to true, halve `max_length`, take a smaller "
            "model, or give the machine more memory.",
        )
    return WorkerLostError(what, hint="Read the job's log; a signal 9 often means that the machine ran out of memory.")


def _memory(connection: Connection, attempt: Attempt, ended: Exit) -> str:
    """How much a worker for which memory ran out had last reported, as the end of a sentence."""
    metrics = events.latest(connection, attempt.job_id, "metrics") if ended.out_of_memory else None
    if metrics is None or metrics.attempt != attempt.number:
        return ""
    return f"; at step {metrics.data['step']} it had reported a peak of {shown(metrics.data['memory_bytes'])}"


def _how(ended: Exit) -> str:
    if ended.out_of_memory:
        return "ended by the system, whose memory ran out"
    if ended.signal is not None:
        return f"ended by signal {ended.signal}"
    if ended.code is not None:
        return f"exit code {ended.code}"
    return "nobody saw how it ended"
