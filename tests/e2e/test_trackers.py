"""Real jobs whose trackers and hub are real servers on the loopback, and one tracker that is not there."""

import json
import socket
import sqlite3

import pytest

from hub_server import HubServer
from mlflow_server import MlflowProcess
from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

PASSWORD = "canary-of-mlflow-0815"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    with MlflowProcess(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory, hub, mlflow):
    home = write_home(tmp_path_factory.mktemp("server") / "home")
    server = RunningServer(
        home,
        TUNESMITH_HUB_URL=hub.url,
        TUNESMITH_MLFLOW_URL=mlflow.url,
        TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8",
        TUNESMITH_WARM_WORKERS="false",
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def file_id(server):
    files = {"file": ("rows.jsonl", chat_rows(24))}
    return server.http.post("/v1/files", files=files, data={"purpose": "fine-tune"}).json()["id"]


def asked(mlflow, experiment):
    return [
        {
            "type": "mlflow",
            "mlflow": {
                "tracking_uri": mlflow,
                "experiment_name": experiment,
                "run_name": "r",
                "tags": {"a": "b"},
                "username": "user",
                "password": PASSWORD,
                "certificate_file": "",
            },
        },
        {"type": "hf", "hf": {"output_repo_name": "owner/result", "api_token": HubServer.WRITERS_TOKEN}},
    ]


def create(server, file_id, integrations, **fields):
    hyperparameters = {"n_epochs": 2, "batch_size": 4, "lora": True, "packing": False}
    body = {
        "model": "tiny",
        "training_file": file_id,
        "suffix": "told",
        "hyperparameters": hyperparameters,
        "integrations": integrations,
        **fields,
    }
    answer = server.http.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def standing(server, id):
    found = server.http.get(f"/tunesmith/v1/jobs/{id}/integrations").json()["data"]
    return {each["kind"]: each for each in found}


def job_ended(server, id):
    job = wait_for(
        lambda: (
            (found := server.http.get(f"/tunesmith/v1/jobs/{id}").json())["state"] in ("succeeded", "failed") and found
        )
    )
    assert job["state"] == "succeeded", job["error"]
    return job


def all_told(server, id):
    states = wait_for(
        lambda: (
            all(each["state"] in ("done", "failed") for each in standing(server, id).values()) and standing(server, id)
        )
    )
    assert {each["state"] for each in states.values()} == {"done"}, states
    return states


def everything_on_disk(home):
    """What the home holds, but for the sealed secrets, whose encryption the unit tests show."""
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and "cache" not in path.parts}


def test_a_job_by_nebius_fields_is_told_to_mlflow_and_put_on_the_hub(server, mlflow, hub, file_id):
    job = create(server, file_id, asked(mlflow.url, "nebius"))
    assert job["integrations"] == [
        {
            "type": "mlflow",
            "mlflow": {"tracking_uri": mlflow.url, "experiment_name": "nebius", "run_name": "r", "tags": {"a": "b"}},
        },
        {"type": "hf", "hf": {"output_repo_name": "owner/result"}},
    ]
    id = job["id"].removeprefix("ftjob-")
    ended = job_ended(server, id)
    states = all_told(server, id)
    assert set(states) == {"hub", "mlflow", "tensorboard"}
    assert states["mlflow"]["url"] == ended["tracking_url"] is not None
    assert states["hub"]["url"] == f"{hub.url}/owner/result"
    [run] = mlflow.runs("nebius")
    assert run["info"]["status"] == "FINISHED"
    metrics = server.http.get(f"/tunesmith/v1/jobs/{id}/metrics").json()
    told = [(step, value) for step, value, _ in mlflow.history(run, "train/loss")]
    assert told == [(point["step"], point["loss"]) for point in metrics["training"]]
    assert json.loads(mlflow.file(run, "receipt.json"))
    repository = hub.repositories["model", "owner/result"]
    files = repository.commits[repository.revisions["main"]]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(files)
    assert mlflow.file(run, "model/adapter_config.json") == files["adapter_config.json"]
    assert repository.private
    for path, content in everything_on_disk(server.home).items():
        assert PASSWORD.encode() not in content, path
        assert HubServer.WRITERS_TOKEN.encode() not in content, path
    assert PASSWORD not in "".join(server.stderr)
    with sqlite3.connect(server.home / "tunesmith.db") as database:
        assert database.execute("select count(*) from secrets").fetchone() == (0,)


