"""The main of a training process: read the orders, train, report.

Run as `python -m tunesmith.worker RUN_DIRECTORY`, or call `main` in a process forked from one that has the libraries
imported and has computed nothing.
"""

import os
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
from tunesmith.spec.export import ExportSpec
from tunesmith.spec.job import AttemptSpec

if TYPE_CHECKING:
    from types import ModuleType

    from tunesmith.training.loop import Loop
    from tunesmith.training.reporting import Reporter
    from tunesmith.training.stopping import StopFlag

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def main(run_directory: Path) -> int:
    """Carry out the attempt that a run directory describes. Returns the exit code: 0 also after an obeyed stop."""
    os.environ.update(_OFFLINE)
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
    attempt = run.read_spec()
    if isinstance(attempt, ExportSpec):
        from tunesmith.training.exporting import make_export

        reporter.started("cpu")
        make_export(attempt, run, reporter, flag.poll)
        return
    method = _method(attempt.spec.method.kind)
    if attempt.purpose == "check":
        reporter.started("cpu")
        method.check(attempt, flag.poll)
        reporter.write(events.Checked)
        return
    _train(attempt, method, run, reporter, flag)


def _train(
    attempt: AttemptSpec, method: "ModuleType", run: RunDirectory, reporter: "Reporter", flag: "StopFlag"
) -> None:
    from transformers.utils.logging import disable_progress_bar

    from tunesmith.training.loop import Loop
    from tunesmith.training.model import device_name, pick_device
    from tunesmith.training.workplace import Workplace

    device = pick_device()
    reporter.started(device_name(device))
    disable_progress_bar()
    flag.step = _step_to_resume(attempt)
    task = method.build(attempt, Workplace(device=device, run=run, reporter=reporter, poll=flag.poll))
    flag.poll()
    loop = Loop(task, attempt.spec, run, reporter, flag)
    _resume(loop, attempt, reporter)
    flag.step = loop.progress.step
    try:
        loop.run()
    finally:
        flag.step = loop.progress.step
    change = loop.finish()
    reporter.write(events.Succeeded, step=loop.progress.step, path=run.artifact.name, logit_change=change)


def _step_to_resume(attempt: AttemptSpec) -> int:
    """The step that a stop during preparation reports: what earlier attempts have done."""
    from tunesmith.training.checkpoint import read_facts

    for folder in attempt.resume_from:
        with suppress(CheckpointError):
            return int(read_facts(folder)["step"])
    return 0


def _resume(loop: "Loop", attempt: AttemptSpec, reporter: "Reporter") -> None:
    from tunesmith.training.checkpoint import verify_folder

    for folder in attempt.resume_from:
        try:
            verify_folder(folder)
            loop.resume(folder)
        except CheckpointError as error:
            reporter.note(f"A checkpoint is passed over: {error.message}")
            continue
        reporter.write(events.Resumed, step=loop.progress.step)
        return
    if attempt.resume_from:
        reporter.note("No checkpoint is whole: the training starts from its first step.")


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
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    ):
        return OutOfMemoryError(
            f"The device's memory does not suffice: {text[0] if text else 'no detail'}",
            hint="Set `micro_batch_size` to 1, halve `max_length`, use gradient checkpointing, bfloat16, an adapter, "
            "4-bit quantization or a smaller model.",
        )
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
