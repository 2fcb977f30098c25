import pytest

from tunesmith.dialects._logs import end_of_log, read_log


@pytest.fixture
def logs(tmp_path):
    """Two attempts' logs: 4 and 5 bytes."""
    paths = [tmp_path / "1", tmp_path / "2"]
    for path, content in zip(paths, (b"one\n", "tw\N{LATIN SMALL LETTER O WITH DIAERESIS}\n".encode()), strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize(
    ("start", "limit", "expected"), [(0, 100, b"one\ntw\xc3\xb6\n"), (2, 4, b"e\ntw"), (4, 1, b"t"), (9, 5, b"")]
)
def test_logs_are_read_as_if_they_were_one(logs, start, limit, expected):
    assert read_log(logs, start, limit) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(100, "one\ntw\xf6\n"), (9, "one\ntw\xf6\n"), (6, "\ntw\xf6\n"), (3, "\xf6\n"), (2, "\n")]
)
def test_the_end_of_a_log_begins_with_a_whole_character(logs, limit, expected):
    assert end_of_log(logs, limit) == expected


def test_there_may_be_no_log(tmp_path):
    assert end_of_log([], 10) == ""


def test_of_a_large_log_only_the_end_is_read(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(2**33)  # a hole: takes no room on disk
        file.seek(0, 2)
        file.write(b"the end")
    assert end_of_log([path], 7) == "the end"
