"""Every method that a foreign API can ask for, from its request to a model."""

import uuid
from pathlib import Path

import pytest

from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

DATASETS = Path(__file__).parents[2] / "examples" / "datasets"


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("methods") / "home"))
    for name in ("preference", "kto", "text"):
        rows = {"file": (f"{name}.jsonl", (DATASETS / f"{name}.jsonl").read_bytes())}
        server.http.post("/tunesmith/v1/datasets", data={"name": name}, files=rows).raise_for_status()
    yield server
    server.stop()


def ended(server, job_id):
    def look():
        job = server.http.get(f"/train/{job_id}").json()
        return job if job["status"] in ("completed", "failed") else None

    return wait_for(look)


def test_preferences_are_trained_through_openais_dpo(served):
    rows = (DATASETS / "preference.jsonl").read_bytes() * 2  # ten rows are the least
    upload = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", rows)}}
    file = served.http.post("/v1/files", **upload).json()["id"]
    asked = {
        "model": "tiny",
        "training_file": file,
        "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 1, "batch_size": 2}}},
    }
    answer = served.http.post("/v1/fine_tuning/jobs", json=asked)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["method"]["type"] == "dpo"
    assert ended(served, job["id"].removeprefix("ftjob-"))["error"] is None
    events = served.http.get(f"/v1/fine_tuning/jobs/{job['id']}/events?limit=100").json()["data"]
    [first] = [event for event in events if event["type"] == "metrics" and event["data"]["step"] == 1]
    assert {"rewards/margins", "rewards/accuracies"} <= set(first["data"]["extra"])
    query = {"org_id": "local", "request_id": str(uuid.UUID(job["id"].removeprefix("ftjob-")))}
    for metrics in ("/job/metrics", "/api/llm/training_job/get/mlflow-metrics"):
        shown = served.http.get(metrics, params=query)
        assert shown.status_code == 200, shown.text
        assert "train_loss" in shown.text
    assert served.http.get(f"/tunesmith/v1/jobs/{uuid.UUID(query['request_id']).hex}/metrics").status_code == 200


@pytest.mark.parametrize(
    ("stage", "dataset"), [("pt", "text"), ("rm", "preference"), ("dpo", "preference"), ("kto", "kto")]
)
def test_the_stages_of_llama_factory_are_trained(served, stage, dataset):
    asked = {
        "model_name": "tiny",
        "dataset_version": dataset,
        "training_type": stage,
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
    }
    answer = served.http.post("/train", json=asked)
    assert answer.status_code == 200, answer.text
    done = ended(served, answer.json()["job_id"])
    assert (done["status"], done["error"]) == ("completed", None)


def test_rows_of_another_method_are_refused_with_their_shape_before_the_job_is_accepted(served):
    answer = served.http.post("/train", json={"model_name": "tiny", "dataset_version": "text", "training_type": "dpo"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "dataset_version"]
    assert "preference" in answer.text
