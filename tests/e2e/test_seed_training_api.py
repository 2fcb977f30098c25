"""Every request of the Training API's own page, by curl, as it stands there but for host and job id."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

QWEN = "Qwen/Qwen2.5-1.5B-Instruct"
EXAMPLE = Path(__file__).parents[2] / "examples" / "training_api" / "train.sh"

BASIC = """
curl -X POST http://localhost:23478/train \
  -H "Content-Type: application/json" \
  -d '{
    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
    "lora_name": "initial-sft",
    "lora_version": "2",
    "dataset_version": "v1.0",
    "template": "qwen",
    "tracking_backend": "mlflow"
  }'
"""

ALL_PARAMETERS = """
curl -X POST http://localhost:23478/train \
  -H "Content-Type: application/json" \
  -d '{
    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
    "lora_name": "initial-sft",
    "lora_version": "2",
    "dataset_version": "v1.0",
    "template": "qwen",
    "cutoff_len": 2048,
    "max_samples": 10000,
    "batch_size": 1,
    "gradient_accumulation_steps": 8,
    "save_steps": 501,
    "learning_rate": "2.0e-5",
    "num_epochs": 2.0,
    "tracking_backend": "mlflow",
    "save_name": "test_reasoning"
  }'
"""

REJECT = """
curl -X POST "http://localhost:23478/train?strategy=reject" \
  -H "Content-Type: application/json" \
  -d '{
    "model_name": "Qwen/Qwen2.5-1.5B-Instruct",
    "dataset_version": "v1.0"
  }'
"""

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("seed") / "home"))
    added = server.http.post(
        "/tunesmith/v1/datasets", data={"name": "v1.0"}, files={"file": ("rows.jsonl", chat_rows(400))}
    )
    assert added.status_code == 200
    yield server
    server.stop()


def run(server, command):
    """The status and body that a command of the page gets from this server."""
    command = command.replace("http://localhost:23478", server.url)
    done = subprocess.run(
        ["bash", "-c", command.strip() + " -s -w '\\n%{http_code}'"], capture_output=True, text=True, check=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def test_the_page_runs_from_top_to_bottom(served):
    status, about = run(served, "curl -X GET http://localhost:23478/")
    assert (status, about["version"]) == (200, "0.1.0")
    assert set(about) == {"name", "version", "description", "endpoints"}

    status, created = run(served, BASIC)
    assert status == 200
    assert created == {"job_id": created["job_id"], "status": "started", "message": "Training job started"}

    status, queued = run(served, ALL_PARAMETERS)
    assert (status, queued["status"]) == (200, "queued")
    assert queued["message"].endswith("position 1")

    status, refused = run(served, REJECT)
    assert status == 409
    assert isinstance(refused["detail"], str)

    status, queue = run(served, "curl -X GET http://localhost:23478/queue")
    assert status == 200
    assert queue["is_training_running"] is True
    assert queue["queued_jobs"] == [queued["job_id"]]
    assert queue["queue_length"] == 1

    status, one = run(served, f"curl -X GET http://localhost:23478/train/{queued['job_id']}")
    assert status == 200
    assert set(one) == {
        "job_id", "status", "config", "start_time", "end_time", "tracking_url", "error", "output_path",
    }  # fmt: skip
    assert one["config"]["learning_rate"] == 0.00002
    assert one["config"]["save_name"] == "test_reasoning"
    assert isinstance(one["start_time"], float)

    status, listed = run(served, "curl -X GET http://localhost:23478/train")
    assert [job["job_id"] for job in listed] == [created["job_id"], queued["job_id"]]

    for job_id in (created["job_id"], queued["job_id"]):
        ended = wait_for(lambda job_id=job_id: _ended(served, job_id))
        assert ended["status"] == "completed", ended
        assert ended["end_time"] > ended["start_time"]

    status, again = run(served, REJECT)
    assert (status, again["status"]) == (200, "started")
    assert wait_for(lambda: _ended(served, again["job_id"]))["status"] == "completed"


def _ended(server, job_id):
    job = server.http.get(f"/train/{job_id}").json()
    return job if job["status"] not in ("queued", "running") else None


def test_results_are_registered_by_name_and_version_and_continued(served):
    models = served.http.get("/tunesmith/v1/models").json()["data"]
    versions = [(model["name"], model["version"]) for model in models if model["kind"] == "adapter"]
    assert versions == [("initial-sft", 2), ("test_reasoning", 1), ("initial-sft", 1)]
    job = served.http.get("/tunesmith/v1/jobs").json()["data"][0]
    assert job["spec"]["init_from"]["id"] == models[2]["id"]
    assert any("continues from the adapter" in note for note in job["notes"])


def test_a_queued_and_a_running_job_can_be_cancelled_and_an_ended_one_not(served):
    long = {"num_epochs": 900, "gradient_accumulation_steps": 1}
    first = served.http.post("/train", json=long).json()["job_id"]
    second = served.http.post("/train", json={}).json()["job_id"]
    for job_id in (second, first):
        answer = served.http.delete(f"/train/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert served.http.get(f"/train/{job_id}").json()["status"] == "cancelled"
    late = served.http.delete(f"/train/{first}")
    assert late.status_code == 400
    assert "cancelled" in late.json()["detail"]
    wait_for(lambda: not served.worker_pids(), seconds=45)


@pytest.mark.parametrize(
    ("path", "body", "status", "location"),
    [
        ("/train", {"dataset_version": "v9"}, 422, ["body", "dataset_version"]),
        ("/train", {"model_name": "nobody"}, 404, None),
        ("/train", {"learning_rate": "fast"}, 422, ["body", "learning_rate"]),
        ("/train", {"num_epoch": 1}, 422, ["body", "num_epoch"]),
        ("/train", {"training_type": "ppo"}, 422, ["body", "training_type"]),
        ("/train?strategy=perhaps", {}, 422, ["query", "strategy"]),
    ],
    ids=["dataset", "model", "rate", "typo", "type", "strategy"],
)
def test_bad_requests_answer_as_fastapi_does(served, path, body, status, location):
    answer = served.http.post(path, json=body)
    assert answer.status_code == status
    detail = answer.json()["detail"]
    if location:
        assert detail[0]["loc"] == location
        assert set(detail[0]) == {"loc", "msg", "type"}
    else:
        assert isinstance(detail, str)


def test_unknown_jobs_are_404(served):
    for job_id in ("550e8400-e29b-41d4-a716-446655440000", "nonsense"):
        for method in ("GET", "DELETE"):
            answer = served.http.request(method, f"/train/{job_id}")
            assert answer.status_code == 404
            assert isinstance(answer.json()["detail"], str)


def test_a_job_of_one_dialect_is_read_through_the_others(served):
    job_id = served.http.get("/train").json()[0]["job_id"]
    hexadecimal = job_id.replace("-", "")
    openai = served.http.get(f"/v1/fine_tuning/jobs/ftjob-{hexadecimal}").json()
    assert (openai["status"], openai["object"]) == ("succeeded", "fine_tuning.job")
    assert served.http.get(f"/tunesmith/v1/jobs/{hexadecimal}").json()["state"] == "succeeded"


def test_the_example_runs_to_the_end(served):
    done = subprocess.run(
        [EXAMPLE, QWEN],
        env={**os.environ, "TUNESMITH_URL": served.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"output_path":"' in done.stdout.splitlines()[-1]
