"""Exports of produced models: taken, made one after the other in a worker process, and removed."""

import logging
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.devices import CPU
from tunesmith.jobs.export_orders import ExportOrders
from tunesmith.jobs.stalls import Patience, Stalls
from tunesmith.rundir import RunDirectory, model_files
from tunesmith.runners import Exit, Handle, Runner
from tunesmith.spec import events as reported
from tunesmith.spec.errors import (
    BusyError,
    ErrorInfo,
    ExportNotFoundError,
    InternalError,
    ModelNotFoundError,
    OutOfMemoryError,
    TunesmithError,
    WorkerLostError,
)
from tunesmith.spec.export import Format, Number, Quantization
from tunesmith.store import exports, models
from tunesmith.store.database import Database
from tunesmith.store.exports import Export, ExportFile, ExportProgress
from tunesmith.store.models import ProducedModel

_log = logging.getLogger(__name__)

MAX_WAITING = 20
"""Exports of one organisation that may wait or run at a time."""

_MAX_ATTEMPTS = 3

_OUT_OF_MEMORY = OutOfMemoryError(
    "The system ended the export's worker, because its memory ran out.",
    hint="Export when no training runs, or on a machine with more memory: the whole model is held in float32.",
)


class Exports:
    """The exports of an organisation's models."""

    def __init__(
        self, database: Database, orders: ExportOrders, folder: Path, wake: Callable[[], None], org: str
    ) -> None:
        self._database = database
        self._orders = orders
        self._folder = folder
        self._wake = wake
        self._org = org

    def create(
        self, model_id: str, format: Format, *, dtype: Number | None, quantization: Quantization | None
    ) -> Export:
        """Take an export of a model; it is made as soon as those before it are.

        Raises:
            ModelNotFoundError: no such model, or its base is gone.
            InvalidRequestError: the number format does not belong to the format.
            UnsupportedError: the format cannot hold such a model.
            DiskFullError: the volume has no room for it.
            BusyError: too many wait already.
        """
        model = self._model(model_id)
        options = self._orders.options(model, format, dtype, quantization)
        with self._database.write() as connection:
            if exports.count_unfinished(connection, self._org) >= MAX_WAITING:
                raise BusyError(f"{MAX_WAITING} exports wait already.", hint="Wait for one, or delete one.")
            export = exports.add(
                connection, uuid.uuid4().hex, org=self._org, model_id=model.id, options=options, at=time.time()
            )
        self._wake()
        return export

    def listed(self, model_id: str) -> list[Export]:
        """The exports of a model, newest first.

        Raises:
            ModelNotFoundError: no such model.
        """
        model = self._model(model_id)
        with self._database.read() as connection:
            return exports.of_model(connection, self._org, model.id)

    def get(self, model_id: str, id: str) -> Export:
        """One export.

        Raises:
            ExportNotFoundError: the model has no such export.
        """
        with self._database.read() as connection:
            return self._get(connection, model_id, id)

    def delete(self, model_id: str, id: str) -> None:
        """Delete an export and its files; one that is being made is broken off.

        Raises:
            ExportNotFoundError: the model has no such export.
        """
        with self._database.write() as connection:
            exports.mark_deleted(connection, self._get(connection, model_id, id).id, time.time())
        self._wake()

    def path(self, export: Export) -> Path:
        """The folder of a ready export."""
        return files_of(self._folder, export.id)

    def _model(self, id: str) -> ProducedModel:
        with self._database.read() as connection:
            model = models.get(connection, self._org, id)
        if model is None:
            raise ModelNotFoundError(f"No model that a job here produced is called {id!r}.", param="model_id")
        return model

    def _get(self, connection: Connection, model_id: str, id: str) -> Export:
        export = exports.get(connection, self._org, model_id, id)
        if export is None:
            raise ExportNotFoundError(
                f"The model {model_id!r} has no export {id!r}.", param="export_id", hint="List its exports."
            )
        return export


