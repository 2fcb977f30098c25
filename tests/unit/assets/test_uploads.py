"""Uploads in parts: order, sizes and digests are checked, and whatever ends one frees what its parts take."""

import hashlib

import pytest

from rows import chat_rows
from tunesmith.assets import uploads as module
from tunesmith.assets.content import ContentUse
from tunesmith.assets.files import Files
from tunesmith.assets.uploads import LIFETIME_SECONDS, Uploads, delete_expired_uploads
from tunesmith.spec.errors import ConflictError, DatasetError, InvalidRequestError, NotFoundError, TooLargeError
from tunesmith.storage import Storage
from tunesmith.store import uploads as rows
from tunesmith.store.database import Database


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "files")


@pytest.fixture
def parts(tmp_path):
    return Storage(tmp_path / "files" / "parts")


@pytest.fixture
def uploads(database, storage, parts):
    return Uploads(database, storage, parts, "org")


@pytest.fixture
def files(database, storage):
    return Files(database, storage, ContentUse(storage), "org")


def begin(uploads, content=b"abcd", **changes):
    wanted = {"filename": "a.txt", "purpose": "user_data", "mime_type": "text/plain", "bytes": len(content)}
    return uploads.begin(**(wanted | changes))


def send(uploads, upload, *contents):
    return [uploads.add_part(upload.id, received(uploads, content)).id for content in contents]


def received(uploads, content):
    writer = uploads.parts.writer()
    writer.write(content)
    writer.finish()
    return writer


def contents_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_parts_are_joined_in_the_named_order_and_their_room_is_given_back(uploads, files, tmp_path):
    upload = begin(uploads)
    first, last, _unused = send(uploads, upload, b"cd", b"ab", b"zz")
    done, file = uploads.complete(upload.id, [last, first], hashlib.md5(b"abcd").hexdigest().upper())
    assert (done.status, done.file_id) == ("completed", file.id)
    assert files.path(files.get(file.id)).read_bytes() == b"abcd"
    assert contents_in(tmp_path / "files" / "parts") == []


def test_an_upload_survives_the_end_of_the_server(uploads, database, storage, tmp_path):
    upload = begin(uploads)
    ids = send(uploads, upload, b"ab", b"cd")
    received(uploads, b"cut off")  # neither committed nor discarded, as a power cut leaves it
    again = Uploads(database, storage, Storage(tmp_path / "files" / "parts"), "org")
    assert again.complete(upload.id, ids, None)[1].bytes == 4
    assert contents_in(tmp_path / "files" / "parts") == []


def test_equal_parts_of_two_uploads_do_not_take_each_others_content(uploads):
    one, other = begin(uploads), begin(uploads)
    send(uploads, one, b"abcd")
    ids = send(uploads, other, b"abcd")
    uploads.cancel(one.id)
    assert uploads.complete(other.id, ids, None)[1].bytes == 4


def test_training_data_is_read_through_before_a_file_is_made_of_it(uploads, files):
    bad = begin(uploads, b"hello\n", purpose="fine-tune")
    ids = send(uploads, bad, b"hello\n")
    with pytest.raises(DatasetError):
        uploads.complete(bad.id, ids, None)
    assert files.listed(limit=None) == []
    assert uploads.require_pending(bad.id).status == "pending"
    content = chat_rows()
    good = begin(uploads, content, purpose="fine-tune")
    _, file = uploads.complete(good.id, send(uploads, good, content[:100], content[100:]), None)
    assert file.report.rows == 12


def test_a_lifetime_begins_when_the_file_is_whole(uploads):
    upload = begin(uploads, lifetime=3600.0)
    _, file = uploads.complete(upload.id, send(uploads, upload, b"abcd"), None)
    assert file.expires_at - file.created_at == 3600


@pytest.mark.parametrize(
    ("choose", "md5", "param"),
    [
        (lambda ids: ids[:1], None, "part_ids"),
        (lambda ids: [ids[0], ids[0]], None, "part_ids.1"),
        (lambda ids: [*ids, "0" * 32], None, "part_ids.2"),
        (lambda ids: ids, "0" * 32, "md5"),
    ],
)
def test_what_does_not_fit_the_announcement_is_refused_and_may_be_tried_again(uploads, files, choose, md5, param):
    upload = begin(uploads)
    ids = send(uploads, upload, b"ab", b"cd")
    with pytest.raises(InvalidRequestError) as caught:
        uploads.complete(upload.id, choose(ids), md5)
    assert caught.value.param == param
    assert files.listed(limit=None) == []
    assert uploads.complete(upload.id, ids, None)[1].bytes == 4


def test_a_part_of_another_upload_does_not_count(uploads):
    one, other = begin(uploads), begin(uploads)
    [foreign] = send(uploads, other, b"abcd")
    with pytest.raises(InvalidRequestError, match="has no part"):
        uploads.complete(one.id, [foreign], None)


def test_an_ended_upload_takes_nothing_more(uploads):
    completed, cancelled = begin(uploads), begin(uploads)
    ids = send(uploads, completed, b"abcd")
    uploads.complete(completed.id, ids, None)
    uploads.cancel(cancelled.id)
    for upload, word in ((completed, "completed"), (cancelled, "cancelled")):
        for again in (
            lambda id: uploads.add_part(id, received(uploads, b"a")),
            lambda id: uploads.complete(id, ids, None),
            uploads.cancel,
        ):
            with pytest.raises(ConflictError, match=word):
                again(upload.id)


def test_an_expired_upload_is_told_so_and_frees_its_parts(uploads, database, parts, tmp_path):
    upload, other = begin(uploads), begin(uploads)
    send(uploads, upload, b"abcd")
    kept = send(uploads, other, b"efgh")
    with database.write() as connection:
        rows.change(connection, upload.id, expires_at=upload.created_at)
    with pytest.raises(ConflictError, match="expired"):
        uploads.require_pending(upload.id)
    with database.write() as connection:
        delete_expired_uploads(connection, parts, at=upload.created_at + LIFETIME_SECONDS - 1)
        assert rows.get(connection, "org", upload.id).status == "expired"
    assert len(contents_in(tmp_path / "files" / "parts")) == 1
    assert uploads.complete(other.id, kept, None)[1].bytes == 4


def test_another_organisation_sees_no_upload(uploads, database, storage, parts):
    upload = begin(uploads)
    with pytest.raises(NotFoundError):
        Uploads(database, storage, parts, "other").cancel(upload.id)


def test_parts_together_have_a_limit(uploads, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MAX_UPLOAD_BYTES", 6)
    upload = begin(uploads)
    send(uploads, upload, b"abcd")
    with pytest.raises(TooLargeError):
        send(uploads, upload, b"efg")
    assert len(contents_in(tmp_path / "files" / "parts")) == 1
