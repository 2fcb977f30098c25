"""Nebius's side of the dialect: the vendor's page verbatim, its mount, its weights to begin with and its own models."""

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import httpx2
import openai
import pytest

from hub_server import HubServer
from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

# The body of the vendor's example, with its placeholders.
SEED = """
{
  "model": "<string>",
  "training_file": "<string>",
  "from_checkpoint": {
    "repo": "<string>",
    "type": "hf",
    "revision": "<string>",
    "token": "<string>"
  },
  "validation_file": "file_123456",
  "hyperparameters": {
    "batch_size": 8,
    "learning_rate": 0.00001,
    "n_epochs": 3,
    "warmup_ratio": 0,
    "weight_decay": 0,
    "packing": true,
    "max_grad_norm": 1,
    "context_length": 8192,
    "lora": false,
    "lora_r": 8,
    "lora_alpha": 8,
    "lora_dropout": 0
  },
  "method": {
    "supervised": {
      "hyperparameters": {
        "batch_size": 8,
        "learning_rate": 0.00001,
        "n_epochs": 3,
        "warmup_ratio": 0,
        "weight_decay": 0,
        "packing": true,
        "max_grad_norm": 1,
        "context_length": 8192,
        "lora": false,
        "lora_r": 8,
        "lora_alpha": 8,
        "lora_dropout": 0
      }
    },
    "type": "supervised"
  },
  "integrations": [
    {
      "wandb": {
        "project": "<string>",
        "api_key": "<string>",
        "name": "<string>",
        "entity": "<string>",
        "tags": [
          "<string>"
        ]
      },
      "type": "wandb"
    }
  ],
  "seed": 42,
  "suffix": "<string>",
  "tags": "my-ft-job",
  "extra_body": {}
}
"""

# The keys of the answer on the same page.
SEED_ANSWER = {
    "id", "created_at", "model", "status", "training_file", "error", "finished_at", "hyperparameters", "method",
    "integrations", "from_checkpoint", "object", "organization_id", "result_files", "seed", "suffix",
    "trained_tokens", "validation_file", "estimated_finish", "trained_steps", "total_steps",
}  # fmt: skip

WANDB_KEY = "canary-of-wandb"


