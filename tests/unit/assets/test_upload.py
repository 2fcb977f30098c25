import asyncio
import errno

import pytest

from tunesmith.assets.upload import receive
from tunesmith.spec.errors import DiskFullError, InvalidRequestError, TooLargeError, UnsupportedMediaTypeError
from tunesmith.storage import BlobWriter, Storage

BOUNDARY = "frontier"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def body(*parts):
    text = b""
    for headers, content in parts:
        text += f"--{BOUNDARY}\r\n{headers}\r\n\r\n".encode() + content + b"\r\n"
    return text + f"--{BOUNDARY}--\r\n".encode()


FILE = ('Content-Disposition: form-data; name="file"; filename="rows.jsonl"', b'{"text": "a"}\n')
PURPOSE = ('Content-Disposition: form-data; name="purpose"', b"fine-tune")


@pytest.fixture
def storage(tmp_path):
    return Storage(tmp_path / "files")


def send(storage, data, *, content_type=CONTENT_TYPE, piece=7, max_bytes=1000):
    async def pieces():
        for start in range(0, len(data), piece):
            yield data[start : start + piece]

    return asyncio.run(receive(pieces(), content_type, storage=storage, file_field="file", max_bytes=max_bytes))


def left_over(storage, tmp_path):
    return list((tmp_path / "files" / "incoming").iterdir())


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_fields_and_file_arrive_however_the_body_is_cut(storage, piece):
    form = send(storage, body(PURPOSE, FILE), piece=piece)
    assert form.fields == {"purpose": "fine-tune"}
    assert form.filename == "rows.jsonl"
    blob = form.file.commit()
    assert blob.path.read_bytes() == b'{"text": "a"}\n'


@pytest.mark.parametrize(
    ("sent", "kept"), [("../../x", "x"), ("C:\\\\dir\\\\x.jsonl", "x.jsonl"), ("", "upload"), ("a" * 300, "a" * 255)]
)
def test_a_filename_is_only_a_label(storage, sent, kept):
    part = (f'Content-Disposition: form-data; name="file"; filename="{sent}"', b"x")
    assert send(storage, body(part)).filename == kept


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        body(FILE)[:-20],
        body(FILE, FILE),
        body(("Content-Disposition: form-data", b"x")),
        body(('Content-Disposition: form-data; name="file"', b"as text")),
        body(('Content-Disposition: form-data; name="purpose"', b"\xff\xfe")),
        body(*[PURPOSE] * 40),
    ],
    ids=["empty", "nonsense", "cut off", "two files", "no name", "file as text", "not text", "many parts"],
)
def test_malformed_bodies_are_refused_and_leave_nothing(storage, tmp_path, data):
    with pytest.raises(InvalidRequestError):
        send(storage, data)
    assert left_over(storage, tmp_path) == []


def test_a_large_file_is_refused_while_it_comes_in(storage, tmp_path):
    part = ('Content-Disposition: form-data; name="file"; filename="x"', b"x" * 1001)
    with pytest.raises(TooLargeError, match="1,000 bytes"):
        send(storage, body(part))
    assert left_over(storage, tmp_path) == []


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
def test_other_content_types_are_refused(storage, content_type):
    with pytest.raises(UnsupportedMediaTypeError):
        send(storage, body(FILE), content_type=content_type)


def test_a_full_disk_is_named_and_leaves_nothing(storage, tmp_path):
    class FullDisk:
        def write(self, _data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    writer = storage.writer()
    writer._file.close()
    writer._file = FullDisk()
    with pytest.raises(DiskFullError):
        BlobWriter.write(writer, b"x")
    writer.discard()
    assert left_over(storage, tmp_path) == []
