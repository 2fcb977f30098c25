"""What is checked before a job is accepted, so that a bad request is answered at once and takes no GPU."""

import shutil
import time
import uuid
from pathlib import Path
from threading import BoundedSemaphore
from types import ModuleType

from pydantic import ValidationError
from sqlalchemy import Connection

from tunesmith.data.validate import DatasetReport, inspect
from tunesmith.devices import CPU
from tunesmith.jobs.fetching import Fetcher, Keep, Progress
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.resources import Policy, fitted
from tunesmith.plugins import load_plugins
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Exit, Handle, Runner
from tunesmith.spec.errors import (
    ERRORS,
    DatasetError,
    DatasetNotFoundError,
    FileNotFoundInStoreError,
    InvalidRequestError,
    TunesmithError,
    UnavailableError,
    UnsupportedError,
    subject,
)
from tunesmith.spec.events import Checked, Failed
from tunesmith.spec.job import AttemptSpec, DataSource, Frozen, Inputs, JobSpec
from tunesmith.spec.reading import Reading
from tunesmith.storage import Storage
from tunesmith.store import datasets, files
from tunesmith.store.database import Database

_POLL_SECONDS = 0.01
# Reading on until the first trainable row takes well under a second, unless there is none in a large file.
_CHECK_SECONDS = 30.0
_SIMULTANEOUS_CHECKS = 2


class Admitted(Frozen):
    """A spec that was accepted."""

    spec: JobSpec
    is_complete: bool
    """Whether everything is here and was checked; otherwise the rest is fetched and checked next."""

    notes: tuple[str, ...]
    """Sentences about what was adjusted."""


class Admission:
    """Accepts or refuses a spec."""

    def __init__(
        self,
        database: Database,
        runner: Runner,
        fetcher: Fetcher,
        resolver: InputResolver,
        storage: Storage,
        checks: Path,
        unavailable_resources: Policy,
    ) -> None:
        self._database = database
        self._runner = runner
        self._fetcher = fetcher
        self._resolver = resolver
        self._storage = storage
        self._checks = checks
        self._unavailable_resources = unavailable_resources
        self._slots = BoundedSemaphore(_SIMULTANEOUS_CHECKS)
        shutil.rmtree(checks, ignore_errors=True)
        checks.mkdir(parents=True)

    def admit(self, org: str, spec: JobSpec) -> Admitted:
        """Check everything about a spec that can be known before a download and before training.

        Raises:
            TunesmithError: the job cannot succeed; `param` is the path in the spec.
        """
        _check_method(spec)
        spec, notes = fitted(spec, self._runner.devices(), self._unavailable_resources)
        validation = spec.data.validation
        if validation is not None and validation.sha256 is not None and validation.sha256 == spec.data.train.sha256:
            notes.append("The validation data are the training data, so their loss says nothing about other rows.")
        spec = self._fetcher.pin(org, spec)
        is_complete = self._fetcher.is_here(org, spec)
        if is_complete:
            self._check(org, spec)
        return Admitted(spec=spec, is_complete=is_complete, notes=tuple(notes))

    def complete(self, org: str, spec: JobSpec, progress: Progress, keep: Keep) -> JobSpec:
        """Fetch what an admitted spec lacks, and check it as a whole.

        Raises:
            TunesmithError: the job cannot succeed; `param` is the path in the spec. Whatever `progress` and `keep`
                raise passes through.
        """
        spec = self._fetcher.fetch(org, spec, progress, keep)
        self._check(org, spec)
        return spec

    def _check(self, org: str, spec: JobSpec) -> None:
        inputs = self._resolver.resolve(org, spec)
        for param, source in (("data.train", spec.data.train), ("data.validation", spec.data.validation)):
            if source is not None and source.kind != "images":  # prepared pictures have no rows
                self._check_rows(org, source, spec.data.reading, param)
        with self._slots:
            self._check_in_worker(spec, inputs)

    def _check_rows(self, org: str, source: DataSource, reading: Reading, param: str) -> None:
        report = self._report(org, source, reading, param)
        if report.problem_count == 0:
            return
        shown = "; ".join(
            f"line {problem.line}{f', {problem.field}' if problem.field else ''}: {problem.reason}"
            for problem in report.problems[:5]
        )
        more = f" (the first 5 of {report.problem_count})" if report.problem_count > 5 else ""
        raise DatasetError(
            f"{report.problem_count} of {report.rows} rows cannot be used{more}: {shown}",
            param=param,
            hint="Correct or remove these rows and send the file again.",
        )

    def _report(self, org: str, source: DataSource, reading: Reading, param: str) -> DatasetReport:
        """What the rows are: as found at the upload, unless they are to be read in another way now."""
        stored = None
        with self._database.read() as connection:
            if source.kind == "file":
                stored = _report_of_file(connection, org, source.id, param)
            elif source.kind == "dataset":
                stored = _report_of_dataset(connection, org, source.id, param)
        if stored is not None and stored.reading == reading:
            return stored
        assert source.sha256 is not None  # fetched before
        try:
            return inspect(self._storage.path(source.sha256), reading)
        except TunesmithError as error:
            raise type(error)(error.message, param=param, hint=error.hint) from error

    def _check_in_worker(self, spec: JobSpec, inputs: Inputs) -> None:
        run = RunDirectory(self._checks / uuid.uuid4().hex)
        run.write_spec(AttemptSpec(job_id="check", attempt=1, purpose="check", spec=spec, inputs=inputs))
        handle = self._runner.start(run, CPU)
        try:
            ended = self._await(handle, run)
            if ended is not None:
                _judge(run, ended)
        finally:
            self._runner.stop(handle, force=True)
            shutil.rmtree(run.path, ignore_errors=True)

    def _await(self, handle: Handle, run: RunDirectory) -> Exit | None:
        deadline = time.monotonic() + _CHECK_SECONDS
        while time.monotonic() < deadline:
            ended = self._runner.poll(handle, run)
            if ended is not None:
                return ended
            time.sleep(_POLL_SECONDS)
        return None  # the worker will tell