@pytest.fixture(scope="module")
def hub(tiny_model_folder):
    with HubServer() as server:
        files = {file.name: file.read_bytes() for file in tiny_model_folder.iterdir() if file.is_file()}
        server.publish("model", "owner/start", files, private=True)
        server.publish("model", "owner/whole", files)
        yield server


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory, hub):
    home = write_home(tmp_path_factory.mktemp("server") / "home")
    server = RunningServer(home, TUNESMITH_HUB_URL=hub.url, TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def nebius(server):
    return openai.OpenAI(base_url=f"{server.url}/nebius/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def file_id(nebius):
    return nebius.files.create(file=("rows.jsonl", chat_rows(24)), purpose="fine-tune").id


@pytest.fixture(scope="module")
def finished(nebius, file_id):
    """An adapter, trained in two epochs."""
    hyperparameters = {"lora": True, "n_epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "packing": False}
    job = nebius.fine_tuning.jobs.create(
        model="tiny", training_file=file_id, suffix="mine", extra_body={"hyperparameters": hyperparameters}
    )
    return _end_of(nebius, job.id)


def _end_of(client, id):
    def ended():
        job = client.fine_tuning.jobs.retrieve(id)
        return job if job.status in ("succeeded", "failed", "cancelled") else None

    job = wait_for(ended)
    assert job.status == "succeeded", job.error
    return job


def _seed(file_id, token=HubServer.TOKEN):
    body = json.loads(SEED)
    body |= {"model": "tiny", "training_file": file_id, "validation_file": file_id, "suffix": "seed"}
    body["from_checkpoint"] |= {"repo": "owner/start", "revision": "main", "token": token}
    body["integrations"][0]["wandb"] = {
        "project": "p", "api_key": WANDB_KEY, "name": "n", "entity": "e", "tags": ["t"],
    }  # fmt: skip
    return body


@pytest.mark.parametrize("prefix", ["/v1", "/nebius/v1"])
def test_the_example_of_the_vendors_page_is_accepted_verbatim(server, nebius, file_id, prefix):
    body = _seed(file_id)
    answer = server.http.post(f"{prefix}/fine_tuning/jobs?ai_project_id=project-1", json=body)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert set(job) >= SEED_ANSWER
    assert job["hyperparameters"] == body["hyperparameters"]
    assert job["method"] == body["method"]
    assert job["integrations"] == [
        {"type": "wandb", "wandb": {"project": "p", "name": "n", "entity": "e", "tags": ["t"]}}
    ]
    assert job["from_checkpoint"] == {"repo": "owner/start", "type": "hf", "revision": "main"}
    assert job["tags"] == "my-ft-job"
    assert _end_of(nebius, job["id"]).fine_tuned_model.startswith("ft:tiny:local:seed:")
    events = server.http.get(f"{prefix}/fine_tuning/jobs/{job['id']}/events?limit=100").text
    everything = answer.text + events + (server.home / "tunesmith.db").read_bytes().decode("latin-1")
    everything += (server.home / "tunesmith.db-wal").read_bytes().decode("latin-1")
    assert WANDB_KEY not in everything
    assert HubServer.TOKEN not in everything


def test_a_refused_request_leaves_no_credentials_behind(server, file_id):
    before = _secrets(server)
    refused = server.http.post("/v1/fine_tuning/jobs", json=_seed(file_id, token="hf_wrong"))
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == "from_checkpoint"
    assert WANDB_KEY not in refused.text
    assert "hf_wrong" not in refused.text
    assert set(_secrets(server)) <= set(before)  # those of jobs that ended meanwhile go as well


def test_credentials_of_integrations_are_kept_no_longer_than_their_job(server, file_id):
    before = _secrets(server)
    body = {key: value for key, value in _seed(file_id).items() if key != "from_checkpoint"}
    job = server.http.post("/v1/fine_tuning/jobs", json=body).json()
    server.http.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    assert job["integrations"][0]["wandb"]["project"] == "p"
    wait_for(lambda: set(_secrets(server)) <= set(before))  # those of jobs that ended meanwhile go as well


def test_the_same_idempotency_key_gives_the_same_job_and_keeps_its_credentials_once(server, file_id):
    headers = {"Idempotency-Key": "once"}
    first = server.http.post("/v1/fine_tuning/jobs", json=_seed(file_id), headers=headers)
    kept = _secrets(server)
    again = server.http.post("/v1/fine_tuning/jobs", json=_seed(file_id), headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert _secrets(server) == kept
    other = server.http.post("/v1/fine_tuning/jobs", json={**_seed(file_id), "seed": 1}, headers=headers)
    assert other.status_code == 409
    server.http.post(f"/v1/fine_tuning/jobs/{first.json()['id']}/cancel")


def _secrets(server):
    import sqlite3

    with sqlite3.connect(server.home / "tunesmith.db") as database:
        return [row[0] for row in database.execute("select id from secrets order by id")]


def test_jobs_of_a_project_are_listed_by_it(server, file_id):
    body = {"model": "tiny", "training_file": file_id}
    job = server.http.post("/v1/fine_tuning/jobs?ai_project_id=alone", json=body).json()
    server.http.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")
    by_query = server.http.get("/v1/fine_tuning/jobs?ai_project_id=alone").json()["data"]
    by_header = server.http.get("/nebius/v1/fine_tuning/jobs", headers={"OpenAI-Project": "alone"}).json()["data"]
    assert [each["id"] for each in by_query] == [each["id"] for each in by_header] == [job["id"]]


def test_a_fault_has_both_vendors_shapes_and_each_vendors_status(server, file_id):
    body = {"model": "tiny", "training_file": file_id, "hyperparameters": {"batch_size": 0}}
    marked = {**body, "hyperparameters": {"batch_size": 0, "lora": True}}
    for prefix, sent, status in (("/v1", body, 400), ("/v1", marked, 422), ("/nebius/v1", body, 422)):
        answer = server.http.post(f"{prefix}/fine_tuning/jobs", json=sent)
        assert answer.status_code == status
        assert answer.json()["error"]["param"] == "hyperparameters.batch_size"
        assert answer.json()["detail"][0]["loc"] == ["body", "hyperparameters", "batch_size"]
    in_method = {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 65, "lora": True}}}
    answer = server.http.post("/v1/fine_tuning/jobs", json={**body, "hyperparameters": {}, "method": in_method})
    assert answer.json()["error"]["param"] == "method.supervised.hyperparameters.batch_size"
    assert server.http.get("/nebius/v1/fine_tuning/jobs?limit=0").status_code == 422


def test_the_mount_tells_any_job_in_nebius_words_and_order(server, nebius, finished):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    content = chat_rows(12)
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    ours = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, hyperparameters={"n_epochs": 2})
    _end_of(client, ours.id)
    messages = [event.message for event in nebius.fine_tuning.jobs.list_events(ours.id, limit=100)]
    assert messages[0] == "Job submitted"
    assert messages[-1] == "Training completed"
    assert any(message.startswith("Dataset 'training' processed") for message in messages)
    steps = [each.step_number for each in nebius.fine_tuning.jobs.checkpoints.list(ours.id)]
    assert steps == sorted(steps)
    there = nebius.fine_tuning.jobs.retrieve(ours.id)
    assert there.hyperparameters.model_extra["learning_rate"] == 2e-4
    assert there.method is None
    assert client.fine_tuning.jobs.retrieve(ours.id).hyperparameters.learning_rate_multiplier == 1
    newest_first = [event.message for event in client.fine_tuning.jobs.list_events(ours.id, limit=100)]
    assert newest_first[-1] == f"Created fine-tuning job: {ours.id}"


def test_training_goes_on_from_a_checkpoint_by_each_of_its_names(nebius, server, finished, file_id):
    checkpoint = list(nebius.fine_tuning.jobs.checkpoints.list(finished.id))[-1]
    pair = f"{finished.id}:{checkpoint.id}"
    lora = {"lora": True, "n_epochs": 1, "batch_size": 24, "packing": False}
    beginning = _first_loss(nebius, finished.id)
    ways = [
        {"from_checkpoint": {"type": "ft", "job_id": finished.id, "checkpoint_id": checkpoint.id}},
        {"from_checkpoint": {"type": "ft", "checkpoint": pair}},
        {"model": checkpoint.fine_tuned_model_checkpoint},
    ]
    for way in ways:
        body = {"model": "tiny", "training_file": file_id, "hyperparameters": lora, **way}
        answer = server.http.post("/nebius/v1/fine_tuning/jobs", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == body["model"]
        job = _end_of(nebius, answer.json()["id"])
        assert job.fine_tuned_model.startswith("ft:tiny:local:")
        assert _first_loss(nebius, job.id) < beginning


def _first_loss(client, job_id):
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return next(event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"from_checkpoint": {"type": "ft", "checkpoint": "ftjob-1:ftckpt_2"}}, "from_checkpoint.checkpoint"),
        ({"from_checkpoint": {"type": "ft", "job_id": "a", "checkpoint_id": "b"}}, "from_checkpoint.checkpoint_id"),
        ({"model": "ft:tiny:local::12345678:ckpt-step-3"}, "model"),
    ],
)
def test_a_checkpoint_that_nobody_has_is_not_found(server, file_id, change, param):
    answer = server.http.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file_id, **change})
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["param"] == param


