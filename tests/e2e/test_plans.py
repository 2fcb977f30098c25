"""Plans over HTTP: told before a job, kept with it, and why one that cannot fit is refused in any dialect."""

import json
import uuid

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

ORG = "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f"
# Some six thousand million parameters: too many for the memory that the server is told to have, unless quantized.
LARGE = {
    "hidden_size": 4_096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
}
MEMORY = 10 * 10**9


@pytest.fixture(scope="module")
def served(write_home, tiny_model_folder, tmp_path_factory):
    home = write_home(tmp_path_factory.mktemp("plans") / "home")
    large = home / "large"
    large.mkdir()
    for file in tiny_model_folder.iterdir():
        (large / file.name).write_bytes(file.read_bytes())
    config = json.loads((large / "config.json").read_text())
    (large / "config.json").write_text(json.dumps(config | LARGE))
    with (home / "tunesmith.toml").open("a") as settings:
        settings.write(f'large = "{large}"\n')
    server = RunningServer(home, TUNESMITH_DEVICE_MEMORY_BYTES=str(MEMORY))
    rows = {"file": ("rows.jsonl", chat_rows())}
    server.http.post("/tunesmith/v1/datasets", data={"name": "rows"}, files=rows).raise_for_status()
    server.file = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
    yield server
    server.stop()


def asked(model, **spec):
    return {"spec": {"model": {"base": model}, "data": {"train": {"dataset": "rows"}}, **spec}}


def test_a_plan_is_told_and_nothing_is_stored(served):
    before = served.http.get("/tunesmith/v1/jobs").json()["data"]
    answer = served.http.post("/tunesmith/v1/jobs:plan", json=asked("tiny"))
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    assert plan["fits"] == "yes"
    assert plan["device_memory"] == MEMORY
    assert plan["rows"]["sampled"] is False
    assert plan["time"] is None
    assert plan["time_note"]
    assert served.http.get("/tunesmith/v1/jobs").json()["data"] == before


def test_an_accepted_job_keeps_its_plan_and_its_speed_times_the_next_one(served):
    body = asked("tiny", optimization={"epochs": 3, "batch_size": 2})
    job = served.http.post("/tunesmith/v1/jobs", json=body).json()["id"]
    plan = served.http.get(f"/tunesmith/v1/jobs/{job}/plan")
    assert plan.status_code == 200, plan.text
    wait_for(lambda: served.http.get(f"/tunesmith/v1/jobs/{job}").json()["state"] == "succeeded")
    events = served.http.get(f"/tunesmith/v1/jobs/{job}/events").json()["data"]
    [planned] = [event["data"] for event in events if event["kind"] == "plan"]
    [prepared] = [event["data"] for event in events if event["kind"] == "prepared"]
    assert planned == plan.json()
    for name, value in (("rows", "rows"), ("tokens", "tokens"), ("steps", "total_steps"), ("sequences", "sequences")):
        assert planned["rows"][name] == {"low": prepared[value], "high": prepared[value]}
    again = served.http.post("/tunesmith/v1/jobs:plan", json=body).json()["plan"]
    assert again["time"]["jobs"] == 1
    assert 0 < again["time"]["low"] <= again["time"]["high"]


def test_a_job_that_does_not_fit_is_planned_with_what_would(served):
    answer = served.http.post("/tunesmith/v1/jobs:plan", json=asked("large"))
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    assert plan["fits"] == "no"
    assert plan["memory"]["low"] > MEMORY
    assert plan["alternatives"]
    for way in plan["alternatives"]:
        assert way["memory"]["high"] <= MEMORY
    body = asked("large")
    for path, value in plan["alternatives"][0]["settings"].items():
        *parts, name = path.split(".")
        part = body["spec"]
        for each in parts:
            part = part.setdefault(each, {})
        part[name] = value
    assert served.http.post("/tunesmith/v1/jobs:plan", json=body).json()["plan"]["fits"] == "yes"


def test_a_job_without_a_plan_says_so(served):
    answer = served.http.get(f"/tunesmith/v1/jobs/{uuid.uuid4().hex}/plan")
    assert answer.status_code == 404


def by_openai(server):
    body = {"model": "large", "training_file": server.file, "hyperparameters": {"n_epochs": 1}}
    return server.http.post("/v1/fine_tuning/jobs", json=body)


def by_training_api(server):
    return server.http.post("/train", json={"model_name": "large", "dataset_version": "rows"})


def by_native(server):
    return server.http.post("/tunesmith/v1/jobs", json=asked("large"))


def by_simplismart(server):
    parts = {
        "org": ORG,
        "experiment_name": "large",
        "dataset_config": {
            "preprocessing": {"prompt": {"max_length": 256}},
            "split": {"type": "random", "ratios": [1]},
        },
        "model_details": {"base_model": "large", "ownership": "public", "source_type": "hf", "model_type": "llm"},
        "train_config": {
            "type": "sft",
            "torch_dtype": "bfloat16",
            "task_type": "causal_lm",
            "train_type": "lora",
            "hyperparameters": {"num_epochs": 1},
            "adapter_config": {"r": 8, "alpha": 16, "dropout": 0.0, "targets": ["all-linear"]},
        },
        "dataset_details": {
            "dataset_name": "rows",
            "dataset_path": "rows",
            "dataset_type": "jsonl",
            "dataset_format": "openai",
            "source_type": "local",
            "ownership": "private",
        },
        "infra_config": {"gpu_type": "h100", "gpu_count": 1, "infra_type": "simplismart", "node_count": 1},
    }
    form = {name: (None, part if isinstance(part, str) else json.dumps(part)) for name, part in parts.items()}
    return server.http.post("/job/", files=form)


def by_shakti(server):
    config = {
        "model_type": "llm",
        "base_model": "large",
        "adapter": {"lora_r": 8},
        "trainer": {"type": "finetune", "epochs": 1},
        "output_column": "answer",
        "prompt": {"template": "{question}"},
    }
    rows = "question,answer\n" + "".join(f"What comes after {n}?,{n + 1}.\n" for n in range(12))
    form = {
        "training_config_json": (None, json.dumps(config)),
        "experiment_name": (None, "large"),
        "org": (None, ORG),
        "csv_file": ("rows.csv", rows.encode()),
    }
    return server.http.post("/api/llm/train/", files=form)


@pytest.mark.parametrize("submit", [by_openai, by_training_api, by_native, by_simplismart, by_shakti])
def test_a_job_that_cannot_fit_is_refused_in_every_dialect_with_what_would_fit(served, submit):
    answer = submit(served)
    assert answer.status_code in (400, 422), answer.text
    assert "10.0 GB" in answer.text
    assert "This would fit: " in answer.text
    assert "4-bit weights" in answer.text
