import os

import pytest

from tunesmith.sources import Found, Location
from tunesmith.sources.s3 import create
from tunesmith.spec.errors import (
    AddressRefusedError,
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TooLargeError,
    TunesmithError,
)
from web_server import reply

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def source(limits):
    return create(limits, None)


@pytest.fixture
def keys(s3_server):
    return s3_server.credentials


def s3(address, **more):
    return Location(kind="s3", address=address, **more)


@pytest.mark.parametrize("key", ["rows.jsonl", "a/b c/\u00fc+%25&=~'().jsonl", "x" * 200])
def test_an_object_is_found_and_fetched_from_a_real_server(source, s3_server, keys, fetch, key):
    location = s3(s3_server.put("bucket", key, CONTENT))
    found = source.probe(location, keys)
    assert found.bytes == len(CONTENT)
    assert found.version.startswith('"')
    assert fetch(source, location, keys) == CONTENT


def test_an_object_that_changes_between_look_and_transfer_is_not_taken(source, s3_server, keys, fetch):
    location = s3(s3_server.put("bucket", "changing.jsonl", b"first"))
    found = source.probe(location, keys)
    s3_server.put("bucket", "changing.jsonl", b"other")
    with pytest.raises(DownloadError, match="was changed after"):
        fetch(source, location, keys, found=found)


def test_what_is_not_there_and_who_may_not_read_are_told_apart(source, s3_server, keys):
    there = s3_server.put("bucket", "rows.jsonl", CONTENT)
    with pytest.raises(SourceNotFoundError, match="has no object 'missing'"):
        source.probe(s3("s3://bucket/missing"), keys)
    with pytest.raises(SourceNotFoundError, match="no bucket 'nowhere'"):
        source.probe(s3("s3://nowhere/rows.jsonl"), keys)
    with pytest.raises(SourceCredentialsError, match="secret access key does not belong"):
        source.probe(s3(there), keys | {"secret_access_key": "wr0ng"})
    with pytest.raises(SourceCredentialsError, match="access key id is unknown"):
        source.probe(s3(there), keys | {"access_key_id": "SOMEBODYELSE"})
    with pytest.raises(SourceCredentialsError, match="Nobody may read without credentials"):
        source.probe(s3(there), {"endpoint": s3_server.url})


def test_no_error_tells_a_secret(source, s3_server, keys):
    there = s3_server.put("bucket", "rows.jsonl", CONTENT)
    for wrong in ("wr0ng-secret", "wr0ng\nsecret", "wr0ng\u00e9"):
        with pytest.raises(TunesmithError) as caught:
            source.probe(s3(there), keys | {"secret_access_key": wrong})
        error = caught.value
        while error is not None:
            assert "wr0ng" not in f"{error!r}"
            assert "Signature=" not in f"{error!r}"
            error = error.__cause__


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/folder/",
        "s3://bucket//rows",
        "s3://bucket/a/../rows",
        "s3://bucket/a/./rows",
        "s3://bucket/a\nb",
        "s3://bucket/" + "a" * 1025,
        "s3:///rows",
        "s3://b?x/rows",
        "s3://user@bucket/rows",
        "gs://bucket/rows",
        "bucket/rows",
        "https://bucket.s3.amazonaws.com/rows",
        "",
    ],
)
def test_a_malformed_address_is_refused(source, keys, address):
    with pytest.raises(InvalidRequestError):
        source.probe(s3(address), keys)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"endpoint": "http://169.254.169.254"}, AddressRefusedError),
        ({"endpoint": "http://10.0.0.1:9000"}, AddressRefusedError),
        ({"endpoint": "http://2130706433:9000"}, AddressRefusedError),
        ({"endpoint": "ftp://127.0.0.1"}, AddressRefusedError),
        ({"endpoint": "http://127.0.0.1:22"}, AddressRefusedError),
        ({"endpoint": "http://me:pw@127.0.0.1:9000"}, AddressRefusedError),
        ({"endpoint": "http://127.0.0.1:9000/below"}, InvalidRequestError),
        ({"endpoint": "http://127.0.0.1:9000?a=b"}, InvalidRequestError),
        ({"endpoint": ""}, AddressRefusedError),
        ({"region": "eu-west-1"}, InvalidRequestError),
    ],
)
def test_a_wrong_endpoint_and_an_unknown_field_are_refused(source, keys, fields, error):
    with pytest.raises(error):
        source.probe(s3("s3://bucket/rows"), keys | fields)


