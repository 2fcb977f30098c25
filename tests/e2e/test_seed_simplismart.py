"""The request of the vendor's own page, by curl, as it stands there but for host, token and the secret's id."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from running_server import RunningServer, wait_for
from s3_server import S3Server

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples/simplismart/train.sh"

ORG = "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f"
LLAMA = "meta-llama/Llama-3.2-1B-Instruct"

PAGE = r"""
curl --request POST \
  --url https://training-suite.app.simplismart.ai/job/ \
  --header 'Authorization: Bearer <token>' \
  --header 'Content-Type: multipart/form-data' \
  --form org=0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f \
  --form experiment_name=launch-simplismart-causal_lm-lora \
  --form 'dataset_config={
  "preprocessing": {
    "lazy_tokenize": true,
    "streaming": false,
    "prompt": {
      "system": null,
      "max_length": 4096,
      "template": null
    }
  },
  "split": {
    "type": "random",
    "ratios": [0.9, 0.1]
  }
}
' \
  --form 'model_details={
  "base_model": "meta-llama/Llama-3.2-1B-Instruct",
  "ownership": "public",
  "source_type": "hf",
  "model_type": "llm",
  "quantization": {
    "quant_bits": 4
  }
}
' \
  --form 'train_config={
  "type": "sft",
  "torch_dtype": "bfloat16",
  "task_type": "causal_lm",
  "train_type": "lora",
  "tuner_backend": "simplismart",
  "hyperparameters": {
    "num_epochs": 1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_checkpointing": true,
    "save_steps": 500,
    "save_total_limit": 2,
    "eval_steps": 500,
    "logging_steps": 5,
    "learning_rate": 0.0001,
    "dataloader_num_workers": 1
  },
  "adapter_config": {
    "r": 16,
    "alpha": 16,
    "dropout": 0.1,
    "targets": ["all-linear"]
  },
  "distributed": {
    "type": "ddp"
  }
}
' \
  --form 'dataset_details={
  "dataset_name": "dataset-name",
  "dataset_path": "s3://training-dev-datasets/ds/sharegpt_ds_half.jsonl",
  "dataset_description": "",
  "dataset_type": "jsonl",
  "dataset_format": "sharegpt",
  "source_type": "s3",
  "ownership": "private",
  "secret_id": "<your-secret-key>",
  "region": "us-west-2"
}
' \
  --form 'infra_config={
  "gpu_type": "h100",
  "gpu_count": 2,
  "infra_type": "simplismart",
  "node_count": 2
}
'
"""

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)


def sharegpt_rows(count):
    """Rows as the vendor's guides show them."""
    turns = [{"human": f"What comes after {number}?", "assistant": f"{number + 1}."} for number in range(count)]
    return b"".join(json.dumps({"system": "Count.", "conversation": [turn]}).encode() + b"\n" for turn in turns)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp("s3")) as store:
        store.put("training-dev-datasets", "ds/sharegpt_ds_half.jsonl", sharegpt_rows(80))
        yield store