def _report_of_file(connection: Connection, org: str, id: str, param: str) -> DatasetReport:
    file = files.get(connection, id)
    if file is None or file.org != org:
        raise FileNotFoundInStoreError(f"No file has the id {id!r}.", param=param)
    if file.report is None:
        raise InvalidRequestError(
            f"File {id!r} was not uploaded as training data.",
            param=param,
            hint="Upload it with the purpose 'fine-tune'.",
        )
    return file.report


def _report_of_dataset(connection: Connection, org: str, reference: str, param: str) -> DatasetReport:
    name, _, version = reference.partition("@")
    dataset = datasets.get(connection, org, name, int(version) if version else None)
    if dataset is None:
        raise DatasetNotFoundError(f"No dataset is registered as {reference!r}.", param=param)
    return dataset.report


def _check_method(spec: JobSpec) -> None:
    methods = load_plugins("tunesmith.methods")
    if spec.method.kind not in methods:
        known = ", ".join(methods)
        raise UnsupportedError(f"Method {spec.method.kind!r} is not available; known: {known}.", param="method.kind")
    _check_kind_of_model(spec, methods[spec.method.kind])
    try:
        methods[spec.method.kind].Parameters.model_validate(spec.method.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["method", "parameters", *(str(part) for part in first["loc"])])
        raise InvalidRequestError(f"{path}: {first['msg']}.", param=path) from error


def _check_kind_of_model(spec: JobSpec, method: ModuleType) -> None:
    """Refused before anything is fetched."""
    for param, value, allowed in (
        ("model.modality", spec.model.modality, method.MODALITIES),
        ("model.task", spec.model.task, method.TASKS),
    ):
        if value not in allowed:
            raise UnsupportedError(
                f"Method {spec.method.kind!r} does not train {value!r} models in this version; it trains: "
                f"{', '.join(allowed)}.",
                param=param,
            )
    for param in ("train", "validation"):
        source = getattr(spec.data, param)
        if source is not None and source.kind == "images" and spec.model.modality != "image":
            raise UnsupportedError(
                f"The data are pictures, and a {spec.model.modality!r} model is asked for.", param=f"data.{param}"
            )


def _judge(run: RunDirectory, ended: Exit) -> None:
    """Turn what a check reported into an answer."""
    reported, _ = run.read_events(0)
    for event in reported:
        if isinstance(event, Checked):
            return
        if isinstance(event, Failed):
            kind = ERRORS[event.error.code]
            raise kind(event.error.message, param=subject(event.error), hint=event.error.hint)
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    raise UnavailableError(
        f"The data could not be checked: the worker process ended with {how} before it could report.",
        hint="Run `tunesmith doctor` on the server.",
    )