class Exporter:
    """Makes exports on the CPU, one at a time, so that trainings keep their devices. The next server follows a worker
    that this one leaves; an export whose worker is lost, or shows no sign of getting on for too long, is begun anew."""

    def __init__(
        self, database: Database, runner: Runner, orders: ExportOrders, folder: Path, patience: Patience
    ) -> None:
        self._database = database
        self._runner = runner
        self._orders = orders
        self._folder = folder
        self._stalls = Stalls(patience)

    def tick(self) -> None:
        """Remove what was deleted, follow the worker, and start the next one."""
        with self._database.read() as connection:
            deleted = exports.deleted(connection)
            running = [each for each in exports.in_state(connection, "running") if each.deleted_at is None]
            queued = [each for each in exports.in_state(connection, "queued") if each.deleted_at is None]
        for export in deleted:
            self._remove(export)
        for export in running:
            self._follow(export)
        if not running and queued and self._runner.is_ready():
            self._start(queued[0])

    def _start(self, export: Export) -> None:
        with self._database.write() as connection:
            export = exports.change(connection, export.id, state="running", attempts=export.attempts + 1, handle=None)
        run = self._run(export)
        try:
            run.write_spec(self._orders.write(export))
            handle = self._runner.start(run, CPU)
        except (TunesmithError, OSError) as error:
            info = error.info if isinstance(error, TunesmithError) else InternalError(str(error)).info
            self._fail(export, info)
            return
        with self._database.write() as connection:
            exports.change(connection, export.id, handle=handle)

    def _follow(self, export: Export) -> None:
        run = self._run(export)
        handle = export.handle or self._runner.find(run)
        # Asked before the events are read: whatever a dead worker wrote is then complete.
        ended = self._runner.poll(handle, run) if handle else Exit()
        told, _ = run.read_events(0)
        verdict = next((each for each in told if isinstance(each, reported.Exported | reported.Failed)), None)
        if ended is None:
            assert handle is not None
            if verdict is not None:
                self._runner.stop(handle, force=True)
            else:
                self._look_for_stall(export, handle, run)
            self._tell(export, told)
        elif isinstance(verdict, reported.Exported):
            self._publish(export, run, verdict)
        elif isinstance(verdict, reported.Failed):
            self._fail(export, verdict.error)
        else:
            self._lose(export, ended)

    def _look_for_stall(self, export: Export, handle: Handle, run: RunDirectory) -> None:
        """Have a silent worker write into its log where it stands, and remove it after longer."""
        match self._stalls.look((export.id, export.attempts), run.last_sign()):
            case "warn":
                _log.warning("the worker of export %s has shown no sign of getting on for long", export.id)
                self._runner.dump(handle)
            case "lost":
                self._runner.stop(handle, force=True)

    def _tell(self, export: Export, told: list[reported.WorkerEvent]) -> None:
        newest = next((each for each in reversed(told) if isinstance(each, reported.Exporting)), None)
        if newest is None:
            return
        progress = ExportProgress(stage=newest.stage, done=newest.done, total=newest.total)
        if progress != export.progress:
            with self._database.write() as connection:
                exports.change(connection, export.id, progress=progress.model_dump())

    def _publish(self, export: Export, run: RunDirectory, verdict: reported.Exported) -> None:
        """Safe to repeat after a crash."""
        final, written = files_of(self._folder, export.id), run.path / verdict.path
        if written.is_dir():
            shutil.rmtree(final, ignore_errors=True)
            written.rename(final)
        files = [
            ExportFile(name=name, bytes=(final / name).stat().st_size, sha256=sha256)
            for name, sha256 in sorted(model_files(final).items())
        ]
        with self._database.write() as connection:
            exports.change(
                connection,
                export.id,
                state="ready",
                progress=None,
                files=[file.model_dump() for file in files],
                verification=verdict.verification.model_dump(),
                finished_at=time.time(),
            )
        shutil.rmtree(run.path.parent, ignore_errors=True)

    def _lose(self, export: Export, ended: Exit) -> None:
        stall = self._stalls.verdict((export.id, export.attempts))
        if ended.out_of_memory and stall is None:
            self._fail(export, _OUT_OF_MEMORY.info)
            return
        how = stall or _how(ended)
        if export.attempts < _MAX_ATTEMPTS:
            _log.warning("the worker of export %s was lost (%s); it is begun anew", export.id, how)
            self._tidy(export)
            with self._database.write() as connection:
                exports.change(connection, export.id, state="queued", progress=None)
            return
        error = WorkerLostError(
            f"The worker was lost {export.attempts} times, the last time: {how}.",
            hint="A signal 9 often means that the machine ran out of memory: a merge holds the model in float32.",
        )
        self._fail(export, error.info)

    def _fail(self, export: Export, error: ErrorInfo) -> None:
        self._tidy(export)
        with self._database.write() as connection:
            exports.change(
                connection, export.id, state="failed", progress=None, error=error.model_dump(), finished_at=time.time()
            )

    def _tidy(self, export: Export) -> None:
        """Remove what a worker left but its log."""
        run = self._run(export)
        for part in (run.artifact, *run.path.glob(f".{run.artifact.name}.*")):
            shutil.rmtree(part, ignore_errors=True)

    def _remove(self, export: Export) -> None:
        if export.state == "running":
            run = self._run(export)
            # A server that died right after the start of a worker has not written down its handle.
            handle = export.handle or self._runner.find(run)
            if handle is not None:
                self._runner.stop(handle, force=True)
                if self._runner.poll(handle, run) is None:
                    return  # the next pass finds it dead
        shutil.rmtree(self._folder / export.id, ignore_errors=True)
        with self._database.write() as connection:
            exports.mark_removed(connection, export.id)

    def _run(self, export: Export) -> RunDirectory:
        return RunDirectory(self._folder / export.id / "attempts" / str(export.attempts))


def files_of(folder: Path, export_id: str) -> Path:
    """Where the files of a ready export lie."""
    return folder / export_id / "files"


def _how(ended: Exit) -> str:
    if ended.signal is not None:
        return f"signal {ended.signal}"
    return "nobody saw how it ended" if ended.code is None else f"exit code {ended.code}"
