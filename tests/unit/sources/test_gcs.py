"""Against a small stand-in for the XML API, which checks signatures by Google's published procedure.

No real Google Cloud Storage was asked: it cannot be reached from a test.
"""

import base64
import hashlib
import json
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from tunesmith.sources import Location
from tunesmith.sources.gcs import create
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
)
from web_server import reply, serve_file

CONTENT = b'{"text": "row"}\n' * 10_000


@pytest.fixture(scope="module")
def private_key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def account(private_key):
    """The JSON text of a service account's key."""
    from cryptography.hazmat.primitives import serialization

    text = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps(
        {
            "type": "service_account",
            "private_key_id": "1",
            "private_key": text,
            "client_email": "reader@project.example",
            "token_uri": "http://169.254.169.254/token",
            "gcs_base_url": "http://169.254.169.254",
        }
    )


@pytest.fixture
def source(limits):
    return create(limits, None)


def gs(address):
    return Location(kind="gcs", address=address)


def is_signed_by(private_key, path):
    """Check a version 4 signature: over the request's canonical form, for Google's own host."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    parts = urlsplit(path)
    query = dict(parse_qsl(parts.query))
    signature = bytes.fromhex(query.pop("X-Goog-Signature", ""))
    listed = "&".join(f"{quote(name, safe='')}={quote(query[name], safe='')}" for name in sorted(query))
    canonical = f"GET\n{parts.path}\n{listed}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest}"
    private_key.public_key().verify(signature, to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
    return query["X-Goog-Credential"].startswith("reader@project.example/")


def private(private_key, answer):
    """Serves those who sign."""

    def check(handler):
        if "X-Goog-Signature" in handler.path and is_signed_by(private_key, handler.path):
            answer(handler)
        else:
            reply(handler, 403, b"<Error><Code>AccessDenied</Code></Error>")

    return check


def test_an_object_is_fetched_with_a_signature_that_google_would_accept(source, web, account, private_key, fetch):
    digest = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()
    headers = {"ETag": '"1a"', "x_goog_generation": "17", "x_goog_hash": f"crc32c=AAAAAA==,md5={digest}"}
    web.answers["/bucket/a%20b/rows.jsonl"] = private(private_key, serve_file(CONTENT, cuts=[None, 9000], **headers))
    key = {"service_account_key": account, "endpoint": web.url}
    for scheme in ("gs", "gcs"):
        assert fetch(source, gs(f"{scheme}://bucket/a b/rows.jsonl"), key) == CONTENT
    assert all("authorization" not in headers for _, headers in web.requests)


def test_a_public_object_needs_no_key(source, web, fetch):
    web.answers["/bucket/rows.jsonl"] = serve_file(CONTENT, ETag='"1a"')
    assert fetch(source, gs("gs://bucket/rows.jsonl"), {"endpoint": web.url}) == CONTENT


def test_an_object_whose_digest_is_not_the_stores_is_refused(source, web, fetch):
    digest = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    web.answers["/bucket/rows.jsonl"] = serve_file(CONTENT, ETag='"1a"', x_goog_hash=f"md5={digest}")
    with pytest.raises(DownloadError, match="arrived damaged"):
        fetch(source, gs("gs://bucket/rows.jsonl"), {"endpoint": web.url})


@pytest.mark.parametrize(
    ("status", "code", "error", "match"),
    [
        (404, "NoSuchBucket", SourceNotFoundError, "no bucket 'bucket'"),
        (404, "NoSuchKey", SourceNotFoundError, "no object 'rows.jsonl'"),
        (403, "SignatureDoesNotMatch", SourceCredentialsError, "refuses the service account's key"),
        (403, "AccessDenied", SourceCredentialsError, "These credentials may not read"),
        (400, "InvalidArgument", InvalidRequestError, "status 400, InvalidArgument"),
        (503, "ServiceUnavailable", DownloadError, "status 503"),
    ],
)
def test_what_the_store_answers_is_put_into_words(source, web, account, status, code, error, match):
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
    web.answers["/bucket/rows.jsonl"] = lambda handler: reply(handler, status, body)
    with pytest.raises(error, match=match):
        source.probe(gs("gs://bucket/rows.jsonl"), {"service_account_key": account, "endpoint": web.url})


def test_an_object_that_everybody_may_not_read_asks_for_a_key(source, web):
    web.answers["/bucket/rows.jsonl"] = lambda handler: reply(handler, 401)
    with pytest.raises(SourceCredentialsError, match="Nobody may read without credentials"):
        source.probe(gs("gs://bucket/rows.jsonl"), {"endpoint": web.url})


@pytest.mark.parametrize(
    "key", ["", "s3cr3t", "[]", "{}", '{"private_key": "s3cr3t", "client_email": "a@b", "private_key_id": "1"}']
)
def test_a_malformed_key_is_refused_without_telling_it(source, web, key):
    with pytest.raises(SourceCredentialsError) as caught:
        source.probe(gs("gs://bucket/rows.jsonl"), {"service_account_key": key, "endpoint": web.url})
    assert "s3cr3t" not in caught.value.info.sentence()
    assert web.requests == []


@pytest.mark.parametrize("address", ["gs://bucket", "gs://bucket/folder/", "s3://bucket/rows", "gs:/bucket/rows", ""])
def test_a_malformed_address_is_refused(source, address):
    with pytest.raises(InvalidRequestError):
        source.probe(gs(address), None)


def test_an_unknown_field_is_refused(source, account):
    with pytest.raises(InvalidRequestError, match="no field 'token'"):
        source.probe(gs("gs://bucket/rows"), {"service_account_key": account, "token": "x"})
