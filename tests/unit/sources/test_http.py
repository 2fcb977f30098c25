import base64
import gzip
import hashlib
import threading
import time

import pytest

from tunesmith.plugins import load_plugins
from tunesmith.sources import Found, Location
from tunesmith.sources.http import create
from tunesmith.spec.errors import (
    AddressRefusedError,
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TooLargeError,
    UnsupportedError,
)
from web_server import in_turn, reply, serve_file

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def source(limits):
    return create(limits, None)


@pytest.fixture
def place(web):
    """Let the server answer at /rows.jsonl; returns the location."""

    def at(answer):
        web.answers["/rows.jsonl"] = answer
        return Location(kind="http", address=f"{web.url}/rows.jsonl?signature=hidden")

    return at


def test_every_kind_of_location_has_a_source(limits):
    kinds = load_plugins("tunesmith.sources")
    assert set(kinds) == set(Location.model_fields["kind"].annotation.__args__)
    assert all(module.create(limits, None).probe for module in kinds.values())


def test_a_file_is_found_and_fetched_whole(source, place, fetch):
    location = place(serve_file(CONTENT, ETag='"one"'))
    assert source.probe(location, None) == Found(bytes=len(CONTENT), version='"one"')
    told = []
    assert fetch(source, location, progress=lambda done, total: told.append((done, total))) == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_transfer_goes_on_where_the_connection_broke_off(source, place, fetch, web):
    location = place(serve_file(CONTENT, cuts=[None, 100_000, 50_000, 1], ETag='"one"'))
    assert fetch(source, location) == CONTENT
    ranges = [headers.get("range") for _, headers in web.requests]
    assert ranges == [None, None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]
    assert web.requests[-1][1]["if-match"] == '"one"'


def test_a_server_without_ranges_is_resumed_by_skipping_what_is_there(source, place, fetch):
    location = place(serve_file(CONTENT, cuts=[None, 100_000], ranges=False, ETag='"one"'))
    assert fetch(source, location) == CONTENT


def test_a_break_without_a_version_to_resume_by_is_an_error(source, place, fetch):
    for headers in ({}, {"ETag": 'W/"weak"'}, {"Last_Modified": "Sat, 21 Nov 2026 07:00:00 GMT"}):
        location = place(serve_file(CONTENT, cuts=[None, 100_000], **headers))
        with pytest.raises(DownloadError, match="no version by which to resume"):
            fetch(source, location)


def test_a_server_that_always_breaks_off_is_given_up_after_a_few_tries(source, place, fetch, web):
    location = place(serve_file(CONTENT, cuts=[None] + [0] * 100, ETag='"one"'))
    with pytest.raises(DownloadError, match="6 times in a row"):
        fetch(source, location)
    assert len(web.requests) == 7


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_is_busy_for_a_while_is_asked_again(source, place, fetch, status):
    busy = [True, True]
    honest = serve_file(CONTENT, ETag='"one"')
    location = place(lambda handler: reply(handler, status) if busy and busy.pop() else honest(handler))
    assert fetch(source, location) == CONTENT


def test_a_file_that_changed_after_the_look_is_not_taken(source, place, fetch):
    location = place(serve_file(CONTENT, ETag='"new"'))
    with pytest.raises(DownloadError, match="was changed after"):
        fetch(source, location, found=Found(bytes=len(CONTENT), version='"old"'))


def test_the_version_alone_is_enough_to_fetch_what_was_pinned(source, place, fetch):
    location = place(serve_file(CONTENT, cuts=[100_000], ETag='"one"'))
    assert fetch(source, location, found=Found(bytes=None, version='"one"')) == CONTENT
    with pytest.raises(DownloadError, match="was changed after"):
        fetch(source, location, found=Found(bytes=None, version='"two"'))


def test_a_file_that_changes_during_the_transfer_is_not_mixed(source, place, fetch):
    answers = [serve_file(CONTENT, ETag='"old"'), serve_file(CONTENT, cuts=[9000], ETag='"old"')]
    later = serve_file(CONTENT[::-1], ETag='"new"')
    location = place(in_turn(*answers, later))
    with pytest.raises(DownloadError, match="was changed after"):
        fetch(source, location)