def test_half_the_credentials_are_refused(source, keys):
    for name in ("access_key_id", "secret_access_key"):
        with pytest.raises(SourceCredentialsError, match=name):
            source.probe(s3("s3://bucket/rows"), {each: keys[each] for each in keys if each != name})


def test_an_endpoint_on_the_loopback_needs_the_operators_leave(limits, keys):
    with pytest.raises(AddressRefusedError):
        create(limits.model_copy(update={"allowed_networks": ()}), None).probe(s3("s3://bucket/rows.jsonl"), keys)


def test_a_region_that_cannot_stand_in_a_host_is_refused(source):
    for region in ("eu-west-1.evil.example/", "EU", "a@b", ""):
        with pytest.raises((InvalidRequestError, DownloadError)):
            source.probe(s3("s3://bucket/rows", region=region or "@"), None)


def test_too_large_an_object_is_refused(s3_server, limits, keys):
    source = create(limits.model_copy(update={"max_bytes": 1000}), None)
    with pytest.raises(TooLargeError):
        source.probe(s3(s3_server.put("bucket", "rows.jsonl", CONTENT)), keys)


def test_the_environment_of_the_server_changes_no_request(source, s3_server, keys, fetch, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "OPERATORSKEY",
        "AWS_SECRET_ACCESS_KEY": "operators",
        "AWS_SESSION_TOKEN": "operators-token",
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "mars",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert fetch(source, s3(s3_server.put("bucket", "rows.jsonl", CONTENT)), keys) == CONTENT


def test_a_session_token_is_part_of_the_signed_request(source, web, keys):
    source_of_truth = keys | {"endpoint": web.url, "session_token": "of-the-session"}
    with pytest.raises(SourceNotFoundError):
        source.probe(s3("s3://bucket/rows", region="eu-west-1"), source_of_truth)
    path, headers = web.requests[0]
    assert path.startswith("/bucket/rows?")
    assert "X-Amz-Security-Token=of-the-session" in path
    assert "eu-west-1" in path
    assert "authorization" not in headers


def answer_with(status, code, more="", **headers):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code>{more}</Error>".encode()
    return lambda handler: reply(handler, status, body, **headers)


@pytest.mark.parametrize(
    ("answer", "error", "match"),
    [
        (answer_with(301, "PermanentRedirect", x_amz_bucket_region="eu-north-1"), InvalidRequestError, "'eu-north-1'"),
        (
            answer_with(400, "AuthorizationHeaderMalformed", "<Region>eu-north-1</Region>"),
            InvalidRequestError,
            "lies in region 'eu-north-1', not in 'us-east-1'",
        ),
        (answer_with(307, "TemporaryRedirect", Location="http://10.0.0.1/"), InvalidRequestError, "another region"),
        (answer_with(403, "AccessDenied"), SourceCredentialsError, "These credentials may not read"),
        (answer_with(400, "ExpiredToken"), SourceCredentialsError, "has expired"),
        (answer_with(403, "RequestTimeTooSkewed"), SourceCredentialsError, "clocks"),
        (answer_with(404, "NoSuchKey"), SourceNotFoundError, "no object"),
        (answer_with(400, "Strange"), InvalidRequestError, "status 400, Strange"),
        (answer_with(503, "SlowDown"), DownloadError, "status 503, 3 times in a row"),
        (lambda handler: reply(handler, 403, b"x" * 10_000_000), SourceCredentialsError, "may not read"),
    ],
)
def test_what_amazon_answers_is_put_into_words(source, web, keys, answer, error, match):
    web.answers["/bucket/rows"] = answer
    with pytest.raises(error, match=match):
        source.probe(s3("s3://bucket/rows"), keys | {"endpoint": web.url})


def test_a_transfer_is_resumed_and_a_cut_one_is_no_success(source, web, keys, fetch):
    from web_server import serve_file

    location, there = s3("s3://bucket/rows"), keys | {"endpoint": web.url}
    web.answers["/bucket/rows"] = serve_file(CONTENT, cuts=[None, 1_000_000, 1_000_000], ETag='"one"')
    assert fetch(source, location, there) == CONTENT
    assert [headers.get("range") for _, headers in web.requests[2:]] == ["bytes=1000000-", "bytes=2000000-"]
    web.answers["/bucket/rows"] = serve_file(CONTENT[:-1], ETag='"one"')
    with pytest.raises(DownloadError):
        fetch(source, location, there, found=Found(bytes=len(CONTENT), version='"one"'))


def test_an_endpoint_that_is_not_there_is_told(source, keys):
    with pytest.raises(DownloadError, match="no connection"):
        source.probe(s3("s3://bucket/rows"), keys | {"endpoint": "http://127.0.0.1:1024"})
