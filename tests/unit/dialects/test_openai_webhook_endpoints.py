"""Webhook endpoints as OpenAI's own client makes, changes and tests them."""

import dataclasses

import openai
import pytest

from open_doors import open_doors
from receiver import Receiver, answering, resetting
from tunesmith.access.caller import Caller, Role
from tunesmith.dialects import openai as dialect
from tunesmith.integrations.webhook.catalogue import EVENTS
from tunesmith.sources import Limits

CANARY = "canary-5f4dcc3b5aa765d61d83"


@pytest.fixture
def receiver():
    server = Receiver(path=f"/{CANARY}")
    yield server
    server.stop()


@pytest.fixture
def client_of(tmp_path):
    with open_doors(tmp_path) as doors:
        allowing = dataclasses.replace(doors, limits=Limits(max_bytes=1000, allowed_networks=("127.0.0.0/8",)))

        def client_of(role=Role.OWNER, org="acme"):
            caller = Caller(org=org, user=None, role=role)
            http = allowing.client("openai", dialect, caller)
            return openai.OpenAI(
                base_url="http://testserver/v1", api_key="any", http_client=http, max_retries=0, webhook_secret="none"
            )

        yield client_of


@pytest.fixture
def client(client_of):
    return client_of()


def made(client, receiver, name="mine", events=("fine_tuning.job.succeeded",)):
    return client.webhooks.create(event_types=list(events), name=name, url=receiver.hook)


def test_an_endpoint_is_made_read_changed_listed_and_deleted(client, receiver):
    first, second = made(client, receiver, "first"), made(client, receiver, "second")
    assert first.signing_secret.startswith("whsec_")
    read = client.webhooks.retrieve(first.id)
    assert (read.object, read.name, read.event_types) == (
        "webhook_endpoint", "first", ["fine_tuning.job.succeeded"],
    )  # fmt: skip
    assert read.url == receiver.url
    assert CANARY not in read.model_dump_json()
    changed = client.webhooks.update(first.id, event_types=["fine_tuning.job.failed"])
    assert (changed.name, changed.event_types) == ("first", ["fine_tuning.job.failed"])
    assert client.webhooks.update(first.id, name="renamed").name == "renamed"
    assert [each.id for each in client.webhooks.list(limit=1)] == [second.id, first.id]
    assert [each.id for each in client.webhooks.list(after=second.id)] == [first.id]
    gone = client.webhooks.delete(first.id)
    assert (gone.deleted, gone.object, gone.id) == (True, "webhook_endpoint.deleted", first.id)
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(first.id)


def test_a_secret_is_rotated(client, receiver):
    endpoint = made(client, receiver)
    rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != endpoint.signing_secret
    client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")
    assert len(receiver.messages[-1].headers["webhook-signature"].split()) == 2
    client.webhooks.rotate_secret(endpoint.id)
    client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")
    assert len(receiver.messages[-1].headers["webhook-signature"].split()) == 1


def test_a_sample_is_sent_and_its_status_told(client, receiver):
    endpoint = made(client, receiver)
    told = client.webhooks.test(endpoint.id, event_type="fine_tuning.job.succeeded")
    assert (told.status_code, told.event_type, told.success) == (204, "fine_tuning.job.succeeded", True)
    [message] = receiver.messages
    event = client.webhooks.unwrap(message.body, message.headers, secret=endpoint.signing_secret)
    assert event.type == "fine_tuning.job.succeeded"
    receiver.plan = answering(500)
    assert client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed").status_code == 500
    receiver.plan = resetting
    with pytest.raises(openai.ConflictError):
        client.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed")


def test_events_that_there_are_are_listed_and_others_refused(client, receiver):
    assert client.webhooks.event_types.list().data == list(EVENTS)
    with pytest.raises(openai.BadRequestError) as caught:
        made(client, receiver, events=["batch.completed"])
    assert "fine_tuning.job.succeeded" in caught.value.message
    with pytest.raises(openai.BadRequestError):
        made(client, receiver, events=[])


@pytest.mark.parametrize("url", ["http://10.0.0.1/hook", "ftp://example.org", "https://u:p@example.org/", "x"])
def test_addresses_that_cannot_be_told_are_refused(client, url):
    with pytest.raises(openai.BadRequestError) as caught:
        client.webhooks.create(event_types=["fine_tuning.job.failed"], name="n", url=url)
    assert caught.value.param == "url"


def test_only_owners_change_and_nobody_sees_anothers(client_of, client, receiver):
    endpoint = made(client, receiver)
    member, stranger = client_of(Role.MEMBER), client_of(org="other")
    assert member.webhooks.retrieve(endpoint.id).id == endpoint.id
    for change in (
        lambda: made(member, receiver),
        lambda: member.webhooks.update(endpoint.id, name="n"),
        lambda: member.webhooks.delete(endpoint.id),
        lambda: member.webhooks.rotate_secret(endpoint.id),
        lambda: member.webhooks.test(endpoint.id, event_type="fine_tuning.job.failed"),
    ):
        with pytest.raises(openai.PermissionDeniedError):
            change()
    assert list(stranger.webhooks.list()) == []
    for id in (endpoint.id, "whe_" + "0" * 32, "nonsense"):
        with pytest.raises(openai.NotFoundError):
            stranger.webhooks.retrieve(id)