def test_a_file_that_shrank_is_not_taken(source, place, fetch):
    answers = [serve_file(CONTENT, ETag='"one"'), serve_file(CONTENT, cuts=[9000], ETag='"one"')]
    location = place(in_turn(*answers, lambda handler: reply(handler, 416)))
    with pytest.raises(DownloadError, match="was changed after"):
        fetch(source, location)


def test_another_part_than_the_one_asked_for_is_refused(source, place, fetch):
    answers = [serve_file(CONTENT, ETag='"one"'), serve_file(CONTENT, cuts=[9000], ETag='"one"')]

    def lie(handler):
        reply(handler, 206, CONTENT[:100], ETag='"one"', Content_Range=f"bytes 0-99/{len(CONTENT)}")

    location = place(in_turn(*answers, lie))
    with pytest.raises(DownloadError, match="another part"):
        fetch(source, location)


def test_a_length_that_nobody_can_check_is_refused(source, place):
    def until_the_end(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nrows")
        handler.close_connection = True

    with pytest.raises(UnsupportedError, match="without a length"):
        source.probe(place(until_the_end), None)


def chunked(*pieces, end=b"0\r\n\r\n"):
    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(end)
        handler.close_connection = True

    return answer


def test_a_body_in_chunks_is_taken_whole_or_not_at_all(source, place, fetch):
    assert fetch(source, place(chunked(b"ab", b"cd"))) == b"abcd"
    with pytest.raises(DownloadError):
        fetch(source, place(chunked(b"ab", b"cd", end=b"")))


def test_a_digest_that_the_server_tells_is_checked(source, place, fetch):
    for right in (True, False):
        digest = base64.b64encode(hashlib.sha256(CONTENT if right else b"other").digest()).decode()
        location = place(
            serve_file(CONTENT, cuts=[None, 1000], ETag='"one"', Repr_Digest=f"sha-512=:AAAA:, sha-256=:{digest}:")
        )
        if right:
            assert fetch(source, location) == CONTENT
        else:
            with pytest.raises(DownloadError, match="arrived damaged"):
                fetch(source, location)


def test_a_compressed_answer_is_refused_before_a_byte_of_it_is_unpacked(source, place):
    bomb = gzip.compress(b"0" * 50_000_000)
    with pytest.raises(UnsupportedError, match="comes compressed"):
        source.probe(place(lambda handler: reply(handler, body=bomb, Content_Encoding="gzip")), None)


def test_too_large_a_file_is_refused_by_its_length_or_when_it_passes_the_limit(place, limits, fetch):
    source = create(limits.model_copy(update={"max_bytes": 1000}), None)
    with pytest.raises(TooLargeError, match="1,000 bytes"):
        source.probe(place(serve_file(CONTENT)), None)
    with pytest.raises(TooLargeError, match="1,000 bytes"):
        fetch(source, place(chunked(b"x" * 600, b"x" * 600)))


def dripping(head):
    """An answer that begins so, and goes on with a byte now and then for ever."""
    slowness = threading.Event()

    def drip(handler):
        handler.wfile.write(head)
        try:
            while True:
                handler.wfile.write(b"x")
                slowness.wait(0.01)
        except OSError:
            handler.close_connection = True

    return drip


def test_too_slow_a_transfer_is_ended(place, limits, fetch):
    drip = dripping(b'HTTP/1.1 200 OK\r\nETag: "one"\r\nContent-Length: 100000\r\n\r\n')
    with pytest.raises(DownloadError, match=r"was not there within 0 s"):
        fetch(create(limits.model_copy(update={"total_seconds": 0.3}), None), place(drip))


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
def test_a_server_that_drips_holds_up_nobody_who_waits_for_a_look(place, limits, status):
    source = create(limits.model_copy(update={"probe_seconds": 0.3}), None)
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=r"was not there within 0 s"):
        source.probe(place(dripping(b"HTTP/1.1 " + status + b"\r\nX-Long: ")), None)
    assert time.monotonic() - begun < limits.total_seconds / 4


