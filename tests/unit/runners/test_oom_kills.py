"""The kernel's own count of processes that it ended for want of memory."""

import signal
import sys

import pytest

from tunesmith.runners import Exit
from tunesmith.runners._oom_kills import count_oom_kills
from tunesmith.runners.local import _was_out_of_memory

VMSTAT = "nr_free_pages 5\noom_kill 7\n"


@pytest.fixture
def machine(tmp_path):
    """A machine whose kernel tells these things, by path."""

    def make(files):
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.events": "low 0\noom 4\noom_kill 3\n"},
        {"proc/self/cgroup": "0::/../host\n", "sys/fs/cgroup/memory.events": "oom_kill 3\noom_group_kill 9\n"},
        {
            "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/x\n0::/\n",
            "sys/fs/cgroup/memory/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
        },
    ],
    ids=["version 2", "within a container", "version 1"],
)
def test_the_control_groups_count_wins_over_the_machines(machine, files):
    assert count_oom_kills(machine({"proc/vmstat": VMSTAT, **files})) == 3


@pytest.mark.parametrize("files", [{}, {"proc/self/cgroup": "0::/gone\n"}, {"proc/self/cgroup": ""}])
def test_without_a_group_the_machine_is_asked(machine, files):
    assert count_oom_kills(machine({"proc/vmstat": VMSTAT, **files})) == 7


def test_a_kernel_that_tells_nothing_has_no_count(machine):
    assert count_oom_kills(machine({"proc/vmstat": "nr_free_pages 5\n"})) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts")
def test_this_machine_has_a_count():
    assert count_oom_kills() is not None


@pytest.mark.parametrize(
    ("before", "ended", "expected"),
    [
        (-1, Exit(signal=signal.SIGKILL), True),
        (-1, Exit(signal=signal.SIGSEGV), False),
        (-1, Exit(code=1), False),
        (10**9, Exit(signal=signal.SIGKILL), False),
        (None, Exit(signal=signal.SIGKILL), False),
    ],
)
@pytest.mark.skipif(count_oom_kills() is None, reason="this kernel does not count")
def test_a_killed_worker_is_taken_for_a_victim_only_if_the_count_has_risen(before, ended, expected):
    assert _was_out_of_memory({"pid": 1, "identity": "x", "oom_kills": before}, ended) is expected
