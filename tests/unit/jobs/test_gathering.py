import base64
import json
import threading
import zipfile

import pytest

from running_server import wait_for
from tunesmith.data.row_pictures import RowPictures
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.spec.errors import DatasetError, SourceNotFoundError, TooLargeError, TunesmithError
from tunesmith.spec.reading import AS_FOUND, Reading
from tunesmith.storage import Storage
from vision import COLOURS, png, says, shows

URL = "https://pictures.example/"


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "files")


@pytest.fixture
def gather(tmp_path, storage):
    """What is gathered of some rows, or of a file."""

    def fetch(address, most):
        colour = address.removeprefix(URL)
        if colour not in COLOURS:
            raise SourceNotFoundError(f"Nothing lies at {address!r}.")
        return png(colour)

    def gather(rows, *, reading=AS_FOUND, fetch=fetch, max_bytes=10**7, progress=lambda done, total: None):
        path = rows
        if isinstance(rows, list):
            path = tmp_path / "rows"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        writer = storage.writer()
        try:
            PictureGatherer(fetch, max_bytes).gather(path, reading, writer, progress)
            return RowPictures(writer.commit().path)
        finally:
            writer.discard()

    return gather


def shown(found, line, member=None):
    return [found.read(number) for number in found.shown_by(found.row_of(member, line))]


def test_each_row_gets_its_pictures_in_their_order_and_rows_without_any_get_none(gather):
    found = gather([shows(URL + "red", URL + "blue"), says("Hello?", "Hello."), shows(URL + "blue")])
    assert shown(found, 1) == [png("red"), png("blue")]
    assert shown(found, 3) == [png("blue")]
    with pytest.raises(DatasetError, match="Line 2"):
        found.row_of(None, 2)


def test_an_address_that_many_rows_show_is_kept_once_and_equal_pictures_make_equal_contents(gather):
    rows = [shows(URL + COLOURS[n % 2]) for n in range(100)]
    asked = []

    def fetch(address, most):
        asked.append(address)
        return png(address.removeprefix(URL))

    first, second = gather(rows, fetch=fetch), gather(rows)
    assert len(first) == 2
    assert len(asked) < 50
    assert first.path == second.path


def test_data_uris_and_columns_of_a_table_are_read(gather, tmp_path):
    uri = "data:image/png;base64," + base64.b64encode(png("green")).decode()
    path = tmp_path / "table.csv"
    path.write_text(f'url,caption\n"{uri}",Grass.\n{URL}red,Fire.\n')
    reading = Reading(columns={"image": "url", "completion": "caption"}, template="Describe it.")
    found = gather(path, reading=reading)
    assert (shown(found, 2), shown(found, 3)) == ([png("green")], [png("red")])


@pytest.mark.parametrize("name", ["pictures/a.png", "data/pictures/a.png", "./pictures/a.png"])
def test_files_of_the_archive_are_found_from_its_root_and_beside_the_rows(gather, tmp_path, name):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/rows.jsonl", json.dumps(shows(name)))
        archive.writestr("data/pictures/a.png", png("yellow"))
    assert shown(gather(path), 1, "data/rows.jsonl") == [png("yellow")]


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "other.png", "rows.jsonl"])
def test_what_is_no_picture_of_the_archive_is_refused_with_its_line(gather, tmp_path, name):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", json.dumps(shows(name)))
    with pytest.raises(DatasetError, match="Line 1: "):
        gather(path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (URL + "nothing", "Nothing lies at"),
        ("file:///etc/passwd", "is no address"),
        ("/etc/passwd", "is no address"),
        ("s3://bucket/a.png", "is no address"),
        ("data:image/png,abc", "not in base64"),
        ("data:image/png;base64,?", "cannot be decoded"),
        ("data:image/png;base64,", "a picture is empty"),
        ("data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(), "what should be a picture is none"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_line(gather, source, words):
    with pytest.raises(TunesmithError) as refused:
        gather([says("Hello?", "Hello."), shows(source)])
    assert refused.value.message.startswith("Line 2: ")
    assert words in refused.value.message


def test_no_more_bytes_are_gathered_than_allowed(gather):
    rows = [shows(URL + colour) for colour in COLOURS]
    with pytest.raises(TooLargeError, match=r"Line \d: the pictures have more than 200 bytes"):
        gather(rows, max_bytes=200)


class EndedError(Exception):
    """Nobody waits for the pictures any more."""


def end(_done, _total):
    raise EndedError


def test_gathering_ends_when_it_is_told_to(gather):
    with pytest.raises(EndedError):
        gather([shows(URL + "red")] * 50, progress=end)
    wait_for(lambda: not any(thread.name == "errands" for thread in threading.enumerate()))


def test_gathering_that_is_ended_does_not_wait_for_a_silent_server(gather):
    answers, waited = threading.Event(), threading.Event()

    def fetch(address, most):
        answers.wait(30)
        waited.set()
        return png("red")

    try:
        with pytest.raises(EndedError):
            gather([shows(URL + "red")], fetch=fetch, progress=end)
        assert not waited.is_set()
    finally:
        answers.set()
