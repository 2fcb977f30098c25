import pytest

from tunesmith.access.hosts import host_of, plain_host
from tunesmith.access.purposes import KINDS, PURPOSES, checked, effective_host
from tunesmith.spec.errors import InvalidRequestError

CANARY = "canary-7f3e9b21c4"
WHOLE = {
    "s3": {"access_key_id": "A", "secret_access_key": CANARY, "session_token": "T"},
    "gcs": {"service_account_key": '{\n  "type": "service_account"\n}'},
    "hub": {"token": CANARY},
    "http": {"bearer_token": CANARY, "headers": '{"X-Api-Key": "value"}'},
    "wandb": {"api_key": CANARY},
    "mlflow": {"username": "ada", "password": CANARY, "certificate": "-----BEGIN\nEND-----"},
    "webhook": {"secret": CANARY},
}


def test_every_purpose_has_its_fields():
    assert tuple(KINDS) == PURPOSES
    assert set(WHOLE) == set(PURPOSES)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_whole_secret_is_accepted(purpose):
    assert checked(purpose, "store.example.org", WHOLE[purpose]) == (purpose, "store.example.org")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_without_a_host_the_purpose_decides(purpose):
    if KINDS[purpose].needs_host:
        with pytest.raises(InvalidRequestError) as refused:
            checked(purpose, None, WHOLE[purpose])
        assert refused.value.param == "host"
        return
    assert checked(purpose, None, WHOLE[purpose]) == (purpose, None)
    assert effective_host(purpose, None) == KINDS[purpose].default_host


@pytest.mark.parametrize(
    ("purpose", "fields", "param", "word"),
    [
        ("ftp", {"password": CANARY}, "purpose", "s3, gcs, hub"),
        ("", {}, "purpose", "known"),
        ("s3", {}, "fields", "missing: access_key_id, secret_access_key"),
        ("s3", {"access_key_id": CANARY}, "fields", "missing: secret_access_key"),
        ("hub", {"token": CANARY, "user": CANARY}, "fields", "'user'"),
        ("http", {}, "fields", "bearer_token"),
        ("hub", {"token": ""}, "fields.token", "empty"),
        ("hub", {"token": "  "}, "fields.token", "empty"),
        ("hub", {"token": CANARY * 10_000}, "fields.token", "65536"),
        ("hub", {"token": f"{CANARY}\r\nX-Injected: 1"}, "fields.token", "line break"),
        ("hub", {"token": f"{CANARY}\x00"}, "fields.token", "line break"),
        ("http", {"headers": CANARY}, "fields.headers", "JSON object"),
        ("http", {"headers": f'["{CANARY}"]'}, "fields.headers", "JSON object"),
        ("http", {"headers": "{}"}, "fields.headers", "JSON object"),
        ("http", {"headers": "[" * 5000}, "fields.headers", "JSON object"),
        ("http", {"headers": f'{{"X: y": "{CANARY}"}}'}, "fields.headers", "JSON object"),
        ("http", {"headers": f'{{"X-Key": "{CANARY}\\r\\nX: 1"}}'}, "fields.headers", "JSON object"),
        ("http", {"headers": '{"X-Key": 7}'}, "fields.headers", "JSON object"),
        ("http", {"headers": f'{{"X-Key": "{CANARY}\u00e9"}}'}, "fields.headers", "JSON object"),
        ("http", {"headers": f'{{"X-Key": " {CANARY}"}}'}, "fields.headers", "JSON object"),
        ("http", {"headers": f'{{"Host": "{CANARY}"}}'}, "fields.headers", "'host'"),
        ("http", {"headers": f'{{"X-Key": "{CANARY}", "x-key": "b"}}'}, "fields.headers", "'x-key'"),
        (
            "http",
            {"bearer_token": CANARY, "headers": f'{{"Authorization": "Basic {CANARY}"}}'},
            "fields.headers",
            "'authorization'",
        ),
        ("s3", {"endpoint": "http://127.0.0.1:9000", "access_key_id": CANARY}, "fields", "missing: secret_access_key"),
        ("wandb", {"base_url": "https://wandb.example.org"}, "fields", "missing: api_key"),
        ("wandb", {"api_key": CANARY, "base_url": "ftp://example.org"}, "fields.base_url", "https://"),
        ("wandb", {"api_key": CANARY, "base_url": f"https://u:{CANARY}@example.org"}, "fields.base_url", "password"),
    ],
)
def test_a_faulty_secret_is_refused_with_its_field_and_without_a_value(purpose, fields, param, word):
    with pytest.raises(InvalidRequestError) as refused:
        checked(purpose, "store.example.org", fields)
    assert refused.value.param == param
    assert word in refused.value.message
    assert CANARY not in refused.value.info.sentence()


@pytest.mark.parametrize("purpose", ["s3", "gcs"])
def test_an_endpoint_alone_is_a_secret_for_what_everybody_may_read_there(purpose):
    assert checked(purpose, None, {"endpoint": "http://127.0.0.1:9000"}) == (purpose, "127.0.0.1:9000")


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": '{"Authorization": "Basic bWU6cHc="}'},
        {"headers": '{\n "Cookie": "a=b; c=d",\n "X-Api-Key": "e"\n}', "bearer_token": "f"},
    ],
)
def test_headers_of_ones_own_are_accepted(fields):
    assert checked("http", "example.org", fields) == ("http", "example.org")


def test_the_host_follows_from_the_address_among_the_fields():
    fields = {**WHOLE["s3"], "endpoint": "http://127.0.0.1:9000/path"}
    assert checked("s3", None, fields) == ("s3", "127.0.0.1:9000")
    assert checked("s3", "127.0.0.1:9000", fields) == ("s3", "127.0.0.1:9000")
    with pytest.raises(InvalidRequestError) as refused:
        checked("s3", "elsewhere.example.org", fields)
    assert refused.value.param == "host"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Store.Example.org/a/b?c", "store.example.org"),
        ("https://store.example.org:443", "store.example.org"),
        ("https://store.example.org:9000/", "store.example.org:9000"),
        ("http://store.example.org", "store.example.org:80"),
        ("http://[::1]:9000/x", "[::1]:9000"),
        ("https://[2001:DB8::1]", "[2001:db8::1]"),
    ],
)
def test_an_address_leads_to_a_host(url, host):
    assert host_of(url, param="url") == host
    assert plain_host(host, param="host") == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "store.example.org",
        "file:///etc/passwd",
        "https://",
        "https://a:b@store.example.org",
        "https://store.example.org@elsewhere.example.org",
        "https://store.example.org:99999",
        "https://store.example.org:port",
        "https://[::1",
        "https://exa mple.org",
        "https://exämple.org",
        "https://store.example.org\\@elsewhere.example.org",
        "https://.example.org",
    ],
)
def test_an_address_without_a_plain_host_is_refused(url):
    with pytest.raises(InvalidRequestError) as refused:
        host_of(url, param="url")
    assert refused.value.param == "url"


@pytest.mark.parametrize(
    "host",
    ["", " ", "https://example.org", "example.org/", "example.org:", "example.org:0", "a" * 300, "*.example.org"],
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(InvalidRequestError):
        plain_host(host, param="host")