@pytest.fixture(scope="module")
def served(write_home, tiny_model_folder, tmp_path_factory):
    home = write_home(tmp_path_factory.mktemp("simplismart") / "home")
    with (home / "tunesmith.toml").open("a") as settings:
        settings.write(f'"{LLAMA}" = "{tiny_model_folder}"\n')
    server = RunningServer(home, TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def secret(served, bucket):
    answer = served.http.post(
        "/secret", json={"org": ORG, "name": "bucket keys", "purpose": "s3", "fields": bucket.credentials}
    )
    assert answer.status_code == 200
    assert bucket.SECRET_ACCESS_KEY not in answer.text
    return answer.json()["secret_id"]


@pytest.fixture(scope="module")
def counting(served):
    """A registered dataset."""
    rows = ("rows.jsonl", sharegpt_rows(20))
    answer = served.http.post("/dataset", files={"org": (None, ORG), "dataset_name": (None, "counting"), "file": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def created(served, secret):
    """What the page's request is answered with."""
    status, body = run(served, PAGE.replace("<your-secret-key>", secret))
    assert status == 200, body
    return body


def run(server, command):
    """The status and body that the page's command gets from this server."""
    command = command.replace("https://training-suite.app.simplismart.ai", server.url)
    done = subprocess.run(
        ["bash", "-c", command.strip() + " -s -w '\\n%{http_code}'"], capture_output=True, text=True, check=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def get(server, path, request_id=None):
    query = {"org_id": ORG} | ({"request_id": request_id} if request_id else {})
    answer = server.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(server, request_id):
    job = get(server, "/job/get", request_id)
    return job if job["status"] not in ("QUEUED", "RUNNING") else None


def configurations():
    """The five parts of the page's request."""
    return {name: json.loads(text) for name, text in re.findall(r"--form '(\w+)=(.*?)'", PAGE, re.DOTALL)}


def form(**changes):
    """The page's form over a registered dataset, with other parts."""
    local = {"dataset_name": "d", "dataset_path": "counting", "source_type": "local", "dataset_format": "sharegpt"}
    parts = {**configurations(), "dataset_details": local} | changes
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parts.items()}
    return {name: (None, text) for name, text in {"org": ORG, "experiment_name": "other", **texts}.items()}


def test_the_pages_request_is_accepted_and_trained_to_the_end(served, created, secret, bucket):
    assert set(created) == {"request_id", "status", "message", "experiment_name"}
    assert (created["status"], created["experiment_name"]) == ("QUEUED", "launch-simplismart-causal_lm-lora")
    job = wait_for(lambda: ended(served, created["request_id"]), seconds=240)
    assert (job["status"], job["error_message"], job["progress"]) == ("COMPLETED", None, 100.0)
    sent = configurations()
    sent["dataset_details"]["secret_id"] = secret
    assert {name: job[name] for name in sent} == sent
    assert job["output_model_path"]
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]
    assert job["completed_at"].endswith("Z")
    assert bucket.SECRET_ACCESS_KEY not in json.dumps(job)


def test_its_figures_are_listed_with_step_and_epoch(served, created):
    wait_for(lambda: ended(served, created["request_id"]), seconds=240)
    found = get(served, "/job/metrics", created["request_id"])["metrics"]
    assert all(set(entry) == {"key", "value", "timestamp", "step", "epoch"} for entry in found)
    last = {entry["key"]: entry for entry in found}
    # 72 of the 80 rows, 32 a step.
    assert (last["train_loss"]["step"], last["train_loss"]["epoch"]) == (3, 1.0)
    assert last["eval_loss"]["step"] == 3
    assert {"learning_rate", "grad_norm"} <= set(last)


def test_what_had_no_effect_is_told(served, created):
    job = get(served, "/job/get", created["request_id"])
    assert any("tuner_backend" in note for note in job["notes"])
    entries = get(served, "/job/logs", created["request_id"])["entries"]
    warnings = " ".join(entry["message"] for entry in entries if entry["level"] == "warn")
    assert "2 nodes with 2 GPUs each were asked for" in warnings
    assert "lazy_tokenize" in warnings


def test_the_checkpoint_can_be_downloaded(served, created):
    wait_for(lambda: ended(served, created["request_id"]), seconds=240)
    [checkpoint] = get(served, "/job/checkpoints", created["request_id"])["checkpoints"]
    assert checkpoint["step"] == 3
    names = [served.http.get(f"/v1/files/{file}").json()["filename"] for file in checkpoint["files"]]
    assert any(name.endswith("adapter_model.safetensors") for name in names)


def test_the_list_counts_all_jobs_and_shows_a_page(served, created):
    whole = get(served, "/job/list/")
    assert whole["total_count"] == len(whole["jobs"]) >= 1
    assert created["request_id"] in [job["request_id"] for job in whole["jobs"]]
    page = served.http.get("/job/list", params={"org_id": ORG, "offset": 0, "count": 1}).json()
    assert (len(page["jobs"]), page["total_count"]) == (1, whole["total_count"])
    assert page["jobs"][0]["train_type"] == "lora"


def test_an_experiments_name_is_used_once(served, created, secret):
    status, body = run(served, PAGE.replace("<your-secret-key>", secret))
    assert status == 409
    assert "launch-simplismart-causal_lm-lora" in body["error"]
    status, body = run(served, PAGE.replace("<your-secret-key>", secret).replace("0.0001", "0.0002"))
    assert (status, body["error"] == body["detail"]) == (409, True)


def test_two_equal_requests_at_the_same_moment_make_one_job(served, counting):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: served.http.post("/job", files=form(experiment_name="twins")), range(4)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    [request_id] = {answer.json()["request_id"] for answer in answers if answer.status_code == 200}
    named = [job["request_id"] for job in get(served, "/job/list")["jobs"] if job["experiment_name"] == "twins"]
    assert named == [request_id]


def test_a_bucket_that_is_not_there_and_keys_that_do_not_fit_are_told_at_once(served, secret, bucket):
    status, body = run(
        served, PAGE.replace("<your-secret-key>", secret).replace("sharegpt_ds_half", "none").replace("launch-", "no-")
    )
    assert status == 404, body
    assert "dataset_details.dataset_path" in body["error"]
    wrong = {**bucket.credentials, "secret_access_key": "canary"}
    stored = served.http.post("/secret", json={"org": ORG, "name": "wrong", "purpose": "s3", "fields": wrong}).json()
    status, body = run(served, PAGE.replace("<your-secret-key>", stored["name"]).replace("launch-", "no-"))
    assert status == 400, body
    assert "canary" not in str(body)
    status, body = run(served, PAGE.replace("launch-", "no-"))
    assert status == 404, body
    assert "dataset_details.secret_id" in body["error"]


def test_secrets_are_listed_without_their_fields_and_can_be_forgotten(served, secret, bucket):
    stored = served.http.post(
        "/secret", json={"org": ORG, "name": "hub", "purpose": "hub", "fields": {"token": "hf_canary"}}
    ).json()
    listed = served.http.get("/secret", params={"org_id": ORG})
    assert {"bucket keys", "hub"} <= {entry["name"] for entry in listed.json()["secrets"]}
    for canary in ("hf_canary", bucket.SECRET_ACCESS_KEY):
        assert canary not in listed.text
    gone = served.http.delete("/secret", params={"org_id": ORG, "secret_id": stored["secret_id"]})
    assert (gone.status_code, gone.json()["secret_id"]) == (200, stored["secret_id"])
    again = served.http.delete("/secret", params={"org_id": ORG, "secret_id": stored["secret_id"]})
    assert again.status_code == 404


def test_a_registered_dataset_is_listed(served, counting):
    assert (counting["version"], counting["rows"], counting["dataset_type"]) == (1, 20, "jsonl")
    assert counting in get(served, "/dataset")["datasets"]


def test_a_job_on_a_registered_dataset_is_cancelled_while_it_runs(served, counting):
    train = configurations()["train_config"]
    train["hyperparameters"]["num_epochs"] = 5000
    long = served.http.post("/job", files=form(train_config=train, experiment_name="long"))
    assert long.status_code == 200, long.text
    request_id = long.json()["request_id"]
    query = {"org_id": ORG, "request_id": request_id}
    assert served.http.post("/job/cancel", params=query).json()["status"] == "CANCELED"
    assert ended(served, request_id)["status"] == "CANCELED"
    late = served.http.post("/job/cancel", params=query)
    assert (late.status_code, late.json()["error"] == late.json()["detail"]) == (409, True)
    wait_for(lambda: not served.worker_pids(), seconds=45)


@pytest.mark.parametrize(
    ("part", "path", "value", "status", "words"),
    [
        ("train_config", "type", "ppo", 400, "train_config.type"),
        ("train_config", "task_type", "seq2seq", 400, "train_config.task_type"),
        ("model_details", "base_model", "nobody/has-this", 404, "model_details.base_model"),
        ("model_details", "model_type", "vlm", 400, "model_details.model_type"),
        ("model_details", "ownership", "private", 400, "model_details.secret_id"),
        ("dataset_config", "split", {"ratios": [0.5, 0.6]}, 400, "dataset_config.split.ratios"),
        ("dataset_details", "dataset_type", "csv", 400, "dataset_details.dataset_type"),
        ("dataset_details", "dataset_format", "alpaca", 400, "dataset_details"),
        ("dataset_details", "dataset_path", "none", 404, "dataset_details.dataset_path"),
        ("dataset_details", "dataset_path", "/etc/passwd", 404, "dataset_details.dataset_path"),
        ("dataset_details", "dataset_path", "file-none", 404, "dataset_details.dataset_path"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_the_name_of_its_field(served, counting, part, path, value, status, words):
    _, sent = form()[part]
    answer = served.http.post("/job", files=form(**{part: {**json.loads(sent), path: value}}))
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_unknown_jobs_are_404(served):
    for request_id in ("550e8400-e29b-41d4-a716-446655440000", "nonsense"):
        for path in ("get", "metrics", "logs", "checkpoints"):
            answer = served.http.get(f"/job/{path}", params={"org_id": ORG, "request_id": request_id})
            assert answer.status_code == 404
            assert set(answer.json()) == {"error", "detail"}


def test_a_job_of_this_dialect_is_read_through_the_others(served, created):
    hexadecimal = created["request_id"].replace("-", "")
    assert served.http.get(f"/v1/fine_tuning/jobs/ftjob-{hexadecimal}").json()["object"] == "fine_tuning.job"
    assert served.http.get(f"/train/{created['request_id']}").json()["job_id"] == created["request_id"]


def test_the_example_runs_to_the_end_and_can_be_run_again(served):
    for _ in range(2):
        done = subprocess.run(
            [str(EXAMPLE)], env={**os.environ, "TUNESMITH_URL": served.url}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "COMPLETED 100.0 %" in done.stdout
