"""Trust during the run, on a real server: resumes that are told, hung workers, early ends and the best checkpoint."""

import os
import signal

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

API = "/tunesmith/v1"


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    home = write_home(tmp_path_factory.mktemp("trust") / "home")
    server = RunningServer(home, TUNESMITH_STALL_WARNING_SECONDS="2.5", TUNESMITH_STALL_LIMIT_SECONDS="5")
    for name, content in (("rows", chat_rows()), ("held-out", chat_rows(4))):
        server.http.post(f"{API}/datasets", data={"name": name}, files={"file": ("rows.jsonl", content)})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def call(served):
    """The JSON that a request is answered with."""

    def request(method, path, status=200, **arguments):
        answer = served.http.request(method, f"{API}{path}", **arguments)
        assert answer.status_code == status, answer.text
        return answer.json()

    return request


def body(data=None, **parts):
    optimization = {"epochs": 5000, "batch_size": 1}
    model = {"base": "tiny", "dtype": "float32"}
    held_out = {"train": {"dataset": "rows"}, "validation": {"dataset": "held-out"}}
    return {"spec": {"model": model, "data": data or held_out, "optimization": optimization, **parts}}


def ended(call, id):
    job = call("GET", f"/jobs/{id}")
    return job if job["state"] in ("succeeded", "failed", "cancelled") else None


def of_kind(call, id, kind):
    return [event for event in call("GET", f"/jobs/{id}/events")["data"] if event["kind"] == kind]


def test_a_pause_and_a_hang_are_both_told_and_the_job_goes_on_exactly(served, call):
    id = call("POST", "/jobs", json=body(cadence={"save_steps": 40, "log_steps": 100000}))["id"]
    wait_for(lambda: call("GET", f"/jobs/{id}")["step"] > 40)
    call("POST", f"/jobs/{id}/pause")
    wait_for(lambda: call("GET", f"/jobs/{id}")["state"] == "paused")
    call("POST", f"/jobs/{id}/resume")
    wait_for(lambda: call("GET", f"/jobs/{id}")["resumes"])
    wait_for(lambda: call("GET", f"/jobs/{id}")["state"] == "running")
    [pid] = served.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: of_kind(call, id, "anomaly"), seconds=30)
    job = wait_for(lambda: [call("GET", f"/jobs/{id}")] if call("GET", f"/jobs/{id}")["attempts"] == 3 else None)[0]
    wait_for(lambda: len(call("GET", f"/jobs/{id}")["resumes"]) == 2)
    job = call("GET", f"/jobs/{id}")
    assert [resume["exactness"] for resume in job["resumes"]] == ["exact", "exact"]
    assert [resume["differences"] for resume in job["resumes"]] == [[], []]
    assert of_kind(call, id, "anomaly")[0]["data"]["what"] == "stall"
    assert any("5 s without a sign" in event["message"] for event in of_kind(call, id, "note"))
    elsewhere = served.http.get(f"/v1/fine_tuning/jobs/ftjob-{id}/events?limit=100").json()["data"]
    assert sum("exactly: spec, data" in event["message"] for event in elsewhere) == 2
    call("POST", f"/jobs/{id}/cancel")
    wait_for(lambda: ended(call, id))


def test_a_worker_that_does_not_get_on_writes_where_it_stands(served, call):
    id = call("POST", "/jobs", json=body())["id"]
    wait_for(lambda: call("GET", f"/jobs/{id}")["step"] > 2)
    [pid] = served.worker_pids()
    os.kill(pid, signal.SIGUSR1)
    log = wait_for(lambda: served.http.get(f"{API}/jobs/{id}/log").text)
    assert "most recent call first" in log
    call("POST", f"/jobs/{id}/cancel")
    assert wait_for(lambda: ended(call, id))["state"] == "cancelled"


def test_a_job_ends_early_and_its_best_checkpoint_is_a_place_to_start_from(call):
    selection = {"patience": 2, "min_improvement": 1000, "result": "best"}
    cadence = {"eval_steps": 2, "save_steps": 2, "keep_checkpoints": 1, "evaluate_first": True}
    id = call("POST", "/jobs", json=body(selection=selection, cadence=cadence))["id"]
    job = wait_for(lambda: ended(call, id))
    assert (job["state"], job["step"]) == ("succeeded", 6), job["error"]
    assert job["spec"]["selection"] == {"metric": "loss", "best": "lowest", **selection}
    assert len(of_kind(call, id, "stopped_early")) == 1
    assert call("GET", f"/jobs/{id}/metrics")["validation"][0]["step"] == 0
    checkpoints = call("GET", f"/jobs/{id}/checkpoints")["data"]
    [best] = [checkpoint for checkpoint in checkpoints if checkpoint["is_best"]]
    assert best["score"] == min(checkpoint["score"] for checkpoint in checkpoints)
    start = {"kind": "checkpoint", "id": f"{id}@best"}
    found = call("POST", "/jobs:validate", json=body(init_from=start))
    assert found["spec"]["init_from"]["id"] == best["id"]


@pytest.mark.parametrize(("id", "status"), [("0" * 32 + "@best", 404), ("@best", 404), ("nothing@best", 404)])
def test_the_best_checkpoint_of_an_unknown_job_is_refused(call, id, status):
    start = {"kind": "checkpoint", "id": id}
    refused = call("POST", "/jobs:validate", status, json=body(init_from=start))
    assert (refused["error"]["code"], refused["error"]["param"]) == ("job_not_found", "spec.init_from.id")


ROWS = {"train": {"dataset": "rows"}}
SPLIT = {"by": "random", "ratios": [1.0]}


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ({"data": ROWS, "selection": {"patience": 1}}, "spec.selection.patience"),
        ({"data": ROWS, "selection": {"result": "best"}}, "spec.selection.result"),
        ({"data": ROWS, "cadence": {"evaluate_first": True}}, "spec.cadence.evaluate_first"),
        ({"data": {**ROWS, "split": SPLIT}, "selection": {"patience": 1}}, "spec.selection.patience"),
        ({"selection": {"metric": "rewards/margins"}}, "spec.selection.metric"),
        ({"selection": {"metric": ""}}, "spec.selection.metric"),
        ({"selection": {"patience": 0}}, "spec.selection.patience"),
        ({"selection": {"patience": 1.5}}, "spec.selection.patience"),
        ({"selection": {"min_improvement": -0.1}}, "spec.selection.min_improvement"),
        ({"selection": {"best": "first"}}, "spec.selection.best"),
        ({"selection": None}, "spec.selection"),
        ({"selection": {"unknown": 1}}, "spec.selection.unknown"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused_with_its_path(call, parts, param):
    refused = call("POST", "/jobs:validate", 422, json=body(**parts))
    assert refused["error"]["param"] == param


def test_the_field_to_add_for_an_early_end_is_named(call):
    error = call("POST", "/jobs:validate", 422, json=body(data=ROWS, selection={"patience": 1}))["error"]
    assert error["message"] == "`patience` needs rows to evaluate, and the job has none."
    assert "`validation`" in error["hint"]
    assert "`split`" in error["hint"]
