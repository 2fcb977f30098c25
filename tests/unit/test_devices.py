import pytest

from tunesmith.devices import chosen

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
