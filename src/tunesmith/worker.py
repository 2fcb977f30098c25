"""The main of a training process: read the orders, train, report.

Run as `python -m tunesmith.worker RUN_DIRECTORY`, or call `main` in a process forked from one that has the libraries
imported and has computed nothing.
"""

import faulthandler
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.plugins import load_plugins
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec import events
from tunesmith.spec.errors import (
    CheckpointError,
    DiskFullError,
    InternalError,
    OutOfMemoryError,
    TunesmithError,
    UnsupportedError,
)
from tunesmith.spec.exactness import Fingerprints
from tunesmith.spec.export import ExportSpec
from tunesmith.spec.job import AttemptSpec

if TYPE_CHECKING:
    from types import ModuleType

    from tunesmith.training.loop import Loop
    from tunesmith.training.reporting import Reporter
    from tunesmith.training.stopping import StopFlag
    from tunesmith.training.whereabouts import Whereabouts

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def main(run_directory: Path) -> int:
    """Carry out the attempt that a run directory describes. Returns the exit code: 0 also after an obeyed stop."""
    os.environ.update(_OFFLINE)
    # In C, so that it also answers where Python hangs in a library's call.
    faulthandler.register(signal.SIGUSR1, file=2)
    from tunesmith.training.quantization import hide_bitsandbytes
    from tunesmith.training.reporting import Reporter
    from tunesmith.training.stopping import StopFlag, StopRequested

    hide_bitsandbytes()
    flag = StopFlag()
    flag.listen()
    run = RunDirectory(run_directory)
    run.hold()
    writer = EventWriter(run)
    reporter = Reporter(writer)
    try:
        _carry_out(run, reporter, flag)
    except StopRequested:
        reporter.write(events.Stopped, step=flag.step)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server must hear of it
        reporter.write(events.Failed, error=_explained(error).info)
        return 1
    finally:
        writer.close()
    return 0


def _carry_out(run: RunDirectory, reporter: "Reporter", flag: "StopFlag") -> None:
    from tunesmith.training.shortage import is_shortage, too_little_memory
    from tunesmith.training.whereabouts import Whereabouts

    attempt = run.read_spec()
    if isinstance(attempt, ExportSpec):
        _export(attempt, run, reporter, flag)
        return
    if attempt.purpose == "caption":
        _caption(attempt, reporter, flag)
        return
    method = _method(attempt.spec.method.kind)
    at = Whereabouts(phase="loading" if attempt.purpose == "train" else "check")
    try:
        if attempt.purpose == "train":
            _train(attempt, method, run, reporter, flag, at)
        else:
            reporter.started("cpu")
            _plan(attempt, method, reporter, flag)
    except Exception as error:
        if not is_shortage(error):
            raise
        traceback.print_exception(error)
        raise too_little_memory(error, at, attempt.spec) from error


def _export(order: ExportSpec, run: RunDirectory, reporter: "Reporter", flag: "StopFlag") -> None:
    from tunesmith.training.exporting import make_export
    from tunesmith.training.shortage import is_shortage

    reporter.started("cpu")
    try:
        make_export(order, run, reporter, flag.poll)
    except Exception as error:
        if not is_shortage(error):
            raise
        traceback.print_exception(error)
        raise OutOfMemoryError(
            f"This machine's memory does not suffice for the export: {error}",
            hint="Export when no training runs, or on a machine with more memory: the whole model is held at once.",
        ) from error


def _caption(attempt: AttemptSpec, reporter: "Reporter", flag: "StopFlag") -> None:
    from tunesmith.training.captioning import caption_pictures

    reporter.started("cpu")
    caption_pictures(attempt, reporter, flag.poll)


def _plan(attempt: AttemptSpec, method: "ModuleType", reporter: "Reporter", flag: "StopFlag") -> None:
    rows = method.check(attempt, flag.poll)
    from tunesmith.training.plan import plan_of, require_room

    plan = None if rows is None else plan_of(attempt, rows)
    if plan is not None and attempt.purpose == "check":
        require_room(plan)
    reporter.write(events.Checked, plan=plan)


def _train(
    attempt: AttemptSpec,
    method: "ModuleType",
    run: RunDirectory,
    reporter: "Reporter",
    flag: "StopFlag",
    at: "Whereabouts",
) -> None:
    from transformers.utils.logging import disable_progress_bar

    from tunesmith.training.fingerprint import fingerprints_of
    from tunesmith.training.loop import Loop
    from tunesmith.training.model import device_name, pick_device
    from tunesmith.training.workplace import Workplace

    device = pick_device()
    reporter.started(device_name(device))
    disable_progress_bar()
    flag.step = _step_to_resume(attempt)

    def poll() -> None:
        reporter.beat()
        flag.poll()

    task = method.build(attempt, Workplace(device=device, run=run, reporter=reporter, poll=poll))
    poll()
    fingerprints = fingerprints_of(attempt, device)
    loop = Loop(task, attempt.spec, fingerprints, run, reporter, flag, at)
    _resume(loop, attempt, fingerprints, reporter)
    flag.step = loop.progress.step
    try:
        loop.run()
    finally:
        flag.step = loop.progress.step
    change = loop.finish()
    reporter.write(
        events.Succeeded,
        step=loop.progress.step,
        path=run.artifact.name,
        weights_of=loop.weights_of,
        logit_change=change,
    )


def _step_to_resume(attempt: AttemptSpec) -> int:
    """The step that a stop during preparation reports: what earlier attempts have done."""
    from tunesmith.training.checkpoint import read_facts

    for folder in attempt.resume_from:
        with suppress(CheckpointError):
            return int(read_facts(folder)["step"])
    return 0


def _resume(loop: "Loop", attempt: AttemptSpec, fingerprints: Fingerprints, reporter: "Reporter") -> None:
    from tunesmith.training.checkpoint import verify_folder

    reasons = []
    for folder in attempt.resume_from:
        try:
            verify_folder(folder)
            changes = loop.resume(folder)
        except CheckpointError as error:
            reporter.note(f"A checkpoint is passed over: {error.message}")
            reasons.append(error.message)
            continue
        loop.adopt(attempt.resume_from)
        reporter.write(
            events.Resumed,
            step=loop.progress.step,
            exactness="approximate" if changes else "exact",
            differences=changes,
            fingerprints=fingerprints,
        )
        return
    loop.adopt(attempt.resume_from)
    if attempt.attempt > 1 or attempt.resume_from:
        why = tuple(reasons) or ("no checkpoint had been saved",)
        reporter.write(events.Resumed, step=0, exactness="restarted", differences=why, fingerprints=fingerprints)


def _method(kind: str) -> "ModuleType":
    methods = load_plugins("tunesmith.methods")
    if kind not in methods:
        raise UnsupportedError(f"Unknown method {kind!r}; known methods: {', '.join(methods)}.", param="method.kind")
    return methods[kind]


def _explained(error: Exception) -> TunesmithError:
    if isinstance(error, TunesmithError):
        return error
    from tunesmith.training.checkpoint import is_disk_full

    traceback.print_exception(error)
    text = str(error).strip().splitlines()
    if is_disk_full(error):
        return DiskFullError(
            f"No room is left on the volume: {error}",
            hint="Free some space and submit the job again; its checkpoints so far are kept.",
        )
    return InternalError(
        f"{type(error).__name__}: {text[0] if text else 'no detail'}", hint="The job's log has the details."
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
