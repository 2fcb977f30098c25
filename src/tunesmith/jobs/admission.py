"""What is checked before a job is accepted, so that a bad request is answered at once and takes no GPU."""

import math
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore
from types import ModuleType
from typing import Literal, Protocol

from pydantic import ValidationError
from sqlalchemy import Connection

from tunesmith.data.validate import DatasetReport, inspect
from tunesmith.devices import CPU
from tunesmith.jobs.fetching import PARTS, Fetcher, Keep, lacks_pictures
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.pace import timed
from tunesmith.jobs.pictures.preparing import Pictures
from tunesmith.jobs.pictures.report import Report
from tunesmith.jobs.resources import Policy, fitted, largest
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
from tunesmith.spec.faults import place, sentence
from tunesmith.spec.image_training import require_image_training
from tunesmith.spec.job import AttemptSpec, DataSource, Frozen, JobSpec
from tunesmith.spec.plan import Plan
from tunesmith.spec.reading import Reading
from tunesmith.storage import Storage
from tunesmith.store import datasets, files
from tunesmith.store.database import Database

_POLL_SECONDS = 0.01
# Reading on until the first trainable row takes well under a second, unless there is none in a large file.
_CHECK_SECONDS = 30.0
_PLAN_SECONDS = 120.0
# Of each pace: nobody's submission waits for plans or for pictures, which take longer.
_SIMULTANEOUS = 2


Purpose = Literal["check", "plan"]

Pace = Literal["check", "plan", "pictures"]
"""What a worker is asked, by the time that it may take. As long as it needs for pictures, each of which is decoded."""

_PACES: dict[Pace, float] = {"check": _CHECK_SECONDS, "plan": _PLAN_SECONDS, "pictures": math.inf}

Look = Callable[[], None]
"""Called while a worker is waited for. What it raises ends the waiting and the worker."""


def _nothing() -> None:
    pass


