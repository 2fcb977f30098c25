"""Two organisations on one server: what belongs to one answers the other exactly as what does not exist."""

import json
import re

import httpx2
import pytest
from fastapi import FastAPI

from rows import chat_rows
from running_server import RunningServer, wait_for
from signed_tokens import AUDIENCE, ISSUER, SECRET, token
from tunesmith.plugins import load_plugins

pytestmark = pytest.mark.slow

OWNING, STRANGE = "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4d", "7c2c9c4e-0d5b-4f8e-9d0a-0c4c7a1b2c3d"
DIALECTS = load_plugins("tunesmith.dialects")
CANARY = "canary-5f4dcc3b5aa765d61d83"


def operations():
    """Method and path of every route of every dialect, with its query."""
    for name, dialect in DIALECTS.items():
        app = FastAPI()
        app.include_router(dialect.routes())
        for path, methods in app.openapi()["paths"].items():
            for method, operation in methods.items():
                query = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
                yield name, method.upper(), path, frozenset(query)


OPERATIONS = list(operations())
HUB = "127.0.0.1:9"
"""Nobody listens there."""


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory):
    server = RunningServer(
        write_home(tmp_path_factory.mktemp("organisations") / "home"),
        TUNESMITH_AUTHENTICATION="required",
        TUNESMITH_TOKEN_SECRET=SECRET.decode(),
        TUNESMITH_TOKEN_ISSUER=ISSUER,
        TUNESMITH_TOKEN_AUDIENCE=AUDIENCE,
        TUNESMITH_HUB_URL=f"http://{HUB}",
    )
    yield server
    server.stop()


def caller(server, org, **claims):
    bearer = token(org=org, **{"role": "owner", **claims})
    return httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {bearer}"}, timeout=60)


@pytest.fixture(scope="module")
def owner(server):
    return caller(server, OWNING)


@pytest.fixture(scope="module")
def stranger(server):
    return caller(server, STRANGE)


def created(answer):
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


@pytest.fixture(scope="module")
def things(owner):
    """One of everything that an organisation can have; the ids as each dialect writes them."""
    rows = {"file": ("rows.jsonl", chat_rows())}
    file = created(owner.post("/v1/files", data={"purpose": "fine-tune"}, files=rows))["id"]
    created(owner.post("/tunesmith/v1/datasets", data={"name": "mine"}, files=rows))
    project = created(owner.post("/tunesmith/v1/projects", json={"name": "one"}))["id"]
    key = created(owner.post("/tunesmith/v1/keys", json={"name": "robot", "role": "member"}))
    fields = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": CANARY}
    secret = created(owner.post("/tunesmith/v1/secrets", json={"name": "rows", "purpose": "s3", "fields": fields}))[
        "id"
    ]
    created(owner.post("/tunesmith/v1/organisation/members", json={"user": "grace", "role": "owner"}))
    webhook = created(owner.post("/tunesmith/v1/webhooks", json={"url": f"https://receiver.invalid/{CANARY}"}))["id"]
    delivery = created(owner.post(f"/tunesmith/v1/webhooks/{webhook}/test"))["id"]
    announced = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 10, "mime_type": "text/jsonl"}
    upload = created(owner.post("/v1/uploads", json=announced))["id"]
    asked = {"model": "tiny", "training_file": file, "hyperparameters": {"n_epochs": 1}}
    job = created(owner.post("/v1/fine_tuning/jobs", json=asked))["id"]
    done = wait_for(lambda: _ended(owner, job))
    assert done["status"] == "succeeded", done
    checkpoint = created(owner.get(f"/v1/fine_tuning/jobs/{job}/checkpoints"))["data"][0]
    permissions = f"/v1/fine_tuning/checkpoints/{checkpoint['fine_tuned_model_checkpoint']}/permissions"
    permission = created(owner.post(permissions, json={"project_ids": [project]}))["data"][0]["id"]
    brought = {"name": "brought", "base_model": "tiny", "source": f"{job}:{checkpoint['id']}"}
    model = created(owner.post("/v0/models", json=brought))["name"]
    exports = f"/tunesmith/v1/models/{done['fine_tuned_model']}/exports"
    export = created(owner.post(exports, json={"format": "merged"}))["id"]
    fields = {"token": CANARY}
    token = created(
        owner.post("/tunesmith/v1/secrets", json={"name": "hub", "purpose": "hub", "fields": fields, "host": HUB})
    )["id"]
    pushed = {"repo": "owner/name", "secret": token, "format": "adapter"}
    push = created(owner.post(f"/tunesmith/v1/models/{done['fine_tuned_model']}/pushes", json=pushed))["id"]
    plain = job.removeprefix("ftjob-")
    told = created(owner.get(f"/tunesmith/v1/jobs/{plain}/events"))["data"][0]["id"]
    dashed = re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", plain)
    return {
        "job": plain, "dashed job": dashed, "openai job": job, "file": file, "plain file": file.removeprefix("file-"),
        "dataset": "mine", "project": project, "key": key["key"]["id"] if "key" in key and isinstance(key["key"], dict)
        else key["id"], "secret": secret, "user": "grace", "upload": upload, "checkpoint": checkpoint["id"],
        "checkpoint name": checkpoint["fine_tuned_model_checkpoint"], "permission": permission,
        "model": done["fine_tuned_model"], "brought model": model, "webhook": webhook, "delivery": delivery,
        "export": export, "push": push, "token": token, "event": told, "webhook endpoint": f"whe_{webhook}",
    }  # fmt: skip


