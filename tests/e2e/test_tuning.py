"""Adapters, optimizers and schedules over HTTP: what fits is trained and published, the rest refused at once."""

import json

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

API = "/tunesmith/v1"


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("tuning") / "home"))
    server.http.post(f"{API}/datasets", data={"name": "rows"}, files={"file": ("rows.jsonl", chat_rows())})
    yield server
    server.stop()


def submit(served, path="/jobs", **parts):
    spec = {"model": {"base": "tiny", "dtype": "float32"}, "data": {"train": {"dataset": "rows"}}, **parts}
    return served.http.post(f"{API}{path}", json={"spec": spec})


def ended(served, answer):
    assert answer.status_code == 200, answer.text

    def look():
        job = served.http.get(f"{API}/jobs/{answer.json()['id']}").json()
        return job if job["state"] in ("succeeded", "failed") else None

    return wait_for(look)


@pytest.mark.parametrize(
    "adapter",
    [
        {"rank": 4, "init": "pissa", "targets": ["self_attn.q_proj", "mlp.up_proj"]},
        {"rank": 4, "decomposed": True, "scaling": "rank_stabilized"},
    ],
    ids=["pissa", "dora"],
)
def test_a_job_with_every_setting_succeeds_and_can_be_continued(served, adapter):
    optimization = {
        "optimizer": "adafactor",
        "schedule": "wsd",
        "neftune_noise_alpha": 5,
        "learning_rate": 0.01,
        "batch_size": 4,
        "epochs": 2,
    }
    first = ended(served, submit(served, adapter=adapter, optimization=optimization))
    assert first["state"] == "succeeded", first["error"]
    assert first["spec"]["optimization"]["decay_ratio"] == 0.1
    again = {"kind": "model", "id": first["model"]}
    second = ended(served, submit(served, init_from=again, adapter={"rank": 4}, optimization=optimization))
    assert second["state"] == "succeeded", second["error"]


def test_a_layer_that_the_model_lacks_is_refused_before_a_job_exists(served):
    before = served.http.get(f"{API}/jobs").json()
    for path in ("/jobs", "/jobs:validate"):
        answer = submit(served, path, adapter={"targets": ["q_proj", "query"]})
        assert answer.status_code == 422
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_adapter", "spec.adapter.targets")
        assert "'query'" in error["message"]
        assert "q_proj, up_proj, v_proj" in error["hint"]
    assert served.http.get(f"{API}/jobs").json() == before


def test_simplismarts_targets_are_refused_by_their_own_name(served):
    parts = {
        "dataset_config": {},
        "model_details": {"base_model": "tiny", "source_type": "local"},
        "train_config": {"adapter_config": {"targets": ["query"], "use_dora": True}},
        "dataset_details": {"dataset_name": "rows", "dataset_path": "rows@1", "source_type": "local"},
        "infra_config": {},
    }
    form = {"org": "local", "experiment_name": "targets", **{name: json.dumps(part) for name, part in parts.items()}}
    answer = served.http.post("/job", files={name: (None, text) for name, text in form.items()})
    assert answer.status_code == 400, answer.text
    assert "train_config.adapter_config.targets" in answer.json()["error"]
    assert "'query'" in answer.json()["error"]
