"""Webhooks over the native API: what each role may do, what answers show, and what is refused with which words."""

import dataclasses

import pytest

from open_doors import open_doors
from receiver import Receiver, answering
from tunesmith.access.caller import Caller, Role
from tunesmith.dialects import native
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

        def client_of(org="acme", role=Role.OWNER, project=None):
            caller = Caller(org=org, user=None, role=role, project=project)
            client = allowing.client("native", native, caller)
            client.base_url = "http://testserver/tunesmith/v1"
            return client

        yield client_of


def made(client, receiver, **more):
    answer = client.post("/webhooks", json={"url": receiver.hook, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_secret_is_shown_once_and_the_url_never(client_of, receiver):
    owner = client_of()
    created = made(owner, receiver, description="ops")
    assert created.pop("secret").startswith("whsec_")
    assert created["address"] == receiver.url
    assert created["events"] == [f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled")]
    assert owner.get("/webhooks").json() == {"data": [created]}
    assert owner.get(f"/webhooks/{created['id']}").json() == created
    rotated = owner.post(f"/webhooks/{created['id']}/rotate-secret", json={}).json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["previous_until"] - rotated["updated_at"] == pytest.approx(86400)
    assert CANARY not in str([created, rotated])


def test_a_webhook_is_changed_tested_looked_up_and_deleted(client_of, receiver):
    owner = client_of()
    path = f"/webhooks/{made(owner, receiver, description='ops')['id']}"
    changed = owner.patch(path, json={"events": ["fine_tuning.job.started"], "description": None}).json()
    assert (changed["events"], changed["description"]) == (["fine_tuning.job.started"], None)
    assert owner.patch(path, json={}).json()["events"] == changed["events"]
    assert owner.patch(path, json={"enabled": False}).json()["enabled"] is False
    assert owner.patch(path, json={"enabled": True}).json()["disabled_because"] is None
    receiver.plan = answering(500, CANARY.encode())
    tested = owner.post(f"{path}/test").json()
    assert (tested["state"], tested["attempts"][0]["status"]) == ("failed", 500)
    receiver.plan = answering(200)
    again = owner.post(f"/webhook-deliveries/{tested['id']}/redeliver").json()
    assert (again["state"], len(again["attempts"])) == ("delivered", 2)
    assert owner.get("/webhook-deliveries").json() == {"data": [again], "has_more": False}
    assert owner.get("/webhook-deliveries", params={"job": "0" * 32}).json()["data"] == []
    assert owner.get(f"/webhook-deliveries/{tested['id']}").json() == again
    assert owner.delete(path).json()["deleted"] is True
    assert owner.get(path).json()["error"]["code"] == "webhook_not_found"
    refused = owner.post(f"/webhook-deliveries/{tested['id']}/redeliver")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
def test_only_owners_manage_webhooks_and_all_read_them(client_of, receiver, role):
    id = made(client_of(), receiver)["id"]
    tested = client_of().post(f"/webhooks/{id}/test").json()
    other = client_of(role=role)
    for method, path, body in (
        ("POST", "/webhooks", {"url": receiver.hook}),
        ("PATCH", f"/webhooks/{id}", {"enabled": False}),
        ("DELETE", f"/webhooks/{id}", None),
        ("POST", f"/webhooks/{id}/rotate-secret", {}),
        ("POST", f"/webhooks/{id}/test", None),
        ("POST", f"/webhook-deliveries/{tested['id']}/redeliver", None),
    ):
        answer = other.request(method, path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role"), path
    assert other.get(f"/webhooks/{id}").status_code == 200
    assert other.get("/webhook-deliveries").json()["data"] == [tested]


def test_another_organisation_sees_what_does_not_exist(client_of, receiver):
    id = made(client_of(), receiver)["id"]
    delivery = client_of().post(f"/webhooks/{id}/test").json()["id"]
    stranger = client_of("others")
    for method, path, body in (
        ("GET", f"/webhooks/{id}", None),
        ("PATCH", f"/webhooks/{id}", {}),
        ("DELETE", f"/webhooks/{id}", None),
        ("POST", f"/webhooks/{id}/rotate-secret", {}),
        ("POST", f"/webhooks/{id}/test", None),
        ("GET", f"/webhook-deliveries/{delivery}", None),
        ("POST", f"/webhook-deliveries/{delivery}/redeliver", None),
        ("GET", f"/webhook-deliveries?after={delivery}", None),
    ):
        foreign = stranger.request(method, path, json=body)
        unknown = stranger.request(method, path.replace(id, "0" * 32).replace(delivery, "0" * 32), json=body)
        assert foreign.status_code == unknown.status_code == 404, path
        assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"]
    assert stranger.get("/webhooks").json() == {"data": []}
    assert stranger.get("/webhook-deliveries").json()["data"] == []


def test_a_caller_of_one_project_sees_and_makes_webhooks_of_that_project(client_of, receiver):
    owner = client_of()
    own, other = (owner.post("/projects", json={"name": name}).json()["id"] for name in ("a", "b"))
    made(owner, receiver)
    bound = client_of(project=own)
    created = made(bound, receiver)
    assert created["project"] == own
    assert [webhook["id"] for webhook in bound.get("/webhooks").json()["data"]] == [created["id"]]
    refused = bound.post("/webhooks", json={"url": receiver.hook, "project": other})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "project_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": f"ftp://{CANARY}"}, "url"),
        ({"url": "http://192.168.1.1/hook"}, "url"),
        ({"url": f"https://user:{CANARY}@example.org"}, "url"),
        ({"url": "https://example.org", "events": []}, "events"),
        ({"url": "https://example.org", "events": ["job.exploded"]}, "events.0"),
        ({"url": "https://example.org", "description": "x" * 513}, "description"),
        ({"url": "https://example.org", "secret": CANARY}, "secret"),
    ],
)
def test_a_faulty_webhook_is_refused_with_its_field_and_without_its_secrets(client_of, body, param):
    answer = client_of().post("/webhooks", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["param"] == param
    assert CANARY not in answer.text
