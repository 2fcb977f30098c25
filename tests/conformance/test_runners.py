"""What every runner owes, shown with real processes."""

import os
import signal
import sys

import psutil
import pytest

from running_server import wait_for
from tunesmith.devices import CPU
from tunesmith.plugins import load_plugins
from tunesmith.rundir import RunDirectory
from tunesmith.runners import Exit

RUNNERS = load_plugins("tunesmith.runners")


@pytest.fixture(
    scope="module",
    params=[(name, warm) for name in RUNNERS for warm in (True, False)],
    ids=lambda param: f"{param[0]}-{'warm' if param[1] else 'cold'}",
)
def runner(request):
    name, warm = request.param
    runner = RUNNERS[name].create(sys.executable, warm, None)
    runner.open()
    wait_for(runner.is_ready)
    yield runner
    runner.close()


@pytest.fixture
def run(tmp_path):
    """A run directory whose worker ends at once: its orders are not JSON."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.spec.write_text("not JSON")
    return run


@pytest.fixture
def waiting_run(tmp_path):
    """A run directory whose worker waits: its orders come through a pipe that nobody writes to."""
    run = RunDirectory(tmp_path / "waiting")
    run.path.mkdir()
    os.mkfifo(run.spec)
    return run


def end_of(runner, handle, run):
    return wait_for(lambda: runner.poll(handle, run), seconds=20)


def test_it_has_at_least_one_device_that_is_clear(runner):
    devices = runner.devices()
    assert devices
    assert all(runner.is_clear(device) for device in devices)


def test_a_worker_runs_and_its_exit_code_is_told(runner, run):
    handle = runner.start(run, CPU)
    assert end_of(runner, handle, run) == Exit(code=1, signal=None)
    assert "not JSON" in run.events.read_text() or "Invalid JSON" in run.log.read_text()


def test_a_living_worker_is_alive(runner, waiting_run):
    handle = runner.start(waiting_run, CPU)
    wait_for(waiting_run.is_held)
    assert runner.poll(handle, waiting_run) is None
    runner.stop(handle, force=True)
    assert end_of(runner, handle, waiting_run).signal == signal.SIGKILL


def test_a_killed_worker_is_noticed_within_two_seconds(runner, waiting_run):
    handle = runner.start(waiting_run, CPU)
    wait_for(waiting_run.is_held)
    os.kill(handle["pid"], signal.SIGKILL)
    assert wait_for(lambda: runner.poll(handle, waiting_run), seconds=2).signal == signal.SIGKILL


def test_a_handle_lets_another_runner_follow_the_worker(runner, waiting_run):
    handle = runner.start(waiting_run, CPU)
    wait_for(waiting_run.is_held)
    other = next(iter(RUNNERS.values())).create(sys.executable, False, None)
    assert other.poll(handle, waiting_run) is None
    other.stop(handle, force=True)
    wait_for(lambda: not waiting_run.is_held())
    assert end_of(other, handle, waiting_run) is not None


def test_stopping_a_worker_that_is_gone_does_nothing(runner, run):
    handle = runner.start(run, CPU)
    end_of(runner, handle, run)
    runner.stop(handle, force=True)
    runner.stop(handle, force=False)


def test_a_number_that_belongs_to_another_process_by_now_is_not_mistaken_for_the_worker(runner, run):
    stranger = psutil.Process()
    handle = {"pid": stranger.pid, "identity": "some earlier process"}
    assert runner.poll(handle, run) == Exit()
    runner.stop(handle, force=True)
    assert stranger.is_running()


def test_a_run_directory_without_worker_is_told_so(runner, run):
    assert runner.find(run) is None
    assert not run.spec.exists()
