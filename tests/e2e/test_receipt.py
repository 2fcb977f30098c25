"""The mask receipt of a real job, and a model whose chat template would never let it stop."""

import shutil

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

API = "/tunesmith/v1"


@pytest.fixture(scope="module")
def served(write_home, tiny_model, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_model, models / "endless")
    template = models / "endless" / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", ""))
    home = write_home(tmp_path_factory.mktemp("receipt") / "home")
    server = RunningServer(home, TUNESMITH_MODEL_ROOTS=str(models))
    added = server.http.post(f"{API}/datasets", data={"name": "rows"}, files={"file": ("rows.jsonl", chat_rows())})
    assert added.status_code == 200, added.text
    yield server
    server.stop()


def _body(model):
    return {
        "spec": {
            "model": {"base": model, "dtype": "float32"},
            "data": {"train": {"dataset": "rows"}},
            "optimization": {"epochs": 1, "batch_size": 4},
        }
    }


def test_a_finished_job_shows_what_it_trained(served):
    job = served.http.post(f"{API}/jobs", json=_body("tiny")).json()
    wait_for(lambda: served.http.get(f"{API}/jobs/{job['id']}").json()["state"] == "succeeded", seconds=120)
    receipt = served.http.get(f"{API}/jobs/{job['id']}/receipt").json()
    assert receipt["turns"] == receipt["ended_turns"] == receipt["ends"]["<|im_end|>"] > 0
    assert receipt["trained_share"] == receipt["trained_tokens"] / receipt["tokens"]
    assert any(piece["trained"] for piece in receipt["samples"][0]["pieces"])


def test_a_job_whose_model_would_not_learn_to_stop_is_refused_with_the_reason(served):
    answer = served.http.post(f"{API}/jobs", json=_body("endless"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "chat_template")
    assert "would not learn when to stop" in error["message"]
    assert "eos_token_id" in error["hint"]