def test_what_progress_raises_ends_the_transfer_and_leaves_nothing(source, place, fetch, tmp_path):
    class CancelledError(Exception):
        pass

    def cancel(done, total):
        raise CancelledError

    with pytest.raises(CancelledError):
        fetch(source, place(serve_file(CONTENT, ETag='"one"')), progress=cancel)
    assert list((tmp_path / "files" / "incoming").iterdir()) == []


def test_progress_is_told_during_the_pauses_between_tries(source, place, fetch):
    location = place(serve_file(CONTENT, cuts=[None, 1000, 0, 0], ETag='"one"'))
    told = []
    fetch(source, location, progress=lambda done, total: told.append(done))
    assert told.count(1000) >= 4


@pytest.mark.parametrize("status", [401, 403])
def test_refused_and_missing_credentials_are_told_apart(source, place, status):
    location = place(lambda handler: reply(handler, status))
    with pytest.raises(SourceCredentialsError, match="asks for credentials"):
        source.probe(location, None)
    with pytest.raises(SourceCredentialsError, match="refuses the credentials") as caught:
        source.probe(location, {"bearer_token": "s3cr3t"})
    assert "s3cr3t" not in caught.value.info.sentence()


def test_credentials_are_sent_as_a_token_and_as_headers(source, place, web, fetch):
    location = place(serve_file(CONTENT, cuts=[None, 1000], ETag='"one"'))
    both = {"bearer_token": "abc", "headers": '{"X-Api-Key": "key", "User-Agent": "reader"}'}
    assert fetch(source, location, both) == CONTENT
    assert len(web.requests) == 3
    for _, headers in web.requests:
        assert headers["authorization"] == "Bearer abc"
        assert headers["x-api-key"] == "key"
        assert headers["user-agent"] == "reader"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"bearer_token": "a", "username": "b"}, InvalidRequestError),
        ({"token": "s3cr3t"}, InvalidRequestError),
        ({"bearer_token": "s3cr3t\r\nHost: evil"}, SourceCredentialsError),
        ({"bearer_token": "s3cr\u00e9t"}, SourceCredentialsError),
        ({"headers": "s3cr3t"}, SourceCredentialsError),
        ({"headers": '["s3cr3t"]'}, SourceCredentialsError),
        ({"headers": '{"X-Key": 5}'}, SourceCredentialsError),
        ({"headers": '{"X-Key": "s3cr\u00e9t"}'}, SourceCredentialsError),
    ],
)
def test_malformed_credentials_are_refused_without_telling_them(source, place, web, fields, error):
    with pytest.raises(error) as caught:
        source.probe(place(serve_file(b"{}")), fields)
    assert "s3cr" not in caught.value.info.sentence()
    assert web.requests == []


def test_a_missing_file_a_web_page_and_a_strange_status_are_told(source, place):
    with pytest.raises(SourceNotFoundError) as caught:
        source.probe(place(lambda handler: reply(handler, 404)), None)
    assert "hidden" not in caught.value.info.sentence()
    page = place(lambda handler: reply(handler, body=b"<html>", Content_Type="text/html; charset=utf-8"))
    with pytest.raises(InvalidRequestError, match="is a web page"):
        source.probe(page, None)
    with pytest.raises(InvalidRequestError, match="status 418"):
        source.probe(place(lambda handler: reply(handler, 418)), None)
    with pytest.raises(InvalidRequestError, match="status 204"):
        source.probe(place(lambda handler: reply(handler, 204)), None)


def test_an_empty_file_is_a_file(source, place, fetch):
    assert fetch(source, place(serve_file(b"", ETag='"none"'))) == b""


def test_a_server_that_is_not_there_is_told(source):
    with pytest.raises(DownloadError, match="no connection, 3 times in a row"):
        source.probe(Location(kind="http", address="http://127.0.0.1:1024/rows"), None)


def test_inner_addresses_are_refused_at_once(web, limits):
    source = create(limits.model_copy(update={"allowed_networks": ()}), None)
    for address in (f"{web.url}/rows", f"http://localhost:{web.port}/", "http://169.254.169.254/latest/", "file:///x"):
        with pytest.raises(AddressRefusedError):
            source.probe(Location(kind="http", address=address), None)
    assert web.requests == []
