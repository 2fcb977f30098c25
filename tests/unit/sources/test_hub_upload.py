import hashlib
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from tunesmith.sources.hub.upload import FileToPush, HubUploads
from tunesmith.spec.errors import (
    AddressRefusedError,
    InvalidRequestError,
    PushError,
    SourceCredentialsError,
    UnsupportedError,
)
from web_server import reply

FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(5_000_000),
    "empty.safetensors": b"",
    "notes ü.txt": b"x",
}


@pytest.fixture
def files(tmp_path):
    found = []
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        found.append(FileToPush(name, tmp_path / name, len(content), hashlib.sha256(content).hexdigest()))
    return found


@pytest.fixture
def push(hub, limits, files):
    def run(repo="owner/new", token=None, *, private=True, files=files, progress=lambda done, total: None):
        uploads = HubUploads(limits, hub.url)
        return uploads.push(files, repo, token or hub.WRITERS_TOKEN, private=private, message="m", progress=progress)

    return run


def content_of(hub, repo="owner/new"):
    repository = hub.repositories["model", repo]
    return repository.commits[repository.revisions["main"]]


def uploads_of_large_files(hub):
    return [path for role, path, _ in hub.requests if role == "files"]


def test_a_repository_is_made_and_gets_every_file_in_one_commit(hub, push):
    told = []
    pushed = push(progress=lambda done, total: told.append((done, total)))
    assert content_of(hub) == FILES
    assert hub.repositories["model", "owner/new"].private
    assert pushed.commit == hub.repositories["model", "owner/new"].revisions["main"]
    total = sum(map(len, FILES.values()))
    assert told[0] == (0, total)
    assert told[-1] == (total, total)
    assert all(before[0] <= after[0] for before, after in pairwise(told))


def test_a_public_repository_is_made_only_when_asked_for(hub, push):
    push(private=False)
    assert not hub.repositories["model", "owner/new"].private


def test_a_large_file_is_sent_in_the_parts_that_the_hub_asks_for(hub, push):
    hub.part_bytes = 2_000_000
    push()
    assert content_of(hub) == FILES
    assert len(uploads_of_large_files(hub)) == 3


def test_a_second_push_sends_only_large_files_that_the_hub_lacks(hub, push, files, tmp_path):
    push()
    (tmp_path / "config.json").write_bytes(b'{"a": 1}')
    hub.requests.clear()
    push()
    assert uploads_of_large_files(hub) == []
    assert content_of(hub)["config.json"] == b'{"a": 1}'


def test_an_upload_that_fails_now_and_then_is_tried_again(hub, push):
    hub.upload_faults += [500, 503]
    push()
    assert content_of(hub) == FILES


def test_an_upload_that_keeps_failing_says_that_nothing_is_sent_twice(hub, push):
    hub.upload_faults += [503] * 5
    with pytest.raises(PushError, match="status 503, 5 times in a row") as error:
        push()
    assert "not sent twice" in error.value.hint
    assert not hub.repositories["model", "owner/new"].commits


def test_content_given_beside_a_file_is_pushed_in_its_place(hub, push, files):
    content = b'{"base": "name"}'
    replaced = FileToPush("config.json", files[0].path, len(content), hashlib.sha256(content).hexdigest(), content)
    push(files=[replaced])
    assert content_of(hub) == {"config.json": content}


@pytest.mark.parametrize("token", ["hf_nobody", "hf_token_of_a_reader"])
def test_a_token_without_the_right_to_write_is_refused_and_not_repeated(hub, push, token):
    with pytest.raises(SourceCredentialsError, match="does not let this token write") as error:
        push(token=token)
    assert token not in str(error.value)


def test_the_token_goes_to_the_hub_alone(hub, push):
    hub.part_bytes = 2_000_000
    push()
    for role, _, headers in hub.requests:
        assert (hub.WRITERS_TOKEN in str(headers)) == (role == "hub")


@pytest.mark.parametrize("repo", ["", "a/b/c", "../x", "owner/na me", "owner/x..y"])
def test_a_malformed_name_is_refused_before_anything_is_asked(hub, push, repo):
    with pytest.raises(InvalidRequestError):
        push(repo)
    assert hub.requests == []


def test_a_hub_that_is_down_is_named(hub, push):
    hub.down = True
    with pytest.raises(PushError, match="status 503"):
        push()


def test_what_is_no_hub_is_named(web, limits, files):
    web.answers["/api/repos/create"] = lambda handler: reply(handler, body=b"<html>")
    with pytest.raises(PushError, match="no hub"):
        HubUploads(limits, web.url).push(files, "a/b", "t", private=True, message="", progress=lambda *_: None)


def test_a_hub_in_a_network_that_is_not_allowed_is_not_asked(hub, limits, files):
    guarded = HubUploads(limits.model_copy(update={"allowed_networks": ()}), hub.url)
    with pytest.raises(AddressRefusedError):
        guarded.push(files, "a/b", hub.WRITERS_TOKEN, private=True, message="", progress=lambda *_: None)
    assert hub.requests == []


def test_without_a_hub_nothing_can_be_pushed(limits, files):
    with pytest.raises(UnsupportedError, match="knows no hub"):
        HubUploads(limits, None).push(files, "a/b", "t", private=True, message="", progress=lambda *_: None)


def test_the_official_client_can_upload_to_the_hub_of_the_tests(hub, tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")
    (tmp_path / "model.safetensors").write_bytes(os.urandom(50_000))
    script = (
        "import sys; from huggingface_hub import HfApi; api = HfApi(endpoint=sys.argv[1], token=sys.argv[2]);"
        "api.create_repo('owner/official', private=True);"
        "api.upload_folder(repo_id='owner/official', folder_path=sys.argv[3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, hub.url, hub.WRITERS_TOKEN, str(tmp_path)],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(content_of(hub, "owner/official")) == {"config.json", "model.safetensors"}