def _ended(client, job):
    found = client.get(f"/v1/fine_tuning/jobs/{job}").json()
    return found if found["status"] in ("succeeded", "failed") else None


# What a parameter of a route names, by dialect.
NAMES = {
    "native": {
        "job_id": "job", "file_id": "plain file", "reference": "dataset", "model_id": "model", "secret": "secret",
        "user": "user", "project_id": "project", "key_id": "key", "webhook_id": "webhook", "delivery_id": "delivery",
        "export_id": "export", "push_id": "push", "sample_id": "event",
    },
    "openai": {
        "file_id": "file", "upload_id": "upload", "job_id": "openai job", "checkpoint_id": "checkpoint",
        "checkpoint": "checkpoint name", "permission_id": "permission", "model": "model", "name": "brought model",
        "webhook_endpoint_id": "webhook endpoint",
    },
    "training_api": {"job_id": "dashed job"},
    "simplismart": {"request_id": "dashed job", "secret_id": "secret"},
    "shakti": {"request_id": "dashed job"},
    "image_training": {"task_id": "dashed job"},
}  # fmt: skip

BODIES = {
    ("POST", "/v1/uploads/{upload_id}/parts"): {"files": {"data": ("a", b"0123456789")}},
    ("POST", "/v1/uploads/{upload_id}/complete"): {"json": {"part_ids": ["part_0"]}},
    ("POST", "/v1/fine_tuning/checkpoints/{checkpoint}/permissions"): {"json": {"project_ids": ["proj_0"]}},
    ("PUT", "/tunesmith/v1/jobs/{job_id}/priority"): {"json": {"priority": 2}},
    ("PUT", "/tunesmith/v1/secrets/{secret}"): {"json": {"fields": {"token": "x"}}},
    ("PUT", "/tunesmith/v1/organisation/members/{user}"): {"json": {"role": "viewer"}},
    ("POST", "/tunesmith/v1/models/{model_id}/exports"): {"json": {"format": "merged"}},
    ("POST", "/tunesmith/v1/models/{model_id}/pushes"): {
        "json": {"repo": "owner/name", "secret": "hub", "format": "adapter"}
    },
    ("PATCH", "/tunesmith/v1/webhooks/{webhook_id}"): {"json": {"description": "other"}},
    ("POST", "/tunesmith/v1/webhooks/{webhook_id}/rotate-secret"): {"json": {"overlap_seconds": 60}},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}"): {"json": {"name": "other"}},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"): {"json": {}},
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/test"): {"json": {"event_type": "fine_tuning.job.succeeded"}},
}


def unknown(id):
    """An id of the same form that nobody has."""
    return "".join({"0": "1"}.get(letter, "0") if letter.isdigit() else letter for letter in id) + (
        "" if any(letter.isdigit() for letter in id) else "0"
    )


def addressed(name, path, query, things, change):
    """The path and query with ids filled in, and all ids that were."""
    named = NAMES[name]
    filled = []

    def fill(parameter):
        if path.endswith(("/artifacts/{name}", "/files/{name}")) and parameter == "name":
            return "README.md"
        filled.append(change(things[named[parameter]]))
        return filled[-1]

    path = re.sub(r"{(\w+)(?::path)?}", lambda found: fill(found[1]), path)
    given = {each: fill(each) for each in query if each in named}
    if "org_id" in query:
        given["org_id"] = STRANGE
    if path.endswith("/recipe"):
        given["format"] = "trl"
    return path, given, filled


def neutral(answer, ids):
    """Status and body, with the ids blotted out."""
    text = answer.text
    for id in sorted(ids, key=len, reverse=True):
        for form in (id, id.replace("-", ""), re.sub(r"^\w+[-_]", "", id)):
            text = text.replace(form, "ID")
    return answer.status_code, text