class Watch(Report, Protocol):
    """Told how the fetching and the preparation go, and ends them for a job that nobody waits for any more."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """As `fetching.Progress`."""
        ...


class Admitted(Frozen):
    """A spec that was accepted."""

    spec: JobSpec
    is_complete: bool
    """Whether everything is here and was checked; otherwise the rest is fetched and checked next."""

    notes: tuple[str, ...]
    """Sentences about what was adjusted."""

    plan: Plan | None = None
    """What it will cost; none if it is not complete, or if the worker had no time to tell."""


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
        device_memory: int | None = None,
        *,
        pictures: Pictures,
    ) -> None:
        self._database = database
        self._runner = runner
        self._fetcher = fetcher
        self._resolver = resolver
        self._storage = storage
        self._checks = checks
        self._unavailable_resources = unavailable_resources
        self._device_memory = device_memory
        self._pictures = pictures
        self._slots = {pace: BoundedSemaphore(_SIMULTANEOUS) for pace in _PACES}
        shutil.rmtree(checks, ignore_errors=True)
        checks.mkdir(parents=True)

    def admit(self, org: str, spec: JobSpec, purpose: Purpose = "check") -> Admitted:
        """Check everything about a spec that can be known before a download and before training. A `plan` takes longer
        over what the job will cost, and does not refuse one that does not fit.

        Raises:
            TunesmithError: the job cannot succeed; `param` is the path in the spec.
        """
        _check_method(spec)
        spec, notes = fitted(spec, self._runner.devices(), self._unavailable_resources)
        validation = spec.data.validation
        if validation is not None and validation.sha256 is not None and validation.sha256 == spec.data.train.sha256:
            notes.append("The validation data are the training data, so their loss says nothing about other rows.")
        if spec.model.modality == "image":
            require_image_training(spec)
            self._pictures.check(org, spec)
        spec = self._fetcher.pin(org, spec)
        if spec.data.train.kind == "images" and self._fetcher.has_models(org, spec):
            self._resolver.require_model(org, spec)
        is_here = self._fetcher.is_here(org, spec)
        if not is_here:
            self._look_at_rows(org, spec)
        plan = self._check(org, spec, purpose) if is_here else None
        is_complete = is_here and not lacks_pictures(spec)
        return Admitted(spec=spec, is_complete=is_complete, notes=tuple(notes), plan=plan)

    def complete(self, org: str, spec: JobSpec, watch: Watch, keep: Keep) -> Plan | None:
        """Fetch and prepare what an admitted spec lacks, check it as a whole, and tell what it will cost.

        Raises:
            TunesmithError: the job cannot succeed; `param` is the path in the spec. Whatever `watch` and `keep` raise
                passes through.
        """
        spec = self._fetcher.fetch(org, spec, watch, keep)
        if spec.data.train.kind == "images" and spec.data.train.sha256 is None:
            self._resolver.require_model(org, spec)  # before much work is done for it
            spec = self._pictures.prepare(org, spec, watch, keep)
        if lacks_pictures(spec):
            self._check(org, spec, "check")  # so that no picture is fetched for a model that cannot look at it
            spec = self._fetcher.gather(spec, watch, keep)
        return self._check(org, spec, "check", watch.poll)

    def _check(self, org: str, spec: JobSpec, purpose: Purpose, look: Look = _nothing) -> Plan | None:
        """Have a worker look at everything that is here. No plan comes of rows whose pictures are not."""
        inputs = self._resolver.resolve(org, spec)
        report = None
        if spec.data.train.kind != "images":  # those were verified when they were prepared
            report = self._require_usable(org, spec.data.train, spec.data.reading, "data.train")
        if spec.data.validation:
            self._require_usable(org, spec.data.validation, spec.data.reading, "data.validation")
        attempt = AttemptSpec(
            job_id=purpose,
            attempt=1,
            purpose=purpose,
            spec=spec,
            inputs=inputs,
            device=largest(self._runner.devices(), self._device_memory),
            rows=report.rows if report else None,
            classes=report.classes if report else (),
        )
        pace: Pace = "pictures" if inputs.pictures is not None else purpose
        with self._slots[pace]:
            plan = self._plan_in_worker(attempt, _PACES[pace], look)
        return None if plan is None else timed(self._database, org, spec, plan)

    def _look_at_rows(self, org: str, spec: JobSpec) -> None:
        """Refuse rows that are here and cannot be used, before anything else is fetched."""
        for part in PARTS:
            source = getattr(spec.data, part)
            if source is not None and source.kind != "images" and source.sha256 is not None:
                self._require_usable(org, source, spec.data.reading, f"data.{part}")

    def _require_usable(self, org: str, source: DataSource, reading: Reading, param: str) -> DatasetReport:
        """What the rows are, if each of them can be used."""
        report = self._report(org, source, reading, param)
        if report.problem_count == 0:
            return report
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

    def _plan_in_worker(self, attempt: AttemptSpec, seconds: float, look: Look) -> Plan | None:
        run = RunDirectory(self._checks / uuid.uuid4().hex)
        run.write_spec(attempt)
        handle = self._runner.start(run, CPU)
        try:
            ended = self._await(handle, run, seconds, look)
            return None if ended is None else _judged(run, ended)
        finally:
            self._runner.stop(handle, force=True)
            shutil.rmtree(run.path, ignore_errors=True)

    def _await(self, handle: Handle, run: RunDirectory, seconds: float, look: Look) -> Exit | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self._runner.poll(handle, run)
            if ended is not None:
                return ended
            look()
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
    _check_selection(spec, methods[spec.method.kind])
    try:
        methods[spec.method.kind].Parameters.model_validate(spec.method.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["method", "parameters", *map(str, place(first, spec.method.parameters))])
        raise InvalidRequestError(sentence(first, path), param=path) from error


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
                hint=_method_for(param, value),
            )
    for param in ("train", "validation"):
        source = getattr(spec.data, param)
        if source is not None and source.kind == "images" and spec.model.modality != "image":
            raise UnsupportedError(
                f"The data are pictures, and a {spec.model.modality!r} model is asked for.", param=f"data.{param}"
            )


def _method_for(param: str, value: str) -> str | None:
    """Which methods train such models; none if none does."""
    field = {"model.modality": "MODALITIES", "model.task": "TASKS"}[param]
    fitting = [name for name, method in load_plugins("tunesmith.methods").items() if value in getattr(method, field)]
    return f"Methods that do: {', '.join(fitting)}." if fitting else None


def _check_selection(spec: JobSpec, method: ModuleType) -> None:
    """Refuse what is to follow from evaluations that there will not be, or from a figure that they do not have."""
    known = ("loss", *method.FIGURES)
    if spec.selection.metric not in known:
        raise InvalidRequestError(
            f"Method {spec.method.kind!r} reports no figure {spec.selection.metric!r}; it reports: {', '.join(known)}.",
            param="selection.metric",
        )
    if spec.data.validation is not None or (spec.data.split is not None and spec.data.split.may_validate):
        return
    for param, is_asked_for in (
        ("selection.patience", spec.selection.patience is not None),
        ("selection.result", spec.selection.result == "best"),
        ("cadence.evaluate_first", spec.cadence.evaluate_first),
    ):
        if is_asked_for:
            raise InvalidRequestError(
                f"`{param.rpartition('.')[2]}` needs rows to evaluate, and the job has none.",
                param=param,
                hint="Add validation data (`validation`), or a `split` with a share for validation.",
            )


def _judged(run: RunDirectory, ended: Exit) -> Plan | None:
    """Turn what a check reported into an answer."""
    reported, _ = run.read_events(0)
    for event in reported:
        if isinstance(event, Checked):
            return event.plan
        if isinstance(event, Failed):
            kind = ERRORS[event.error.code]
            raise kind(event.error.message, param=subject(event.error), hint=event.error.hint)
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    raise UnavailableError(
        f"The data could not be checked: the worker process ended with {how} before it could report.",
        hint="Run `tunesmith doctor` on the server.",
    )
