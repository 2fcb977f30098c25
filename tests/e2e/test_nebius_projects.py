"""With authentication, an organisation or project that a request names must be the caller's own."""

import httpx2
import pytest

from rows import chat_rows
from running_server import RunningServer
from signed_tokens import AUDIENCE, ISSUER, SECRET, token


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory):
    server = RunningServer(
        write_home(tmp_path_factory.mktemp("server") / "home"),
        TUNESMITH_AUTHENTICATION="required",
        TUNESMITH_TOKEN_SECRET=SECRET.decode(),
        TUNESMITH_TOKEN_ISSUER=ISSUER,
        TUNESMITH_TOKEN_AUDIENCE=AUDIENCE,
    )
    yield server
    server.stop()


def _http(server, **claims):
    headers = {"Authorization": f"Bearer {token(**claims)}"}
    return httpx2.Client(base_url=server.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def acme(server):
    return _http(server, role="owner")


@pytest.fixture(scope="module")
def stranger(server):
    return _http(server, org="other", sub="bob", role="owner")


def _project(http, name):
    answer = http.post("/tunesmith/v1/projects", json={"name": name})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.fixture(scope="module")
def project(acme):
    return _project(acme, "ours")


@pytest.fixture(scope="module")
def foreign(stranger):
    return _project(stranger, "theirs")


@pytest.fixture(scope="module")
def body(acme):
    files = {"file": ("rows.jsonl", chat_rows())}
    file = acme.post("/v1/files", data={"purpose": "fine-tune"}, files=files).json()["id"]
    return {"model": "tiny", "training_file": file}


@pytest.mark.slow
def test_a_job_belongs_to_the_project_that_its_request_names(acme, project, body):
    made = acme.post(f"/nebius/v1/fine_tuning/jobs?ai_project_id={project}", json=body)
    assert made.status_code == 200, made.text
    acme.post(f"/v1/fine_tuning/jobs/{made.json()['id']}/cancel")
    listed = acme.get("/v1/fine_tuning/jobs", headers={"OpenAI-Project": project}).json()["data"]
    assert [job["id"] for job in listed] == [made.json()["id"]]
    assert made.json()["organization_id"] == "acme"


@pytest.mark.parametrize("header", ["OpenAI-Project", "OpenAI-Organization"])
def test_a_foreign_project_or_organisation_answers_as_an_unknown_one_on_every_route(acme, foreign, body, header):
    answers = []
    for value in ("other" if header == "OpenAI-Organization" else foreign, "nobody"):
        for path in ("/v1/fine_tuning/jobs", "/v1/files", "/v1/models", "/nebius/v0/models"):
            answer = acme.get(path, headers={header: value})
            answers.append((answer.status_code, answer.json()["error"]["message"].replace(value, "X")))
        made = acme.post("/v1/fine_tuning/jobs", json=body, headers={header: value})
        answers.append((made.status_code, made.json()["error"]["message"].replace(value, "X")))
    assert len(set(answers)) == 1
    assert answers[0][0] == 404


def test_a_foreign_project_in_the_query_is_not_found(acme, foreign, body):
    for answer in (
        acme.post(f"/v1/fine_tuning/jobs?ai_project_id={foreign}", json=body),
        acme.get(f"/v1/fine_tuning/jobs?ai_project_id={foreign}"),
        acme.get(f"/v0/models?ai_project_id={foreign}"),
    ):
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "ai_project_id")


def test_two_projects_at_once_are_refused_and_an_archived_one_takes_no_job(acme, project, body):
    headers = {"OpenAI-Project": project}
    old = _project(acme, "old")
    both = acme.get(f"/v1/fine_tuning/jobs?ai_project_id={old}", headers=headers)
    assert both.status_code == 400
    acme.post(f"/tunesmith/v1/projects/{old}/archive")
    refused = acme.post(f"/v1/fine_tuning/jobs?ai_project_id={old}", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (409, "ai_project_id")
    assert acme.get(f"/v1/fine_tuning/jobs?ai_project_id={old}").status_code == 200


def test_a_key_of_one_project_works_in_it_unasked_and_in_no_other(server, acme, project, body):
    mine = _project(acme, "bound")
    key = acme.post("/tunesmith/v1/keys", json={"name": "k", "role": "member", "project": mine}).json()["key"]
    bound = httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    job = bound.post("/v1/fine_tuning/jobs", json=body)
    assert job.status_code == 200, job.text
    bound.post(f"/v1/fine_tuning/jobs/{job.json()['id']}/cancel")
    listed = acme.get(f"/v1/fine_tuning/jobs?ai_project_id={mine}").json()["data"]
    assert [each["id"] for each in listed] == [job.json()["id"]]
    assert bound.get(f"/v1/fine_tuning/jobs?ai_project_id={project}").status_code == 404
    acme.post(f"/tunesmith/v1/projects/{mine}/archive")
    refused = bound.post("/v1/fine_tuning/jobs", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (409, "ai_project_id")


def test_another_organisations_things_are_not_found(acme, stranger, body):
    upload = {"filename": "a", "purpose": "batch", "mime_type": "text/plain", "bytes": 4}
    upload_id = acme.post("/v1/uploads", json=upload).json()["id"]
    assert stranger.post(f"/v1/uploads/{upload_id}/cancel").status_code == 404
    assert stranger.get(f"/v1/files/{body['training_file']}").status_code == 404
    made = stranger.post("/v1/fine_tuning/jobs", json=body)
    assert (made.status_code, made.json()["error"]["param"]) == (404, "training_file")
    job = acme.post("/v1/fine_tuning/jobs", json=body).json()
    acme.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    body = {"from_checkpoint": {"type": "ft", "checkpoint": f"{job['id']}:ftckpt_1"}, "model": "tiny"}
    rows = {"file": ("rows.jsonl", chat_rows())}
    file = stranger.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
    answer = stranger.post("/v1/fine_tuning/jobs", json={**body, "training_file": file})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "from_checkpoint.checkpoint")


def test_a_member_may_not_hand_out_permissions_and_a_viewer_may_submit_nothing(server, body):
    member, viewer = _http(server, role="member", sub="mia"), _http(server, role="viewer", sub="vic")
    path = "/v1/fine_tuning/checkpoints/ft:tiny:acme::12345678:ckpt-step-1/permissions"
    assert member.post(path, json={"project_ids": ["p"]}).status_code == 403
    assert viewer.post("/v1/fine_tuning/jobs", json=body).status_code == 403
    assert viewer.get("/v1/fine_tuning/jobs").status_code == 200