@pytest.mark.parametrize(
    ("name", "method", "path", "query"),
    [each for each in OPERATIONS if "{" in each[2] or each[3] & {"request_id", "secret_id"}],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_foreign_id_answers_as_an_unknown_one(name, method, path, query, things, stranger):
    body = BODIES.get((method, path.removeprefix("/nebius")), {})
    answers = []
    for change in (str, unknown):
        where, given, ids = addressed(name, path, query, things, change)
        answers.append(neutral(stranger.request(method, where, params=given, **body), ids))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404, answers[0]


@pytest.mark.parametrize(
    ("name", "method", "path", "query"),
    [each for each in OPERATIONS if each[1] == "GET" and "{" not in each[2] and not each[3] & {"request_id"}],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_list_shows_what_belongs_to_another_organisation(name, method, path, query, things, stranger):
    answer = stranger.get(path, params={"org_id": STRANGE} if "org_id" in query else None)
    assert answer.status_code == 200, answer.text
    shown = answer.text
    for what, id in things.items():
        assert id not in shown or what in ("dataset", "user"), what
    assert OWNING not in shown


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [(name, path, query) for name, method, path, query in OPERATIONS if "org_id" in query and method == "GET"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_id_of_another_organisation_answers_as_an_unknown_one(name, path, query, things, stranger):
    named = {each: things[NAMES[name][each]] for each in query & {"request_id"}}
    answers = [
        neutral(stranger.get(path, params={**named, "org_id": org}), [org, *named.values()])
        for org in (OWNING, unknown(OWNING))
    ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


REFERENCES = [
    ("/v1/fine_tuning/jobs", {"model": "tiny"}, "training_file", "file"),
    ("/v1/fine_tuning/jobs", {"training_file": "own file"}, "model", "model"),
    ("/v1/fine_tuning/jobs", {"model": "tiny", "training_file": "own file"}, "validation_file", "file"),
    ("/nebius/v1/fine_tuning/jobs", {"model": "tiny"}, "training_file", "file"),
    ("/train", {"model_name": "tiny"}, "dataset_version", "dataset"),
    ("/train", {"dataset_version": "own"}, "model_name", "model"),
]


@pytest.mark.parametrize(("path", "body", "field", "what"), REFERENCES, ids=lambda value: str(value)[:30])
def test_a_job_cannot_name_what_belongs_to_another_organisation(path, body, field, what, things, stranger):
    rows = {"file": ("rows.jsonl", chat_rows())}
    file = created(stranger.post("/v1/files", data={"purpose": "fine-tune"}, files=rows))["id"]
    created(stranger.post("/tunesmith/v1/datasets", data={"name": "own"}, files=rows))
    body = {key: file if value == "own file" else value for key, value in body.items()}
    answers = []
    for id in (things[what], unknown(things[what])):
        answers.append(neutral(stranger.post(path, json={**body, field: id}), [id]))
    assert answers[0] == answers[1]
    assert 400 <= answers[0][0] < 500


def test_every_route_asks_for_a_credential(server):
    anonymous = httpx2.Client(base_url=server.url, timeout=60)
    for _name, method, path, _query in OPERATIONS:
        answer = anonymous.request(method, re.sub(r"{.*?}", "0", path))
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1}, {"aud": "another"}, {"iss": "https://elsewhere.example.org"}, {"exp": None}, {"org": None},
        {"role": "emperor"}, {"nbf": 2**40},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_that_does_not_fit_is_refused_in_every_dialects_shape(server, claims):
    client = caller(server, OWNING, **{"role": "owner", **claims}) if "org" not in claims else caller(server, None)
    for path in ("/v1/models", "/train", "/tunesmith/v1/jobs", "/job/list?org_id=x", "/api/v1/training"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert "error" in answer.json() or "detail" in answer.json()


def test_unsigned_and_otherwise_signed_tokens_are_refused(server):
    for options in ({"algorithm": "none", "key": None}, {"key": b"another secret of more than thirty-two bytes"}):
        bearer = token(org=OWNING, role="owner", **options)
        answer = httpx2.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {bearer}"})
        assert answer.status_code == 401
        assert bearer not in answer.text


def test_a_viewer_reads_and_changes_nothing(server, things):
    viewer = caller(server, OWNING, sub="visitor", role="viewer")
    assert viewer.get(f"/v1/fine_tuning/jobs/{things['openai job']}").status_code == 200
    for method, path in (
        ("POST", f"/v1/fine_tuning/jobs/{things['openai job']}/cancel"),
        ("DELETE", f"/v1/files/{things['file']}"),
        ("DELETE", f"/train/{things['dashed job']}"),
        ("POST", f"/api/v1/training/{things['dashed job']}/cancel"),
    ):
        assert viewer.request(method, path).status_code == 403, path


def test_an_api_key_works_until_it_is_revoked(server, owner):
    made = created(owner.post("/tunesmith/v1/keys", json={"name": "short", "role": "member"}))
    plain = re.search(r"ts_[\w-]{20,}", json.dumps(made))[0]
    client = httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {plain}"})
    assert client.get("/v1/fine_tuning/jobs").status_code == 200
    id = made["id"] if "id" in made else made["key"]["id"]
    assert owner.delete(f"/tunesmith/v1/keys/{id}").status_code == 200
    assert client.get("/v1/fine_tuning/jobs").status_code == 401
    assert plain not in owner.get("/tunesmith/v1/keys").text


def test_a_planted_secret_is_found_nowhere(server, owner, things):
    """Not in an answer, a log, the database, or any file of the home."""
    for _name, method, path, query in OPERATIONS:
        if method == "GET" and "{" not in path and not query & {"request_id"}:
            assert CANARY not in owner.get(path, params={"org_id": OWNING} if "org_id" in query else None).text
    assert CANARY not in "".join(server.stderr)
    for file in server.home.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file
