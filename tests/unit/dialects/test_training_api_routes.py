"""Requests against the routes, over a real database."""

import pytest

from open_doors import open_doors
from rows import chat_rows
from tunesmith.access.caller import Caller, Role
from tunesmith.dialects import training_api
from tunesmith.spec.errors import AdapterError, BusyError, ConflictError, JobStateError
from tunesmith.spec.lifecycle import State
from tunesmith.store import models, organisations


@pytest.fixture
def doors(tmp_path):
    with open_doors(tmp_path) as doors:
        doors.add_dataset("v1.0", chat_rows())
        yield doors


@pytest.fixture
def client(doors):
    return doors.client("training_api", training_api)


@pytest.mark.parametrize(
    ("body", "field"), [({"lora_hf_repo": "owner/adapter"}, "lora_hf_repo"), ({"lora_name": "a"}, "lora_name")]
)
def test_a_bad_adapter_is_a_fault_of_the_field_that_names_it(doors, client, body, field):
    doors.admission.refusal = AdapterError("It has no weights.", param="init_from")
    answer = client.post("/train", json=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", field])


@pytest.mark.parametrize(
    ("error", "status"), [(JobStateError("Late."), 400), (ConflictError("Archived."), 409), (BusyError("Busy."), 409)]
)
def test_only_what_comes_too_late_for_a_jobs_state_is_400(error, status):
    assert training_api.render_error(error, "/train") == (status, {"detail": error.message})


def test_a_cancel_that_comes_too_late_is_400(doors, client):
    job = doors.add_job(State.SUCCEEDED)
    answer = client.delete(f"/train/{job.id}")
    assert (answer.status_code, "succeeded" in answer.json()["detail"]) == (400, True)


def test_a_job_for_an_archived_project_is_409(doors):
    with doors.database.write() as connection:
        project = organisations.add_project(connection, "local", "p", "p", 1.0)
        organisations.archive_project(connection, project, 2.0)
    bound = doors.client("training_api", training_api, Caller(org="local", user=None, role=Role.MEMBER, project="p"))
    answer = bound.post("/train", json={})
    assert (answer.status_code, "archived" in answer.json()["detail"]) == (409, True)


def test_the_newest_thousand_jobs_are_listed_oldest_first(doors, client):
    ids = [job.id for job in doors.add_jobs(1001)]
    assert [job["job_id"].replace("-", "") for job in client.get("/train").json()] == ids[1:]


def test_each_job_of_the_list_has_the_folder_of_its_own_model(doors, client):
    for name in ("a", "b"):
        job = doors.add_job(State.SUCCEEDED, model_id=f"ft:{name}")
        values = {"base": "m", "base_revision": None, "kind": "adapter", "description": None, "created_at": 1.0}
        with doors.database.write() as connection:
            models.add(
                connection, org="local", name=None, id=f"ft:{name}", job_id=job.id, path=f"/models/{name}", **values
            )
    doors.add_job()
    listed = client.get("/train").json()
    assert [job["output_path"] for job in listed] == ["/models/a", "/models/b", None]
    assert listed[0] == client.get(f"/train/{listed[0]['job_id']}").json()


def test_what_two_fields_are_together_is_told_without_a_field(client):
    answer = client.post("/train", json={"batch_size": 1_024, "gradient_accumulation_steps": 1_024})
    assert answer.status_code == 422
    told = str(answer.json()["detail"])
    assert "The request is not valid: batch_size x gradient_accumulation_steps must be at most 65536 rows" in told