def test_the_training_api_tells_the_operators_mlflow_server_and_shows_the_page(server, mlflow):
    server.http.post(
        "/tunesmith/v1/datasets", files={"file": ("rows.jsonl", chat_rows(12))}, data={"name": "v1.0"}
    ).raise_for_status()
    answer = server.http.post("/train", json={"model_name": "tiny", "tracking_backend": "mlflow", "num_epochs": 1})
    assert answer.status_code == 200, answer.text
    id = answer.json()["job_id"]
    wait_for(lambda: server.http.get(f"/train/{id}").json()["status"] == "completed")
    all_told(server, id.replace("-", ""))
    url = server.http.get(f"/train/{id}").json()["tracking_url"]
    assert url.startswith(f"{mlflow.url}/#/experiments/")
    assert any(url.endswith(run["info"]["run_id"]) for run in mlflow.runs("tunesmith"))


def test_the_training_apis_default_works_on_a_machine_without_an_account(server):
    answer = server.http.post("/train", json={"model_name": "tiny", "num_epochs": 1})
    assert answer.status_code == 200, answer.text
    id = answer.json()["job_id"].replace("-", "")
    job_ended(server, id)
    states = all_told(server, id)
    assert states["wandb"]["url"].startswith("file:///")
    assert list((server.home / "tracking" / id / "wandb").glob("wandb/offline-run-*/run-*.wandb"))
    assert any("wandb sync" in note for note in server.http.get(f"/tunesmith/v1/jobs/{id}").json()["notes"])


def test_a_job_whose_tracker_is_away_is_as_fast_as_one_without(server, file_id):
    def seconds(integrations):
        job = create(server, file_id, integrations)
        id = job["id"].removeprefix("ftjob-")
        ended = job_ended(server, id)
        return id, ended["finished_at"] - ended["started_at"]

    _, alone = seconds([])
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    id, beside = seconds(asked(nobody, "away")[:1])
    assert beside < 2 * alone + 2
    found = standing(server, id)["mlflow"]
    assert found["state"] == "retrying"
    assert "does not answer" in found["error"]


def test_a_killed_server_goes_on_telling_without_a_point_twice(server, mlflow, file_id):
    job = create(server, file_id, asked(mlflow.url, "killed")[:1], hyperparameters={
        "n_epochs": 20, "batch_size": 4, "lora": True, "packing": False,
    })  # fmt: skip
    id = job["id"].removeprefix("ftjob-")
    wait_for(lambda: server.http.get(f"/tunesmith/v1/jobs/{id}").json()["step"] > 5)
    server.kill()
    server.restart()
    job_ended(server, id)
    all_told(server, id)
    [run] = mlflow.runs("killed")
    steps = [step for step, _, _ in mlflow.history(run, "train/loss")]
    assert steps == list(range(1, max(steps) + 1))
    assert run["info"]["status"] == "FINISHED"


def test_a_refused_job_leaves_no_credentials_behind(server, mlflow, file_id):
    body = {"model": "nonesuch", "training_file": file_id, "integrations": asked(mlflow.url, "refused")}
    refused = server.http.post("/v1/fine_tuning/jobs", json=body)
    assert refused.status_code >= 400
    body = {"model": "tiny", "training_file": file_id, "integrations": asked("http://192.168.0.1:5000", "refused")}
    refused = server.http.post("/v1/fine_tuning/jobs", json=body)
    assert refused.status_code in (400, 422), refused.text
    assert refused.json()["error"]["param"] == "integrations.0.mlflow.tracking_uri"
    assert PASSWORD not in refused.text
    with sqlite3.connect(server.home / "tunesmith.db") as database:
        purposes = [row[0] for row in database.execute("select purpose from secrets")]
    assert "hub" not in purposes


def test_the_native_dialect_names_stored_credentials(server, mlflow, hub, file_id):
    secret = {"name": "tracker", "purpose": "mlflow", "host": mlflow.url.removeprefix("http://")}
    server.http.post("/tunesmith/v1/secrets", json={**secret, "fields": {"token": PASSWORD}}).raise_for_status()
    body = {
        "spec": {
            "model": {"base": "tiny"},
            "data": {"train": {"file": file_id.removeprefix("file-")}},
            "optimization": {"epochs": 1},
        },
        "integrations": {"mlflow": {"tracking_uri": mlflow.url, "experiment_name": "native", "secret": "tracker"}},
    }
    answer = server.http.post("/tunesmith/v1/jobs", json=body)
    assert answer.status_code == 200, answer.text
    id = answer.json()["id"]
    job_ended(server, id)
    all_told(server, id)
    assert len(mlflow.runs("native")) == 1
    assert server.http.get("/tunesmith/v1/secrets/tracker").is_success, "a stored secret stays"
    assert PASSWORD not in json.dumps(server.http.get(f"/tunesmith/v1/jobs/{id}").json())
    body["integrations"]["mlflow"]["tracking_uri"] = "https://elsewhere.example.org"
    refused = server.http.post("/tunesmith/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (404, "integrations.mlflow.secret")
