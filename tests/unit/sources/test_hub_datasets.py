import io
import os
import zipfile

import pytest

from tunesmith.sources import Found, Location
from tunesmith.sources.hub import create
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TooLargeError,
    UnsupportedError,
)

ROWS = b'{"text": "row"}\n' * 1000


@pytest.fixture
def source(limits, hub):
    return create(limits, hub.url)


def named(address, revision=None):
    return Location(kind="hub", address=address, revision=revision)


def test_the_train_split_is_chosen_and_fetched_at_its_commit(source, hub, fetch):
    files = {"data/train.jsonl": ROWS, "data/test.jsonl": b"{}\n", "README.md": b"# rows", "dataset_infos.json": b"{}"}
    commit = hub.publish("dataset", "owner/rows", files)
    assert source.probe(named("owner/rows"), None) == Found(bytes=len(ROWS), version=commit)
    assert fetch(source, named("owner/rows")) == ROWS


def test_what_was_looked_at_is_fetched_although_the_branch_moved_on(source, hub, fetch):
    hub.publish("dataset", "owner/rows", {"train.jsonl": ROWS})
    found = source.probe(named("owner/rows", "main"), None)
    hub.publish("dataset", "owner/rows", {"train.jsonl": b"other"})
    assert fetch(source, named("owner/rows", "main"), found=found) == ROWS


def test_a_branch_a_tag_and_a_commit_are_revisions(source, hub, fetch):
    old = hub.publish("dataset", "owner/rows", {"train.jsonl": b"old"})
    hub.publish("dataset", "owner/rows", {"train.jsonl": b"tagged"}, revision="refs/pr/1")
    hub.publish("dataset", "owner/rows", {"train.jsonl": b"new"})
    assert fetch(source, named("owner/rows")) == b"new"
    assert fetch(source, named("owner/rows", old)) == b"old"
    assert fetch(source, named("owner/rows", "refs/pr/1")) == b"tagged"


def test_shards_become_an_archive_in_the_order_of_their_names(source, hub, fetch):
    shards = {f"data/train-0000{number}-of-00003.parquet": os.urandom(100_000) for number in (2, 0, 1)}
    hub.publish("dataset", "owner/shards", {**shards, "data/test-00000-of-00001.parquet": b"x"})
    hub.cuts = [50_000]
    told = []
    content = fetch(source, named("owner/shards"), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (300_000, 300_000)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        assert [entry.filename for entry in entries] == [f"train-0000{number}-of-00003.parquet" for number in range(3)]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        assert archive.read(entries[2]) == shards["data/train-00002-of-00003.parquet"]
    assert fetch(source, named("owner/shards")) == content


def test_numbered_shards_of_text_become_an_archive_too(source, hub, fetch):
    hub.publish("dataset", "owner/rows", {f"train-{number}-of-2.jsonl": ROWS for number in (1, 2)})
    with zipfile.ZipFile(io.BytesIO(fetch(source, named("owner/rows")))) as archive:
        assert archive.namelist() == ["train-1-of-2.jsonl", "train-2-of-2.jsonl"]


def test_a_named_file_is_fetched_whatever_else_there_is(source, hub, fetch):
    hub.publish("dataset", "owner/rows", {"a/b/one.csv": b"one", "two.csv": b"two"})
    assert fetch(source, named("owner/rows/a/b/one.csv")) == b"one"


def test_a_file_that_is_not_there_is_told_with_its_neighbours(source, hub):
    hub.publish("dataset", "owner/rows", {"train.jsonl": ROWS, "folder/one.jsonl": ROWS})
    with pytest.raises(SourceNotFoundError, match=r"no file 'train\.json'") as caught:
        source.probe(named("owner/rows/train.json"), None)
    assert caught.value.hint == "Did you mean train.jsonl?"
    with pytest.raises(SourceNotFoundError) as caught:
        source.probe(named("owner/rows/folder"), None)
    assert caught.value.hint == "Did you mean folder/one.jsonl?"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"one.jsonl": b"", "two.jsonl": b""}, "more than one file"),
        ({"train.csv": b"", "train.jsonl": b""}, "more than one file"),
        ({"a/train-0.parquet": b"", "b/train-0.parquet": b""}, "more than one file"),
        ({"test.jsonl": b"", "dev.jsonl": b""}, "no train split"),
        ({"README.md": b"", "train.py": b"", "dataset_info.json": b"{}"}, "no train split"),
        ({}, "no train split"),
    ],
)
def test_a_data_set_without_one_clear_train_split_is_refused(source, hub, files, match):
    hub.publish("dataset", "owner/rows", files)
    with pytest.raises(InvalidRequestError, match=match):
        source.probe(named("owner/rows"), None)


