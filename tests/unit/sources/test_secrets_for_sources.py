"""From a secret as a user keeps it to the request of the source that it is for, each against a real server."""

import json

import pytest

from tunesmith.access.hosts import host_of
from tunesmith.access.purposes import KINDS
from tunesmith.access.secrets import open_secrets
from tunesmith.plugins import load_plugins
from tunesmith.sources import Location
from tunesmith.spec.errors import InvalidRequestError, SourceCredentialsError, TunesmithError
from tunesmith.store.database import Database
from web_server import reply, serve_file

CONTENT = b'{"text": "row"}\n' * 1000


@pytest.fixture
def secrets(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield open_secrets(database, tmp_path / "keys")
    database.close()


@pytest.fixture
def kept(secrets):
    """Keep fields as a secret and reveal them again, for the address that they are sent to."""

    def run(purpose, fields, url):
        host = host_of(url, param="address")
        named = None if "endpoint" in fields else host
        secret = secrets.create("acme", name=purpose, purpose=purpose, fields=fields, host=named)
        return secrets.reveal("acme", secret.id, purpose=purpose, host=host)

    return run


@pytest.fixture
def source(limits, hub):
    kinds = load_plugins("tunesmith.sources")
    return lambda kind: kinds[kind].create(limits, hub.url)


def whoever_sends(name, value, answer):
    return lambda handler: answer(handler) if handler.headers.get(name) == value else reply(handler, 401)


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"bearer_token": "s3cr3t"}, "Authorization", "Bearer s3cr3t"),
        ({"headers": json.dumps({"Authorization": "Basic bWU6cHc="}, indent=1)}, "Authorization", "Basic bWU6cHc="),
        ({"bearer_token": "other", "headers": '{"X-Api-Key": "s3cr3t"}'}, "X-Api-Key", "s3cr3t"),
    ],
)
def test_a_secret_for_http_opens_what_its_server_guards(web, source, kept, fetch, fields, name, value):
    web.answers["/rows.jsonl"] = whoever_sends(name, value, serve_file(CONTENT, ETag='"one"'))
    location = Location(kind="http", address=f"{web.url}/rows.jsonl")
    with pytest.raises(SourceCredentialsError):
        source("http").probe(location, None)
    assert fetch(source("http"), location, kept("http", fields, web.url)) == CONTENT


def test_a_secret_for_s3_opens_a_bucket(s3_server, source, kept, fetch):
    location = Location(kind="s3", address=s3_server.put("bucket", "guarded.jsonl", CONTENT))
    assert fetch(source("s3"), location, kept("s3", s3_server.credentials, s3_server.url)) == CONTENT


@pytest.mark.parametrize(("kind", "address"), [("s3", "s3://bucket/rows"), ("gcs", "gs://bucket/rows")])
def test_an_endpoint_alone_is_a_secret_for_what_everybody_may_read_there(web, source, kept, fetch, kind, address):
    web.answers["/bucket/rows"] = serve_file(CONTENT, ETag='"one"')
    credentials = kept(kind, {"endpoint": web.url}, web.url)
    assert fetch(source(kind), Location(kind=kind, address=address), credentials) == CONTENT


def test_a_secret_for_the_hub_opens_a_private_data_set(hub, source, kept, fetch):
    hub.publish("dataset", "owner/rows", {"train.jsonl": CONTENT}, private=True)
    location = Location(kind="hub", address="owner/rows")
    assert fetch(source("hub"), location, kept("hub", {"token": hub.TOKEN}, hub.url)) == CONTENT


@pytest.mark.parametrize("kind", ["s3", "gcs", "http", "hub"])
def test_a_source_knows_every_field_that_a_secret_for_it_may_have(web, hub, source, kind):
    addresses = {"s3": "s3://bucket/rows", "gcs": "gs://bucket/rows", "http": f"{web.url}/rows", "hub": "owner/rows"}
    fields = dict.fromkeys((*KINDS[kind].required, *KINDS[kind].optional), "{}") | (
        {"endpoint": web.url} if kind in ("s3", "gcs") else {}
    )
    with pytest.raises(TunesmithError) as refused:
        source(kind).probe(Location(kind=kind, address=addresses[kind]), fields)
    assert "no field" not in refused.value.message
    with pytest.raises(InvalidRequestError, match="no field 'other'"):
        source(kind).probe(Location(kind=kind, address=addresses[kind]), {**fields, "other": "x"})
