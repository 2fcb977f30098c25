import pytest

from tunesmith.devices import CPU, _group_limits, chosen, memory_bytes

NAMES = ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, NAMES),
        ("", []),
        ("1", ["GPU-bbbb"]),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("GPU-bb", ["GPU-bbbb"]),
        ("0,7,1", ["GPU-aaaa"]),
        ("-1", []),
        ("all", []),
    ],
)
def test_visible_gpus_are_chosen_as_cuda_does(visible, expected):
    assert chosen(NAMES, visible) == expected


def test_memory_is_that_of_the_tightest_control_group(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("9:cpu:/\n4:memory:/jobs/one\n0::/jobs/one\n")
    for path, limit in (
        ("memory.max", "max"),
        ("jobs/one/memory.max", "7000"),
        ("memory/jobs/one/memory.limit_in_bytes", "9000"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(limit + "\n")
    assert sorted(_group_limits(tmp_path, membership)) == [7_000, 9_000]


def test_where_there_are_no_control_groups_the_machine_is_the_limit(tmp_path):
    assert list(_group_limits(tmp_path, tmp_path / "cgroup")) == []
    assert memory_bytes(CPU) > 2**20
