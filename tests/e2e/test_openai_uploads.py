"""Uploads in parts over HTTP: limits, faults, races, and the end of the server in between."""

from concurrent.futures import ThreadPoolExecutor

import openai
import psutil
import pytest

from rows import chat_rows
from running_server import RunningServer

MIB = 1024**2


@pytest.fixture
def begin(server):
    def begin(content=b"abcd", **changes):
        body = {"filename": "a.txt", "purpose": "user_data", "mime_type": "text/plain", "bytes": len(content)}
        answer = server.http.post("/v1/uploads", json=body | changes)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return begin


def send(server, upload, content):
    return server.http.post(f"/v1/uploads/{upload}/parts", files={"data": ("blob", content)})


def complete(server, upload, *parts, **more):
    return server.http.post(f"/v1/uploads/{upload}/complete", json={"part_ids": list(parts), **more})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 8 * 1024**3 + 1}, "bytes"),
        ({"bytes": "4"}, "bytes"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_faulty_announcement_is_refused_by_its_field(server, change, param):
    body = {"filename": "a", "purpose": "batch", "mime_type": "text/plain", "bytes": 4}
    answer = server.http.post("/v1/uploads", json=body | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_faults_of_parts_are_answered_and_spoil_nothing(server, begin):
    upload = begin()
    part = send(server, upload, b"abcd").json()["id"]
    assert send(server, "upload_" + "0" * 32, b"a").status_code == 404
    assert send(server, "nonsense", b"a").status_code == 404
    as_text = server.http.post(f"/v1/uploads/{upload}/parts", data={"data": "abcd"}, files={"other": b"x"})
    assert (as_text.status_code, as_text.json()["error"]["param"]) == (400, "data")
    assert server.http.post(f"/v1/uploads/{upload}/parts", json={"data": "abcd"}).status_code == 415
    assert send(server, upload, b"x" * (64 * MIB + 1)).status_code == 413
    assert complete(server, upload).json()["error"]["param"] == "part_ids"
    assert complete(server, upload, part, md5="0").json()["error"]["param"] == "md5"
    assert complete(server, upload, part, md5="0" * 32).json()["error"]["param"] == "md5"
    done = complete(server, upload, part)
    assert done.json()["file"]["filename"] == "a.txt"
    assert complete(server, upload, part).status_code == 409


def test_rows_that_cannot_be_trained_on_are_refused_as_in_an_upload_of_one_piece(server, begin):
    upload = begin(b"hello\n", purpose="fine-tune")
    part = send(server, upload, b"hello\n").json()["id"]
    in_parts = complete(server, upload, part)
    whole = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.txt", b"hello\n")})
    assert (in_parts.status_code, in_parts.json()) == (whole.status_code, whole.json())
    assert in_parts.status_code == 400


def test_of_several_completions_at_once_one_makes_a_file(server, begin):
    content = b"x" * MIB
    upload = begin(content)
    part = send(server, upload, content).json()["id"]
    before = len(server.http.get("/v1/files").json()["data"])
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: complete(server, upload, part).status_code, range(6)))
    assert sorted(answers) == [200, 409, 409, 409, 409, 409]
    assert len(server.http.get("/v1/files").json()["data"]) == before + 1


@pytest.mark.slow
def test_an_upload_goes_on_after_a_power_cut(write_home, tmp_path):
    server = RunningServer(write_home(tmp_path / "home"), TUNESMITH_WARM_WORKERS="false")
    try:
        content = chat_rows(30)
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
        kinds = {"mime_type": "application/jsonl", "purpose": "fine-tune"}
        upload = client.uploads.create(bytes=len(content), filename="rows.jsonl", **kinds)
        first = client.uploads.parts.create(upload.id, data=content[:1000])
        server.kill()
        server.restart()
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
        second = client.uploads.parts.create(upload.id, data=content[1000:])
        done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
        assert client.files.content(done.file.id).read() == content
    finally:
        server.stop()


@pytest.mark.slow
def test_large_parts_are_received_and_joined_in_little_memory(write_home, tmp_path):
    server = RunningServer(write_home(tmp_path / "home"), TUNESMITH_WARM_WORKERS="false")
    try:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
        list(client.files.list())
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        content = bytes(200 * MIB)
        done = client.uploads.upload_file_chunked(
            file=content, filename="big.bin", bytes=len(content), mime_type="application/x-binary", purpose="batch"
        )
        assert done.file.bytes == len(content)
        assert process.memory_info().rss - before < 50 * MIB
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "1e9"}, "expires_after[seconds]"),
        ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
        ({"expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        ({"expires_after": "3600"}, "expires_after"),
        ({"colour": "red"}, "colour"),
        ({"purpose": "fine-tune-results"}, "purpose"),
    ],
)
def test_a_faulty_field_of_a_file_is_refused_by_its_name(server, fields, param):
    answer = server.http.post("/v1/files", data={"purpose": "batch", **fields}, files={"file": ("a", b"a")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