def test_preference_tuning_is_refused_by_its_name_or_accepted_where_the_method_is_there(server, file_id):
    body = {"model": "tiny", "training_file": file_id, "method": {"type": "dpo"}}
    answer = server.http.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] in ("method.type", "training_file")  # these rows are no preferences


# --- adapters that are brought in ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(nebius, finished):
    """The files of a trained adapter."""
    newest = list(nebius.fine_tuning.jobs.checkpoints.list(finished.id))[-1]
    names = {nebius.files.retrieve(id).filename.split("/")[1]: id for id in newest.model_extra["result_files"]}
    wanted = ("adapter_config.json", "adapter_model.safetensors")
    return {name: nebius.files.content(names[name]).read() for name in wanted}


def _zip(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _upload(server, content):
    return server.http.post("/v0/models/upload", files={"file": ("adapter.zip", content)})


@pytest.fixture(scope="module")
def sources(server, nebius, finished, adapter, hub):
    checkpoint = list(nebius.fine_tuning.jobs.checkpoints.list(finished.id))[-1]
    hub.publish("model", "owner/adapter", adapter)
    return {
        "checkpoint": f"{finished.id}:{checkpoint.id}",
        "file": _upload(server, _zip(adapter)).json()["id"],
        "hub": f"{hub.url}/owner/adapter",
    }


@pytest.mark.parametrize("prefix", ["/v0", "/nebius/v0"])
@pytest.mark.parametrize("kind", ["checkpoint", "file", "hub"])
def test_an_adapter_is_brought_in_listed_trained_and_deleted(server, nebius, sources, file_id, kind, prefix):
    body = {"name": f"my-{kind}", "base_model": "tiny", "source": sources[kind], "description": "d"}
    made = server.http.post(f"{prefix}/models", json=body)
    assert made.status_code == 200, made.text
    model = made.json()
    assert model["name"].startswith(f"tiny-LoRa:my-{kind}-")
    assert (model["status"], model["base_model"], model["description"]) == ("active", "tiny", "d")
    assert [model["job_id"] is not None, model["file_id"] is not None, model["url"] is not None] == [
        kind == "checkpoint", kind == "file", kind == "hub",
    ]  # fmt: skip
    assert model in server.http.get(f"{prefix}/models").json()
    assert server.http.get(f"{prefix}/models/my-{kind}").json() == model
    assert server.http.get(f"{prefix}/models/{model['name']}").json() == model
    assert nebius.models.retrieve(model["name"]).id == model["name"]
    job = server.http.post(
        "/v1/fine_tuning/jobs",
        json={"model": model["name"], "training_file": file_id, "hyperparameters": {"lora": True, "n_epochs": 1}},
    ).json()
    result = _end_of(nebius, job["id"]).fine_tuned_model
    assert result.startswith("ft:tiny:local::")
    [checkpoint] = nebius.fine_tuning.jobs.checkpoints.list(job["id"])
    assert checkpoint.fine_tuned_model_checkpoint == f"{result}:ckpt-step-{checkpoint.step_number}"
    deleted = server.http.delete(f"{prefix}/models/my-{kind}")
    assert deleted.json() == {**model, "status": "deleted"}
    assert server.http.get(f"{prefix}/models/{model['name']}").status_code == 404
    assert model["name"] not in [each.id for each in nebius.models.list()]


def _with_header(adapter, **changes):
    return {**adapter, "adapter_config.json": json.dumps({**json.loads(adapter["adapter_config.json"]), **changes})}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda adapter: {"adapter_config.json": adapter["adapter_config.json"]}, "no adapter_model.safetensors"),
        (
            lambda adapter: {"adapter_config.json": "{}", "adapter_model.bin": "x"},
            "adapter_model.bin",
        ),
        (lambda adapter: {f"../{name}": content for name, content in adapter.items()}, "leads out of it"),
        (lambda adapter: {**adapter, "adapter_config.json": "{"}, "not JSON"),
        (lambda adapter: _with_header(adapter, peft_type="IA3"), "peft_type"),
        (lambda adapter: _with_header(adapter, base_model_name_or_path=""), "base_model_name_or_path"),
        (lambda adapter: {**adapter, "adapter_model.safetensors": b"\x08\0\0\0\0\0\0\0notjson!"}, "damaged header"),
        (
            lambda adapter: {**adapter, "adapter_model.safetensors": adapter["adapter_model.safetensors"][:-4]},
            "cut off",
        ),
        (lambda adapter: {**adapter, "other.txt": b"\0" * 50_000_000}, "100 times"),
        (lambda adapter: {**adapter, **{f"b/{name}": content for name, content in adapter.items()}}, "2 times"),
    ],
)
def test_an_archive_that_holds_no_adapter_or_too_much_is_refused(server, adapter, spoil, expected):
    answer = _upload(server, _zip(spoil(adapter)))
    assert answer.status_code == 400, answer.text
    assert expected in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "file"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"name": "a/b"}, 400, "name"),
        ({"base_model": "nobody/nothing"}, 404, "base_model"),
        ({"source": "file-" + "0" * 32}, 404, "source"),
        ({"source": "ftjob-1:ftckpt_1"}, 404, "source"),
        ({"source": "owner/nothing"}, 404, "source"),
        ({"source": "owner/start"}, 404, "source"),
        ({"source": "owner/whole"}, 400, "source"),
        ({"colour": "red"}, 400, "colour"),
    ],
)
def test_a_model_that_cannot_be_brought_in_is_refused_by_its_field(server, sources, change, status, param):
    folders = len(list((server.home / "models").iterdir()))
    body = {"name": "m", "base_model": "tiny", "source": sources["file"], **change}
    answer = server.http.post("/v0/models", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert len(list((server.home / "models").iterdir())) == folders


def test_a_checkpoint_belongs_on_its_own_base(server, sources):
    body = {"name": "m", "base_model": "Qwen/Qwen2.5-1.5B-Instruct", "source": sources["checkpoint"]}
    answer = server.http.post("/v0/models", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "base_model")


def test_the_example_trains_and_deploys_an_adapter(server):
    examples = Path(__file__).parents[2] / "examples"
    command = [examples / "nebius" / "tune.sh", "tiny", examples / "datasets" / "prompt_completion.jsonl"]
    environment = {**os.environ, "TUNESMITH_URL": server.url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    deployed = done.stdout.splitlines()[-1]
    assert deployed.startswith("tiny-LoRa:example-")
    assert server.http.get(f"/v0/models/{deployed}").json()["status"] == "active"


def test_the_description_of_the_api_names_every_route_of_both_mounts(server):
    paths = set(httpx2.get(f"{server.url}/v1/openapi.json").json()["paths"])
    plain = {path for path in paths if not path.startswith("/nebius")}
    shared = {path for path in plain if not path.startswith("/v1/webhook_")}  # those are OpenAI's alone
    assert {f"/nebius{path}" for path in shared} == paths - plain
