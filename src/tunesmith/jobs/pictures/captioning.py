"""Captions by a model, in a worker process of its own."""

import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from threading import BoundedSemaphore

from tunesmith.assets.models import BaseModels
from tunesmith.devices import CPU
from tunesmith.jobs.pictures.report import Report
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Handle, Runner
from tunesmith.spec.errors import ERRORS, TunesmithError, UnavailableError, UnsupportedError
from tunesmith.spec.events import Captioned, Failed
from tunesmith.spec.job import AttemptSpec, Inputs, JobSpec

PARAM = "data.images.captioning"

_POLL_SECONDS = 0.1
_SILENT_SECONDS = 900.0
"""Longest time without another caption; the first one waits for the model to be loaded."""


class Captioner:
    """Has the operator's model describe pictures, on the processor: GPUs belong to trainings. One job at a time."""

    def __init__(self, runner: Runner, bases: BaseModels, model: str | None, runs: Path) -> None:
        self._runner = runner
        self._bases = bases
        self._model = model
        self._runs = runs
        self._turn = BoundedSemaphore(1)

    def check(self) -> Path:
        """The model's folder.

        Raises:
            UnsupportedError: the operator named no model.
            UnavailableError: it cannot be loaded.
        """
        if self._model is None:
            raise UnsupportedError(
                "This server has no model that captions pictures.",
                param=PARAM,
                hint="Use another strategy, or have the operator set captioning_model.",
            )
        try:
            return self._bases.find(self._model)
        except TunesmithError as error:
            raise UnavailableError(f"The captioning model cannot be used: {error.message}", param=PARAM) from error

    def captions(self, spec: JobSpec, folder: Path, names: Sequence[str], report: Report) -> dict[str, str]:
        """What the model says of the PNG files of a folder, by name.

        Raises:
            TunesmithError: the model fails. Whatever `report` raises passes through.
        """
        inputs = Inputs(model=self.check(), train=folder, validation=None, adapter=None)
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            report.stage("captioning", 0, len(names))
        run = RunDirectory(self._runs / uuid.uuid4().hex)
        try:
            run.write_spec(AttemptSpec(job_id="caption", attempt=1, purpose="caption", spec=spec, inputs=inputs))
            handle = self._runner.start(run, CPU)
            try:
                return self._follow(run, handle, names, report)
            finally:
                self._runner.stop(handle, force=True)
        finally:
            shutil.rmtree(run.path, ignore_errors=True)
            self._turn.release()

    def _follow(self, run: RunDirectory, handle: Handle, names: Sequence[str], report: Report) -> dict[str, str]:
        captions: dict[str, str] = {}
        offset, heard = 0, time.monotonic()
        while True:
            report.stage("captioning", len(captions), len(names))
            ended = self._runner.poll(handle, run)
            reported, offset = run.read_events(offset)
            for event in reported:
                heard = time.monotonic()
                if isinstance(event, Captioned):
                    captions[event.picture] = event.caption
                elif isinstance(event, Failed):
                    raise ERRORS[event.error.code](event.error.message, param=PARAM, hint=event.error.hint)
            if len(captions) == len(names):
                return captions
            if ended is not None or time.monotonic() - heard > _SILENT_SECONDS:
                how = "fell silent" if ended is None else f"ended with {ended.code or f'signal {ended.signal}'}"
                raise UnavailableError(
                    f"The captioning model {how} after {len(captions)} of {len(names)} pictures.", param=PARAM
                )
            time.sleep(_POLL_SECONDS)
