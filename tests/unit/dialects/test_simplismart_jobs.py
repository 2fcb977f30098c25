"""Requests against the routes, over a real database."""

import json

import pytest

from open_doors import open_doors
from rows import chat_rows
from tunesmith.access.caller import Caller, Role
from tunesmith.dialects import simplismart
from tunesmith.spec.errors import ModelNotFoundError
from tunesmith.store import organisations

LOCAL_ROWS = {"dataset_name": "rows", "dataset_path": "rows", "source_type": "local"}


@pytest.fixture
def doors(tmp_path):
    with open_doors(tmp_path) as doors:
        doors.add_dataset("rows", chat_rows())
        yield doors


@pytest.fixture
def client(doors):
    return doors.client("simplismart", simplismart)


def send(client, name="e", model="m", details=LOCAL_ROWS, **train):
    parts = {
        "org": "local",
        "experiment_name": name,
        "dataset_config": "{}",
        "model_details": json.dumps({"base_model": model}),
        "train_config": json.dumps(train),
        "dataset_details": json.dumps(details),
        "infra_config": "{}",
    }
    return client.post("/job", files={part: (None, text) for part, text in parts.items()})


def listed(client, **query):
    return client.get("/job/list", params={"org_id": "local", **query}).json()


def notes(client, answer):
    query = {"org_id": "local", "request_id": answer.json()["request_id"]}
    return client.get("/job/get", params=query).json()["notes"]


def test_a_page_of_jobs_comes_with_the_number_of_all(doors, client):
    doors.add_jobs(101)
    whole = listed(client)
    assert (len(whole["jobs"]), whole["total_count"]) == (100, 101)
    page = listed(client, offset=99, count=5)
    assert (len(page["jobs"]), page["total_count"]) == (2, 101)
    assert page["jobs"][0] == whole["jobs"][99]


def test_an_experiments_name_is_refused_the_second_time_for_the_same_and_for_another_request(client):
    assert send(client).status_code == 200
    for answer in (send(client), send(client, type="sft")):
        assert (answer.status_code, "experiment_name" in answer.json()["error"]) == (409, True)
    assert listed(client)["total_count"] == 1


def test_a_name_of_another_project_is_taken_and_its_job_not_told(doors):
    with doors.database.write() as connection:
        for project in ("one", "two"):
            organisations.add_project(connection, "local", project, project, 1.0)
    one, two = (
        doors.client("simplismart", simplismart, Caller(org="local", user=None, role=Role.MEMBER, project=project))
        for project in ("one", "two")
    )
    made = send(one)
    assert made.status_code == 200, made.text
    refused = send(two)
    assert refused.status_code == 409
    assert made.json()["request_id"] not in refused.text
    assert listed(two) == {"jobs": [], "total_count": 0}
    assert send(two, name="other").status_code == 200


def test_what_admission_refuses_leaves_the_name_free(doors, client):
    doors.admission.refusal = ModelNotFoundError("No model is called 'm'.", param="model.base")
    answer = send(client)
    assert (answer.status_code, "model_details.base_model" in answer.json()["error"]) == (404, True)
    doors.admission.refusal = None
    assert send(client).status_code == 200


def test_a_model_of_this_server_is_noted_where_the_hub_is_named(client):
    assert any("'ours' is this server's own model" in note for note in notes(client, send(client, model="ours")))
    assert notes(client, send(client, name="other")) == []


def test_json_null_is_no_configuration(client):
    parts = {"org": (None, "local"), "experiment_name": (None, "e"), "dataset_config": (None, "null")}
    assert client.post("/job", files=parts).json()["error"] == "dataset_config is required."


@pytest.mark.parametrize(
    ("source", "missing"), [("s3", {"secret_id", "region"}), ("gcs", {"secret_id"}), ("hf", {"secret_id"})]
)
def test_a_private_source_needs_credentials_and_only_a_bucket_of_s3_a_region(client, source, missing):
    details = {**LOCAL_ROWS, "source_type": source, "ownership": "private"}
    error = send(client, details=details).json()["error"]
    assert error.startswith("dataset_details.secret_id is required")
    answer = send(client, details={**details, "secret_id": "keys"})
    asked = "dataset_details.region is required" if "region" in missing else "dataset_details.secret_id: "
    assert asked in answer.json()["error"]
