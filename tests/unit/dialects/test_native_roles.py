"""Who may do what: handlers refuse by the caller's role, whoever let the request in."""

from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.access.keys import ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.secrets import open_secrets
from tunesmith.dialects import native
from tunesmith.integrations._door import Integrations
from tunesmith.jobs.service import Jobs
from tunesmith.sources import Limits
from tunesmith.spec.errors import TunesmithError
from tunesmith.store.database import Database

MANAGING = (
    ("POST", "/organisation/members", {"user": "bo", "role": "member"}),
    ("PUT", "/organisation/members/ana", {"role": "viewer"}),
    ("DELETE", "/organisation/members/ana", None),
    ("POST", "/projects", {"name": "p"}),
    ("POST", "/projects/proj_0/archive", None),
    ("GET", "/keys", None),
    ("POST", "/keys", {"name": "k", "role": "owner"}),
    ("DELETE", "/keys/0", None),
    ("PUT", "/secrets/s", {"fields": {"token": "t"}}),
    ("DELETE", "/secrets/s", None),
)


@pytest.fixture
def client_of(tmp_path):
    """The dialect's application for a caller, over a database of its own. No job is ever admitted."""
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    secrets = open_secrets(database, tmp_path / "keys")

    def make(caller):
        app = FastAPI()
        app.include_router(native.routes())
        services = SimpleNamespace(
            caller=caller,
            organisations=Organisations(database),
            keys=ApiKeys(database),
            secrets=secrets,
            integrations=Integrations(database, secrets, Limits(max_bytes=1), caller, hub_url=None, mlflow_url=None),
            jobs=Jobs(database, admission=None, use=None, runs=tmp_path, wake=None, caller=caller),
        )

        @app.exception_handler(TunesmithError)
        async def refuse(request: Request, error: TunesmithError):
            status, body = native.render_error(error, request.url.path)
            return JSONResponse(body, status_code=status)

        async def with_services(scope, receive, send):
            await app({**scope, "state": {"services": services}}, receive, send)

        return TestClient(with_services, base_url="http://server/tunesmith/v1")

    yield make
    database.close()


def caller(role, org="acme"):
    return Caller(org=org, user="ana", role=role)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
@pytest.mark.parametrize(("method", "path", "body"), MANAGING, ids=[f"{method} {path}" for method, path, _ in MANAGING])
def test_only_owners_manage(client_of, role, method, path, body):
    answer = client_of(caller(role)).request(method, path, json=body)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "role"


def test_a_viewer_stores_no_credentials_and_a_member_does(client_of):
    body = {"name": "s", "purpose": "hub", "fields": {"token": "do-not-show"}}
    assert client_of(caller(Role.VIEWER)).post("/secrets", json=body).status_code == 403
    stored = client_of(caller(Role.MEMBER)).post("/secrets", json=body)
    assert stored.status_code == 200
    assert client_of(caller(Role.VIEWER)).get("/secrets/s").json() == stored.json()
    assert "do-not-show" not in stored.text


@pytest.mark.parametrize("fields", [["do-not-show"], {"token": 5}, "do-not-show", None])
def test_faulty_credentials_are_not_repeated(client_of, fields):
    body = {"name": "s", "purpose": "hub", "fields": fields}
    answer = client_of(caller(Role.OWNER)).post("/secrets", json=body)
    assert answer.status_code == 422
    assert "do-not-show" not in answer.text


def test_replaced_credentials_keep_their_purpose_and_host(client_of):
    owner = client_of(caller(Role.OWNER))
    body = {"name": "s", "purpose": "hub", "fields": {"token": "old"}, "host": "hub.localhost:8080"}
    before = owner.post("/secrets", json=body).json()
    after = owner.put("/secrets/s", json={"fields": {"token": "new"}}).json()
    assert {**before, "updated_at": None} == {**after, "updated_at": None}
    assert owner.put("/secrets/s", json={"fields": {"nothing": "new"}}).status_code == 422


def test_things_of_another_organisation_do_not_exist(client_of):
    owner, stranger = client_of(caller(Role.OWNER)), client_of(caller(Role.OWNER, org="other"))
    fields = {"fields": {"token": "t"}}
    secret = owner.post("/secrets", json={"name": "s", "purpose": "hub", **fields}).json()["id"]
    project = owner.post("/projects", json={"name": "p"}).json()["id"]
    key = owner.post("/keys", json={"name": "k", "role": "member"}).json()["id"]
    owner.post("/organisation/members", json={"user": "ana", "role": "owner"})
    for method, path, body in (
        ("GET", f"/secrets/{secret}", None),
        ("PUT", f"/secrets/{secret}", fields),
        ("DELETE", f"/secrets/{secret}", None),
        ("POST", f"/projects/{project}/archive", None),
        ("DELETE", f"/keys/{key}", None),
        ("DELETE", "/organisation/members/ana", None),
    ):
        foreign = stranger.request(method, path, json=body)
        unknown = stranger.request(method, path.replace(secret, "0").replace(project, "0").replace(key, "0"), json=body)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"]
    for path in ("/secrets", "/projects", "/keys", "/organisation/members"):
        assert stranger.get(path).json() == {"data": []}


def test_a_key_is_shown_once(client_of):
    owner = client_of(caller(Role.OWNER))
    made = owner.post("/keys", json={"name": "k", "role": "viewer", "user": "ana"}).json()
    assert made.pop("key").endswith(made["last_four"])
    assert owner.get("/keys").json() == {"data": [made]}
    assert owner.delete(f"/keys/{made['id']}").json()["revoked_at"] is not None


def test_an_open_server_changes_neither_keys_nor_members(client_of):
    client = client_of(LOCAL)
    for method, path, body in MANAGING[:3] + MANAGING[6:7]:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 409, path
        assert "authentication" in answer.json()["error"]["hint"]


def test_a_caller_of_one_project_sees_that_project(client_of):
    owner = client_of(caller(Role.OWNER))
    ids = [owner.post("/projects", json={"name": name}).json()["id"] for name in ("a", "b")]
    bound = client_of(Caller(org="acme", user=None, role=Role.MEMBER, project=ids[1]))
    assert [project["id"] for project in bound.get("/projects").json()["data"]] == ids[1:]
    assert bound.get("/organisation").json()["project"] == ids[1]


def test_a_caller_of_one_project_submits_to_no_other(client_of):
    owner = client_of(caller(Role.OWNER))
    own, other = (owner.post("/projects", json={"name": name}).json()["id"] for name in ("a", "b"))
    bound = client_of(Caller(org="acme", user=None, role=Role.MEMBER, project=own))
    assert bound.get("/jobs", params={"project": own}).json() == {"data": [], "has_more": False}
    assert bound.get("/jobs", params={"project": other}).status_code == 404
    owner.post(f"/projects/{own}/archive")
    body = {"spec": {"model": {"base": "o/n", "source": "hub"}, "data": {"train": {"address": "o/n"}}}}
    for path in ("/jobs", "/jobs:validate"):
        foreign = bound.post(path, json={**body, "project": other})
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "project_not_found")
        archived = bound.post(path, json=body)
        assert (archived.status_code, archived.json()["error"]["param"]) == (409, "project")
