"""Takes accepted jobs from `validating` to the queue: fetches what they need, checks it, and tells how it goes."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.fetching import Digest, Part, shown, without_queries
from tunesmith.jobs.pictures.report import Stage
from tunesmith.jobs.submitting import add_plan
from tunesmith.jobs.tidying import tidy
from tunesmith.jobs.transitions import move
from tunesmith.spec.errors import DiskFullError, ErrorInfo, InternalError, TunesmithError
from tunesmith.spec.job import DataSource, JobSpec
from tunesmith.spec.lifecycle import State, Trigger
from tunesmith.spec.plan import Plan
from tunesmith.storage import BlobWriter
from tunesmith.store import events, jobs
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job

_log = logging.getLogger(__name__)

_AT_ONCE = 4
_AT_ONCE_OF_ONE_ORGANISATION = 2
_RETRY_SECONDS = 10.0
_TELL_SECONDS = 5.0
_TELL_STAGE_SECONDS = 1.0
_LOOK_SECONDS = 0.5


class _Ended(Exception):  # noqa: N818 - no error: the job was cancelled, or the server ends
    pass


@dataclass(frozen=True)
class _Running:
    org: str
    thread: threading.Thread


class Preparer:
    """One thread for each job that is being prepared. The next server begins anew with a job that this one left."""

    def __init__(self, database: Database, admission: Admission, use: ContentUse) -> None:
        self._database = database
        self._admission = admission
        self._use = use
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()

    def tick(self) -> None:
        """Begin with jobs that wait to be prepared."""
        self._running = {id: each for id, each in self._running.items() if each.thread.is_alive()}
        if len(self._running) >= _AT_ONCE:
            return
        with self._database.read() as connection:
            waiting = jobs.in_state(connection, State.VALIDATING)
        for job in waiting:
            of_organisation = [each for each in self._running.values() if each.org == job.org]
            if len(self._running) >= _AT_ONCE:
                return
            if job.id not in self._running and len(of_organisation) < _AT_ONCE_OF_ONE_ORGANISATION:
                thread = threading.Thread(target=self._prepare, args=(job,), name=f"prepare {job.id}", daemon=True)
                self._running[job.id] = _Running(job.org, thread)
                thread.start()

    def stop(self) -> None:
        """End all preparation; the jobs stay where they are."""
        self._stopping.set()
        for each in self._running.values():
            each.thread.join()

    def _prepare(self, job: Job) -> None:
        try:
            self._complete(job)
        except _Ended:
            return
        except DiskFullError as error:
            _log.error("job %s could not be prepared; trying again in %s s: %s", job.id, _RETRY_SECONDS, error.message)
            self._stopping.wait(_RETRY_SECONDS)

    def _complete(self, job: Job) -> None:
        """Take the job to the queue or to its failure.

        Raises:
            DiskFullError: the volume has no room for what is to be written down.
        """
        watch = _Watch(self._database, job, self._stopping)
        try:
            plan = self._admission.complete(
                job.org, job.spec, watch, lambda part, digest, content: self._keep(job, part, digest, content)
            )
        except (_Ended, DiskFullError):
            raise
        except TunesmithError as error:
            self._move(job, Trigger.FAIL, error.info)
        except Exception as error:  # noqa: BLE001 - a fault of ours must end the job, not the thread alone
            _log.exception("job %s could not be prepared", job.id)
            self._move(job, Trigger.FAIL, InternalError(f"{type(error).__name__} while the data was prepared.").info)
        else:
            self._move(job, Trigger.VALIDATED, plan=plan)

    def _keep(self, job: Job, part: Part, digest: Digest, content: BlobWriter) -> JobSpec:
        """Make a fetched content visible in the transaction that writes its digest into the job, so that it always
        belongs to somebody."""
        with self._database.write() as connection:
            current = jobs.get(connection, job.id)
            if current is None or current.state is not State.VALIDATING:
                raise _Ended
            data = current.spec.data
            source: DataSource = getattr(data, part)
            fetched = source.model_copy(update={"id": shown(source), digest: content.commit().sha256})
            update = {part: fetched, "images": without_queries(data.images)}
            spec = current.spec.model_copy(update={"data": data.model_copy(update=update)})
            jobs.change(connection, job.id, spec=spec.model_dump(mode="json"))
        return spec

    def _move(self, job: Job, trigger: Trigger, error: ErrorInfo | None = None, plan: Plan | None = None) -> None:
        with self._database.write() as connection:
            current = jobs.get(connection, job.id)
            if current is None or current.state is not State.VALIDATING:
                return
            moved = move(connection, current, trigger, at=time.time())
            if plan is not None:
                add_plan(connection, job.id, plan, at=time.time())
            if error is not None:
                moved = jobs.change(connection, job.id, error=error.model_dump())
            tidy(connection, moved, self._use)


class _Watch:
    """Told of every piece that arrives: reports progress now and then, and ends the preparation of a cancelled job."""

    def __init__(self, database: Database, job: Job, stopping: threading.Event) -> None:
        self._database = database
        self._job = job
        self._stopping = stopping
        self._looked_at = self._told_at = time.monotonic()
        self._stage: tuple[str, int, int] = ("", 0, 0)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        self.poll()
        now = time.monotonic()
        if done == total or now - self._told_at > _TELL_SECONDS:
            self._told_at = now
            whole = f" of {total:,}" if total is not None else ""
            message = f"Fetched {done:,}{whole} bytes of {what}."
            self._tell("fetch", message, {"what": what, "bytes": done, "total_bytes": total})

    def poll(self) -> None:
        """Raise if nobody waits for the job any more. The database is looked at now and then only."""
        now = time.monotonic()
        if self._stopping.is_set():
            raise _Ended
        if now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            with self._database.read() as connection:
                self._require_waiting(connection)

    def stage(self, stage: Stage, done: int, total: int) -> None:
        """See `Report`. Told when a stage begins and ends, and now and then between."""
        self.poll()
        now = time.monotonic()
        news = (stage, done, total)
        is_due = stage != self._stage[0] or (done == total and news != self._stage)
        if is_due or now - self._told_at > _TELL_STAGE_SECONDS:
            self._told_at, self._stage = now, news
            message = f"{stage.capitalize()} pictures: {done:,} of {total:,}."
            self._tell("pictures", message, {"stage": stage, "done": done, "total": total})

    def note(self, message: str, data: Mapping[str, Any], *, warn: bool = True) -> None:
        """See `Report`."""
        self._tell("note", message, data, "warn" if warn else "info")

    def completed(self, message: str, data: Mapping[str, Any]) -> None:
        """See `Report`."""
        self._tell("pictures", message, {"stage": "completed", **data})

    def _tell(self, kind: str, message: str, data: Mapping[str, Any], level: Literal["info", "warn"] = "info") -> None:
        with self._database.write() as connection:
            self._require_waiting(connection)  # nothing is told of a job that has ended
            events.add(
                connection,
                self._job.id,
                at=time.time(),
                kind=kind,
                message=message,
                level=level,
                data=dict(data),
            )

    def _require_waiting(self, connection: Connection) -> None:
        current = jobs.get(connection, self._job.id)
        if current is None or current.state is not State.VALIDATING:
            raise _Ended
