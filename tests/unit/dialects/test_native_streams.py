"""Logs in pieces, streams that resume, and archives that are made while they are sent."""

import io
import threading
import zipfile
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.dialects._logs import read_log
from tunesmith.dialects.native.archive import zipped
from tunesmith.dialects.native.events import EventReader, thinned
from tunesmith.dialects.native.logs import LogReader, whole_characters
from tunesmith.dialects.native.streaming import follow
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event


def event(number, kind="note"):
    return Event(
        number=number, id=f"{number:032}", job_id="j", attempt=1, at=1.0, level="info", kind=kind, message="m", data={}
    )


class StoredJobs:
    """The door to one job, whose events and logs the test decides."""

    def __init__(self, state=State.RUNNING, events=(), logs=()):
        self.state = state
        self.stored = list(events)
        self.paths = list(logs)

    def get(self, id):
        return SimpleNamespace(state=self.state)

    def events(self, id, *, limit=None, after=None):
        known = [each.id for each in self.stored]
        if after is not None and after not in known:
            raise InvalidRequestError(f"The job has no event {after!r}.", param="after")
        return self.stored[known.index(after) + 1 if after else 0 :][:limit]

    def logs(self, id):
        return self.paths


def reader_of(jobs, after=None, kinds=None):
    return EventReader(SimpleNamespace(jobs=jobs), "j", after, kinds)


def log_of(jobs, start=0):
    return LogReader(SimpleNamespace(jobs=jobs), "j", start)


def collect(look):
    """All that a stream sends until its end."""

    async def run():
        return [sent async for sent in follow(look, threading.Event())]

    return anyio.run(run)


def test_a_stream_has_every_event_once_and_an_end():
    jobs = StoredJobs(State.SUCCEEDED, [event(number) for number in range(1, 1001)])
    _, *sent, end = collect(reader_of(jobs).look)
    assert [each.id for each in sent] == [each.id for each in jobs.stored]
    assert (end.event, end.data, end.id) == ("end", {"state": "succeeded"}, None)


def test_a_stream_breaks_off_without_an_end_when_the_server_ends():
    jobs, ending = StoredJobs(State.RUNNING, [event(1)]), threading.Event()
    reader = reader_of(jobs)

    async def run():
        sent = []
        async for each in follow(reader.look, ending):
            sent.append(each)
            if each.id:
                ending.set()
        return sent

    assert [each.event for each in anyio.run(run)] == [None, "note"]


def test_a_stream_goes_on_behind_the_named_event():
    jobs = StoredJobs(State.FAILED, [event(number) for number in range(1, 11)])
    _, *sent, _end = collect(reader_of(jobs, after=f"{7:032}").look)
    assert [each.id for each in sent] == [f"{number:032}" for number in (8, 9, 10)]


def test_a_stream_behind_an_unknown_event_does_not_begin():
    with pytest.raises(InvalidRequestError):
        reader_of(StoredJobs(events=[event(1)]), after="unknown")


def test_events_that_come_later_are_sent_then_and_the_stream_waits_for_the_end():
    jobs = StoredJobs(State.RUNNING, [event(1)])
    reader = reader_of(jobs)
    assert [each.id for each in reader.look().events] == [f"{1:032}"]
    assert (reader.look().events, reader.look().state) == ((), None)
    jobs.stored.append(event(2))
    jobs.state = State.CANCELLED
    last = reader.look()
    assert ([each.id for each in last.events], last.state) == ([f"{2:032}"], "cancelled")


def test_a_stream_of_metrics_leaves_other_events_out():
    kinds = ("note", "metrics", "state", "evaluated", "note")
    jobs = StoredJobs(State.SUCCEEDED, [event(number + 1, kind) for number, kind in enumerate(kinds)])
    _, *sent, _end = collect(reader_of(jobs, kinds=("metrics", "evaluated")).look)
    assert [each.event for each in sent] == ["metrics", "evaluated"]


TEXT = "Löss 损失 📉\r\n"


@given(st.text(max_size=40), st.integers(1, 200))
def test_a_text_cut_anywhere_comes_out_whole(text, cut):
    content = text.encode()
    first, used = whole_characters(content[:cut], is_end=False)
    rest, _ = whole_characters(content[used:], is_end=True)
    assert first + rest == text


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_never_stop_a_log(content):
    text, used = whole_characters(content, is_end=True)
    assert used == len(content)
    assert text == content.decode("utf-8", "replace")


@pytest.fixture
def attempts(tmp_path):
    """Logs of two attempts."""
    paths = [tmp_path / "1", tmp_path / "2"]
    paths[0].write_bytes(TEXT.encode())
    paths[1].write_bytes(b"second")
    return paths


def test_logs_of_attempts_are_one_text(attempts):
    whole = TEXT.encode() + b"second"
    for start in range(len(whole) + 2):
        for limit in (1, 5, 100):
            assert read_log(attempts, start, limit) == whole[start : start + limit]


def test_a_log_resumes_at_any_piece_s_id(attempts):
    jobs = StoredJobs(State.RUNNING, logs=attempts[:1])
    content = TEXT.encode()
    attempts[0].write_bytes(content[:2])  # within the second character
    reader = log_of(jobs)
    [first] = reader.look().events
    assert (first.data["text"], first.id) == ("L", "1")
    assert reader.look().events == ()
    attempts[0].write_bytes(content)
    jobs.paths = attempts
    jobs.state = State.SUCCEEDED
    resumed = log_of(jobs, start=int(first.id)).look()
    assert first.data["text"] + resumed.events[0].data["text"] == TEXT + "second"
    assert resumed.state == "succeeded"


def test_a_log_that_ends_within_a_character_ends(attempts):
    attempts[1].write_bytes("é".encode()[:1])
    _, piece, end = collect(log_of(StoredJobs(State.FAILED, logs=attempts)).look)
    assert piece.data["text"] == TEXT + "�"
    assert end.event == "end"


def test_a_place_behind_the_log_is_refused(attempts):
    with pytest.raises(InvalidRequestError):
        log_of(StoredJobs(logs=attempts), start=10_000)


@pytest.mark.parametrize(("count", "limit"), [(0, 2), (1, 2), (2, 2), (10, 10), (11, 10), (1000, 7)])
def test_thinning_keeps_the_first_and_the_last_point(count, limit):
    points = list(range(count))
    chosen = thinned(points, limit)
    assert len(chosen) == min(count, limit)
    assert sorted(set(chosen)) == chosen
    assert (chosen[:1], chosen[-1:]) == (points[:1], points[-1:])


def test_an_archive_is_sent_in_pieces_and_unpacks(tmp_path):
    large, empty = tmp_path / "large", tmp_path / "empty"
    large.write_bytes(bytes(range(256)) * 20_000)
    empty.touch()
    pieces = list(zipped([("model/weights", large), ("logs/ä.log", empty)]))
    assert max(map(len, pieces)) < 2 * 1024 * 1024
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["model/weights", "logs/ä.log"]
        assert archive.read("model/weights") == large.read_bytes()
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_log_that_grows_while_it_is_packed_does_not_spoil_the_archive(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"x" * 3_000_000)
    sent = zipped([("log", log)])
    first = next(sent)
    with log.open("ab") as more:
        more.write(b"y" * 3_000_000)
    with zipfile.ZipFile(io.BytesIO(first + b"".join(sent))) as archive:
        assert archive.read("log") == b"x" * 3_000_000
