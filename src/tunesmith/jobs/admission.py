"""What is checked before a job is accepted, so that a bad request is answered at once and takes no GPU."""

import shutil
import time
import uuid
from pathlib import Path
from threading import BoundedSemaphore

from pydantic import ValidationError

from tunesmith.assets.datasets import Datasets
from tunesmith.assets.files import Files
from tunesmith.data.validate import DatasetReport
from tunesmith.devices import CPU
from tunesmith.jobs.inputs import InputResolver
from tunesmith.plugins import load_plugins
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Exit, Handle, Runner
from tunesmith.spec.errors import (
    ERRORS,
    DatasetError,
    InvalidRequestError,
    UnavailableError,
    UnsupportedError,
    subject,
)
from tunesmith.spec.events import Checked, Failed
from tunesmith.spec.job import AttemptSpec, DataSource, Inputs, JobSpec

_POLL_SECONDS = 0.01
# Reading on until the first trainable row takes well under a second, unless there is none in a large file.
_CHECK_SECONDS = 30.0
_SIMULTANEOUS_CHECKS = 2


class Admission:
    """Accepts or refuses a spec."""

    def __init__(self, runner: Runner, resolver: InputResolver, files: Files, datasets: Datasets, checks: Path) -> None:
        self._runner = runner
        self._resolver = resolver
        self._files = files
        self._datasets = datasets
        self._checks = checks
        self._slots = BoundedSemaphore(_SIMULTANEOUS_CHECKS)
        shutil.rmtree(checks, ignore_errors=True)
        checks.mkdir(parents=True)

    def admit(self, spec: JobSpec) -> None:
        """Check everything about a spec that can be known before training.

        Raises:
            TunesmithError: the job cannot succeed; `param` is the path in the spec.
        """
        _check_method(spec)
        inputs = self._resolver.resolve(spec)
        self._check_rows(spec.data.train, "data.train")
        if spec.data.validation:
            self._check_rows(spec.data.validation, "data.validation")
        with self._slots:
            self._check_in_worker(spec, inputs)

    def _check_rows(self, source: DataSource, param: str) -> None:
        report = self._report(source, param)
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

    def _report(self, source: DataSource, param: str) -> DatasetReport:
        if source.kind == "dataset":
            return self._datasets.get(source.id, param=param).report
        report = self._files.get(source.id, param=param).report
        if report is None:
            raise InvalidRequestError(
                f"File {source.id!r} was not uploaded as training data.",
                param=param,
                hint="Upload it with the purpose 'fine-tune'.",
            )
        return report

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


def _check_method(spec: JobSpec) -> None:
    methods = load_plugins("tunesmith.methods")
    if spec.method.kind not in methods:
        known = ", ".join(methods)
        raise UnsupportedError(f"Method {spec.method.kind!r} is not available; known: {known}.", param="method.kind")
    try:
        methods[spec.method.kind].Parameters.model_validate(spec.method.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(["method", "parameters", *(str(part) for part in first["loc"])])
        raise InvalidRequestError(f"{path}: {first['msg']}.", param=path) from error


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