def test_a_word_that_merely_holds_train_or_test_names_no_split(source, hub, fetch):
    hub.publish("dataset", "owner/rows", {"strains.jsonl": ROWS, "test.jsonl": b""})
    assert fetch(source, named("owner/rows")) == ROWS
    hub.publish("dataset", "owner/rows", {"latest.jsonl": ROWS})
    assert fetch(source, named("owner/rows")) == ROWS


@pytest.mark.parametrize(
    "address", ["", "/", "owner/", "/rows", "owner/../rows", "owner/rows/../../x", "owner/ro ws", "owner/a--b", "-/-"]
)
def test_a_malformed_address_is_refused(source, hub, address):
    with pytest.raises(InvalidRequestError):
        source.probe(named(address), None)
    assert hub.requests == []


@pytest.mark.parametrize("address", ["ftp://me:canary@host/rows", "ftp://host/rows?signature=canary"])
def test_an_address_of_another_kind_is_refused_without_repeating_what_may_be_secret(source, hub, address):
    with pytest.raises(InvalidRequestError, match="Nothing is fetched from 'ftp://'") as raised:
        source.probe(named(address), None)
    assert "canary" not in raised.value.message
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["../main", "a..b", "a b", "main?x=y", "-x", "x" * 300])
def test_a_malformed_revision_is_refused(source, hub, revision):
    with pytest.raises(InvalidRequestError):
        source.probe(named("owner/rows", revision), None)
    assert hub.requests == []


def test_what_a_token_may_see_decides_what_is_found(source, hub, fetch):
    hub.publish("dataset", "owner/private", {"train.jsonl": ROWS}, private=True)
    with pytest.raises(SourceNotFoundError, match="may be private"):
        source.probe(named("owner/private"), None)
    with pytest.raises(SourceNotFoundError):
        source.probe(named("owner/private"), {"token": hub.STRANGERS_TOKEN})
    with pytest.raises(SourceCredentialsError, match="refuses this token") as caught:
        source.probe(named("owner/private"), {"token": "hf_s3cr3t"})
    assert "s3cr3t" not in caught.value.info.sentence()
    assert fetch(source, named("owner/private"), {"token": hub.TOKEN}) == ROWS


def test_too_large_a_data_set_is_refused_by_the_sum_of_its_shards(hub, limits):
    shards = {f"train-{number}.parquet": b"x" * 600 for number in range(2)}
    hub.publish("dataset", "owner/shards", shards)
    with pytest.raises(TooLargeError):
        create(limits.model_copy(update={"max_bytes": 1000}), hub.url).probe(named("owner/shards"), None)


def test_too_long_an_answer_of_the_hub_is_refused(limits, web):
    from web_server import reply

    body = b" " * (8 * 1024**2 + 1)
    web.answers["/api/datasets/owner/rows/revision/main"] = lambda handler: reply(handler, body=body)
    with pytest.raises(TooLargeError, match="more than 8,388,608 bytes"):
        create(limits, web.url).probe(named("owner/rows"), None)


def test_a_damaged_file_is_noticed(source, hub, fetch):
    hub.publish("dataset", "owner/rows", {"train.parquet": ROWS})
    hub.damaged = True
    with pytest.raises(DownloadError, match="arrived damaged"):
        fetch(source, named("owner/rows"))


def test_a_server_without_a_hub_says_so(limits):
    with pytest.raises(UnsupportedError, match="nothing from a hub"):
        create(limits, None).probe(named("owner/rows"), None)


def test_what_is_no_hub_is_told(limits, web):
    from web_server import reply

    for body in (b"<html>", b"[]", b"{}", b'{"id": "a", "sha": "short"}', b'{"id": "a", "sha": "%s"}' % (b"a" * 39)):
        web.answers["/api/datasets/owner/rows/revision/main"] = lambda handler, body=body: reply(handler, body=body)
        with pytest.raises(DownloadError, match="no hub"):
            create(limits, web.url).probe(named("owner/rows"), None)
