"""The native dialect on a real server, with a tiny model: submit, follow, steer, fetch."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
API = "/tunesmith/v1"


def spec(**parts):
    return {
        "model": {"base": "tiny", "dtype": "float32"},
        "data": {"train": {"dataset": "rows"}},
        "optimization": {"epochs": 2, "batch_size": 4},
        **parts,
    }


LONG = spec(optimization={"epochs": 5000, "batch_size": 1})


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("native") / "home"))
    added = server.http.post(f"{API}/datasets", data={"name": "rows"}, files={"file": ("rows.jsonl", chat_rows())})
    assert added.json()["reference"] == "rows@1"
    server.http.post(f"{API}/datasets", data={"name": "held-out"}, files={"file": ("rows.jsonl", chat_rows(4))})
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


@pytest.fixture(scope="module")
def finished(call):
    """A job that succeeded."""
    body = {"spec": spec(data={"train": {"dataset": "rows@1"}, "validation": {"dataset": "held-out"}}), "name": "first"}
    id = call("POST", "/jobs", json=body)["id"]
    return wait_for(lambda: _ended(call, id))


@pytest.fixture
def running(call):
    """A job in training."""
    id = call("POST", "/jobs", json={"spec": LONG})["id"]
    wait_for(lambda: call("GET", f"/jobs/{id}")["step"] > 2)
    yield id
    if call("GET", f"/jobs/{id}")["state"] not in ("cancelled", "cancelling"):
        call("POST", f"/jobs/{id}/cancel")
    wait_for(lambda: _ended(call, id))


def _ended(call, id):
    job = call("GET", f"/jobs/{id}")
    return job if job["state"] in ("succeeded", "failed", "cancelled") else None


def stream(server, path, last=None):
    """Events of a stream as mappings of their lines; closing the generator drops the connection."""
    headers = {"Last-Event-ID": last} if last else {}
    with server.http.stream("GET", f"{API}{path}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                event[name] = json.loads(value) if name == "data" else value
            elif event:
                if "data" in event:
                    yield event
                event = {}


def take(events, count):
    """So many events, and then the connection is dropped."""
    with contextlib.closing(events):
        return [next(events) for _ in range(count)]


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_minimal_request_trains_to_a_model(call, finished):
    assert finished["state"] == "succeeded", finished["error"]
    assert (finished["dialect"], finished["name"]) == ("native", "first")
    model = call("GET", f"/models/{finished['model']}")
    assert (model["kind"], model["job"], model["version"]) == ("adapter", finished["id"], 1)


def test_an_answered_spec_is_accepted_as_it_is(call, finished):
    validated = call("POST", "/jobs:validate", json={"spec": finished["spec"]})
    assert validated == {"spec": finished["spec"], "notes": [], "complete": True, "remote": []}


def test_validation_stores_nothing(call, finished):
    before = call("GET", "/jobs")
    call("POST", "/jobs:validate", json={"spec": spec()})
    refused = call("POST", "/jobs:validate", json={"spec": spec(method={"kind": "unheard"})}, status=422)
    assert refused["error"]["param"] == "spec.method.kind"
    assert call("GET", "/jobs") == before


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"spec": spec(model={"base": "nobody", "source": "local"})}, 404, "spec.model.base"),
        ({"spec": spec(data={"train": {"dataset": "rows@9"}})}, 404, "spec.data.train"),
        ({"spec": spec(data={"train": {"file": "0" * 32}})}, 404, "spec.data.train"),
        ({"spec": spec(data={"train": {"kind": "dataset", "id": "rows@1", "sha256": "0" * 64}})}, 422,
         "spec.data.train.sha256"),
        ({"spec": spec(data={"train": {"address": "s3://b/k", "secret": "unknown"}})}, 404, "spec.data.train.secret"),
        ({"spec": spec(init_from={"kind": "checkpoint", "id": "0" * 32})}, 404, "spec.init_from"),
        ({"spec": spec(data={"train": {"address": "gs://b/k", "region": "x"}})}, 422, "spec.data.train.region"),
        ({"spec": spec(), "priority": 4}, 422, "priority"),
        ({"spec": spec(), "webhook": "https://localhost"}, 422, "webhook"),
        ({}, 422, "spec"),
    ],
)  # fmt: skip
def test_a_faulty_request_is_refused_with_its_path(call, body, status, param):
    for path in ("/jobs", "/jobs:validate"):
        assert call("POST", path, status=status, json=body)["error"]["param"] == param


def test_a_body_that_is_no_json_is_refused(served):
    for content_type, content, status in (
        ("text/plain", b"{", 415),
        ("application/json", b"{", 422),
        ("application/json", b'{"spec": {"optimization": {"weight_decay": 1e999}}}', 422),
    ):
        answer = served.http.post(f"{API}/jobs", content=content, headers={"Content-Type": content_type})
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == ("unsupported_media_type" if status == 415 else "invalid_request")


def test_a_repeated_request_is_answered_with_the_first_one_s_job(call):
    key = {"Idempotency-Key": "once"}
    first = call("POST", "/jobs", json={"spec": spec()}, headers=key)
    assert call("POST", "/jobs", json={"spec": spec()}, headers=key)["id"] == first["id"]
    other = {"spec": spec(optimization={"epochs": 1})}
    assert call("POST", "/jobs", json=other, headers=key, status=409)["error"]["param"] == "Idempotency-Key"
    wait_for(lambda: _ended(call, first["id"]))


def test_a_job_is_paused_resumed_and_cancelled(call, running):
    call("POST", f"/jobs/{running}/pause")
    wait_for(lambda: call("GET", f"/jobs/{running}")["state"] == "paused")
    call("POST", f"/jobs/{running}/pause", status=409)
    call("POST", f"/jobs/{running}/resume")
    wait_for(lambda: call("GET", f"/jobs/{running}")["state"] == "running")
    assert call("POST", f"/jobs/{running}/cancel")["state"] == "cancelling"


def test_the_queue_follows_priorities(call, running):
    ids = [call("POST", "/jobs", json={"spec": LONG, "labels": {"test": "queue"}})["id"] for _ in range(2)]
    queue = call("GET", "/queue")
    assert [job["id"] for job in queue["active"]] == [running]
    assert [(each["job"]["id"], each["ahead"]) for each in queue["waiting"]] == [(ids[0], 1), (ids[1], 2)]

    assert call("PUT", f"/jobs/{ids[1]}/priority", json={"priority": 3})["priority"] == 3
    assert [each["job"]["id"] for each in call("GET", "/queue")["waiting"]] == ids[::-1]
    assert call("GET", "/queue?limit=1")["waiting"][0]["job"]["id"] == ids[1]

    busy = call("POST", "/jobs", json={"spec": LONG, "when_busy": "reject"}, status=409)
    assert busy["error"]["code"] == "busy"
    for id in ids:
        assert call("POST", f"/jobs/{id}/cancel")["state"] == "cancelled"


def test_jobs_are_listed_by_label_state_and_project(call, finished):
    project = "listing"
    body = {"spec": spec(), "labels": {"team": "a b"}, "project": project}
    ids = [call("POST", "/jobs", json=body)["id"] for _ in range(3)]
    for id in ids:
        wait_for(lambda id=id: _ended(call, id))
    for query in ({"labels[team]": "a b"}, {"project": project}, {"project": project, "state": "succeeded"}):
        first = call("GET", "/jobs", params={**query, "limit": 2})
        assert [job["id"] for job in first["data"]] == [ids[2], ids[1]]
        assert first["has_more"] is True
        rest = call("GET", "/jobs", params={**query, "limit": 2, "after": ids[1]})
        assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (ids[:1], False)
    assert call("GET", "/jobs", params={"project": project, "state": "failed"})["data"] == []
    assert call("GET", "/jobs", params={"state": "unheard"}, status=422)["error"]["param"] == "state"
    assert call("GET", "/jobs", params={"project": "unheard"})["data"] == []  # on an open server, it is a label


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_dropped_stream_of_events_resumes_without_loss_or_repetition(served, call):
    id = call("POST", "/jobs", json={"spec": spec(optimization={"epochs": 20, "batch_size": 4})})["id"]
    path = f"/jobs/{id}/events/stream"
    seen = take(stream(served, path), 1)
    for count in (1, 3, 5):
        seen += take(stream(served, path, last=seen[-1]["id"]), count)
    *rest, end = stream(served, f"{path}?after={seen[-1]['id']}")
    listed = call("GET", f"/jobs/{id}/events")["data"]
    assert [event["data"] for event in seen + rest] == listed
    assert [event["id"] for event in seen + rest] == [event["id"] for event in listed]
    assert [event["event"] for event in seen + rest] == [event["kind"] for event in listed]
    assert end == {"event": "end", "data": {"state": "succeeded"}}


def test_a_model_is_asked_during_its_training_and_the_answers_are_served(served, call):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What comes after 3?"}]
    sampling = {"prompts": ["What comes after 7?", turns], "every": 1000, "max_new_tokens": 5}
    optimization = {"epochs": 1, "batch_size": 4, "on_out_of_memory": "shrink"}
    id = call("POST", "/jobs", json={"spec": spec(sampling=sampling, optimization=optimization)})["id"]
    job = wait_for(lambda: _ended(call, id))
    assert job["state"] == "succeeded", job["error"]
    assert call("POST", "/jobs:validate", json={"spec": job["spec"]})["spec"]["sampling"] == job["spec"]["sampling"]
    found = call("GET", f"/jobs/{id}/samples")["data"]
    assert [(each["step"], each["number"]) for each in found] == [
        (step, number) for step in (0, job["total_steps"]) for number in (0, 1)
    ]
    assert [each["base"] for each in found] == [None, None, found[0]["text"], found[1]["text"]]
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", "jobs", "samples", id],
        env={**os.environ, "TUNESMITH_URL": served.url},
        capture_output=True,
        text=True,
        check=True,
    )
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["STEP", "PROMPT", "ANSWER", "BASE"]
    assert [line.split()[0] for line in lines] == [str(each["step"]) for each in found]
    assert "system: Be brief. user: What comes after 3?" in done.stdout


@pytest.mark.parametrize(
    ("sampling", "param", "words"),
    [
        ({"prompts": [7]}, "spec.sampling.prompts.0", "must be a text"),
        ({"prompts": ["word " * 6000]}, "spec.sampling.prompts.0", "context"),
        ({"prompts": ["x"], "denoising_steps": 4}, "spec.sampling.denoising_steps", "pictures"),
        ({"prompts": ["x"], "top_p": 0.5}, "spec.sampling", "top_p 0.5 has no effect"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_before_the_job_is_accepted(call, sampling, param, words):
    error = call("POST", "/jobs", 422, json={"spec": spec(sampling={"every": 5, **sampling})})["error"]
    assert error["param"] == param
    assert words in f"{error['message']} {error['hint']}"


def test_metrics_are_a_stream_and_thinned_out_curves(served, call, finished):
    *sent, _end = stream(served, f"/jobs/{finished['id']}/metrics/stream")
    assert {event["event"] for event in sent} == {"metrics", "evaluated"}
    curves = call("GET", f"/jobs/{finished['id']}/metrics")
    assert [point["step"] for point in curves["training"]] == list(range(1, finished["total_steps"] + 1))
    losses = [event["data"]["data"]["loss"] for event in sent if event["event"] == "metrics"]
    assert [point["loss"] for point in curves["training"]] == losses
    assert [point["step"] for point in curves["validation"]] == [finished["total_steps"] // 2, finished["total_steps"]]

    few = call("GET", f"/jobs/{finished['id']}/metrics?limit=2")
    assert [point["step"] for point in few["training"]] == [1, finished["total_steps"]]
    assert few["training_count"] == finished["total_steps"]


def test_a_dropped_stream_of_the_log_resumes_within_the_text(served, call, running):
    log = served.home / "jobs" / running / "attempts" / "1" / "log"
    printed = log.read_text()
    whole = printed + "".join(f"Zeile {number}: größer 📉\n" for number in range(20_000))

    def write(text):
        with log.open("ab") as file:
            file.write(text)

    content = whole.encode()[len(printed.encode()) :]
    cut = content.index("📉".encode()) + 2
    write(content[:cut])
    path = f"/jobs/{running}/log/stream"
    first = take(stream(served, path), 1)
    assert whole.startswith(first[0]["data"]["text"])
    write(content[cut:])
    pieces = take(stream(served, path, last=first[0]["id"]), 2)
    call("POST", f"/jobs/{running}/cancel")
    *rest, end = stream(served, path, last=pieces[-1]["id"])
    assert "".join(piece["data"]["text"] for piece in first + pieces + rest).startswith(whole)
    assert end["data"]["state"] == "cancelled"

    plain, start = "", 0
    while part := served.http.get(f"{API}/jobs/{running}/log", params={"start": start, "limit": 100_001}):
        if not part.text:
            break
        plain, start = plain + part.text, int(part.headers["x-log-end"])
    assert plain.startswith(whole)
    tail = served.http.get(f"{API}/jobs/{running}/log", params={"limit": 1001})
    assert plain.endswith(tail.text)
    assert len(tail.content) > 990


@pytest.mark.parametrize("path", ["events/stream", "metrics/stream", "log/stream"])
@pytest.mark.parametrize("place", ["nonsense", "0" * 64])
def test_a_stream_from_an_unknown_place_is_refused_before_it_begins(served, finished, path, place):
    answer = served.http.get(f"{API}/jobs/{finished['id']}/{path}", headers={"Last-Event-ID": place})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_request"


def test_an_open_stream_does_not_delay_the_end_of_the_server(write_home, tmp_path):
    server = RunningServer(write_home(tmp_path / "home"))
    try:
        server.http.post(f"{API}/datasets", data={"name": "rows"}, files={"file": ("rows.jsonl", chat_rows())})
        id = server.http.post(f"{API}/jobs", json={"spec": LONG}).json()["id"]
        events = stream(server, f"/jobs/{id}/events/stream")
        next(event for event in events if event["event"] == "started")
        server.process.send_signal(signal.SIGTERM)
        assert "end" not in {event["event"] for event in events}  # it is over without the job's end
        assert server.process.wait(timeout=60) == 0
        wait_for(lambda: any("goes on" in line for line in server.stderr[1:]), seconds=10)
        assert "Traceback" not in "".join(server.stderr)
    finally:
        server.stop()


# --- artifacts -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
def test_the_archive_of_a_finished_job_unpacks_and_loads(served, finished, tiny_model_folder, tmp_path):
    answer = served.http.get(f"{API}/jobs/{finished['id']}/archive")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert finished["id"] in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    assert (tmp_path / "metrics.csv").read_text().startswith("step,train_loss")

    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    model = PeftModel.from_pretrained(base, tmp_path / "model")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "model")("What comes after 3?", return_tensors="pt")
    assert model(**tokens).logits.isfinite().all()


def test_every_artifact_can_be_fetched_whole_and_in_part(served, call, finished):
    import hashlib

    listed = call("GET", f"/jobs/{finished['id']}/artifacts")["data"]
    assert {each["kind"] for each in listed} == {"model", "checkpoint", "metrics", "log"}
    assert "checkpoints/step-3/adapter_model.safetensors" in {each["name"] for each in listed}
    for artifact in listed:
        path = f"{API}/jobs/{finished['id']}/artifacts/{artifact['name']}"
        content = served.http.get(path).content
        assert len(content) == artifact["bytes"]
        assert artifact["sha256"] in (None, hashlib.sha256(content).hexdigest())
        if content:
            part = served.http.get(path, headers={"Range": "bytes=1-4"})
            assert (part.status_code, part.content) == (206, content[1:5])
    checkpoints = call("GET", f"/jobs/{finished['id']}/checkpoints")["data"]
    assert [each["step"] for each in checkpoints] == [6, 3]


@pytest.mark.parametrize(
    "name", ["model/nothing", "model/../../../tunesmith.db", "%2e%2e/%2e%2e/tunesmith.db", "/etc/passwd", "model"]
)
def test_only_listed_artifacts_can_be_fetched(served, finished, name):
    answer = served.http.get(f"{API}/jobs/{finished['id']}/artifacts/{name}")
    assert answer.status_code == 404


def test_a_checkpoint_is_continued_from(call, finished):
    checkpoint = call("GET", f"/jobs/{finished['id']}/checkpoints")["data"][-1]
    body = {"spec": spec(init_from={"kind": "checkpoint", "id": checkpoint["id"]})}
    id = call("POST", "/jobs", json=body)["id"]
    job = wait_for(lambda: _ended(call, id))
    assert job["state"] == "succeeded", job["error"]


# --- data and models -------------------------------------------------------------------------------------------------


def test_a_file_becomes_a_dataset_and_both_are_deleted(served, call):
    rows = b'{"question": "What?", "answer": "That."}\n' * 3
    reading = json.dumps({"format": "prompt_completion", "columns": {"prompt": "question", "completion": "answer"}})
    file = call("POST", "/files", files={"file": ("../rows.jsonl", rows)}, data={"reading": reading})
    assert (file["filename"], file["report"]["rows"], file["report"]["problem_count"]) == ("rows.jsonl", 3, 0)
    assert call("GET", f"/files/{file['id']}") == file
    content = served.http.get(f"{API}/files/{file['id']}/content")
    assert (content.content, content.headers["x-content-type-options"]) == (rows, "nosniff")

    form = {"name": (None, "team/rows"), "file_id": (None, file["id"]), "reading": (None, reading)}
    dataset = call("POST", "/datasets", files=form)
    assert (dataset["reference"], dataset["sha256"]) == ("team/rows@1", file["sha256"])
    assert call("POST", "/datasets", files=form) == dataset
    assert call("GET", "/datasets/team/rows@1") == call("GET", "/datasets/team/rows") == dataset

    assert call("DELETE", f"/files/{file['id']}") == {"id": file["id"], "deleted": True}
    call("GET", f"/files/{file['id']}", status=404)
    validated = {"spec": spec(data={"train": {"dataset": "team/rows"}, "reading": json.loads(reading)})}
    assert call("POST", "/jobs:validate", json=validated)["complete"] is True
    call("DELETE", "/datasets/team/rows@1")
    call("GET", "/datasets/team/rows", status=404)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"name": (None, "x")}, "file"),
        ({"file": ("rows.jsonl", b"{}")}, "name"),
        ({"name": (None, "x"), "file": ("rows.jsonl", b"{}"), "file_id": (None, "0")}, "file"),
        ({"name": (None, "x"), "file": ("rows.jsonl", b"{}"), "title": (None, "0")}, "title"),
        ({"name": (None, "x"), "file": ("rows.jsonl", b"{}"), "reading": (None, "{")}, "reading"),
        ({"name": (None, "x"), "file": ("rows.jsonl", b"{}"), "reading": (None, '{"format": 1}')}, "reading.format"),
        ({"name": (None, "a b"), "file": ("rows.jsonl", chat_rows(1))}, "name"),
    ],
)
def test_a_faulty_form_is_refused_with_its_field_and_leaves_nothing(served, call, form, param):
    assert call("POST", "/datasets", files=form, status=422)["error"]["param"] == param
    assert not list((served.home / "files" / "incoming").iterdir())


def test_a_produced_model_is_deleted_and_a_base_model_is_not(served, call):
    id = call("POST", "/jobs", json={"spec": spec()})["id"]
    job = wait_for(lambda: _ended(call, id))
    folder = Path(call("GET", f"/models/{job['model']}")["path"])
    assert folder.is_dir()
    call("DELETE", f"/models/{job['model']}")
    assert not folder.exists()
    call("GET", f"/models/{job['model']}", status=404)
    names = {each["name"].partition("/")[0] for each in call("GET", f"/jobs/{job['id']}/artifacts")["data"]}
    assert names == {"checkpoints", "metrics.csv", "logs"}
    call("DELETE", "/models/tiny", status=404)
    assert call("GET", "/models/tiny")["kind"] == "base"


# --- other organisations ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(write_home, tmp_path_factory):
    """A server with two organisations, and a client for each."""
    home = write_home(tmp_path_factory.mktemp("shared") / "home")
    clients = {}
    for org in ("acme", "other"):
        command = [sys.executable, "-m", "tunesmith.cli", "keys", "create", "--org", org, "--home", str(home)]
        key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        clients[org] = {"Authorization": f"Bearer {key}"}
    server = RunningServer(home, TUNESMITH_AUTHENTICATION="required")
    yield server, clients
    server.stop()


def test_what_belongs_to_others_is_answered_like_what_does_not_exist(shared):
    server, headers = shared

    def call(org, method, path, **arguments):
        return server.http.request(method, f"{API}{path}", headers=headers[org], **arguments)

    rows = {"file": ("rows.jsonl", chat_rows())}
    file = call("acme", "POST", "/files", files=rows).json()["id"]
    call("acme", "POST", "/datasets", data={"name": "rows"}, files=rows)
    job = call("acme", "POST", "/jobs", json={"spec": spec()}).json()["id"]
    done = wait_for(lambda: _ended(lambda method, path: call("acme", method, path).json(), job))
    assert done["state"] == "succeeded"
    artifact = call("acme", "GET", f"/jobs/{job}/artifacts").json()["data"][0]["name"]

    paths = call("acme", "GET", "/openapi.json").json()["paths"]
    names = {"job_id": job, "file_id": file, "reference": "rows", "model_id": done["model"], "name": artifact}
    checked = 0
    for path, operations in paths.items():
        needed = re.findall(r"{(\w+)}", path)
        if not needed or not set(needed) <= set(names):
            continue
        for method, operation in operations.items():
            if method == "post" and "requestBody" in operation:
                continue  # tests/e2e/test_organisations.py has their bodies
            body = {"json": {"priority": 1}} if method == "put" else {}
            if path.endswith("/recipe"):
                body = {"params": {"format": "trl"}}
            own = path.removeprefix(API).format(**names)
            unknown = path.removeprefix(API).format(**dict.fromkeys(names, "0" * 32))
            foreign, missing = (call("other", method.upper(), each, **body) for each in (own, unknown))
            assert foreign.status_code == missing.status_code == 404, (method, path)
            assert foreign.json()["error"]["code"] == missing.json()["error"]["code"]
            checked += 1
    assert checked > 20
    for path in ("/jobs", "/files", "/datasets"):
        assert call("other", "GET", path).json()["data"] == []
    stolen = call("other", "POST", "/jobs", json={"spec": done["spec"]})
    assert (stolen.status_code, stolen.json()["error"]["param"]) == (404, "spec.data.train")


def test_the_description_of_the_api_is_public_and_says_what_every_route_does(shared):
    server, _ = shared
    document = server.http.get(f"{API}/openapi.json").json()
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert len(operations) > 45
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        refusal = operation["responses"]["422"]["content"]["application/json"]["schema"]
        assert refusal == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert document["components"]["schemas"]["JobRequest"]["examples"]


# --- the example -----------------------------------------------------------------------------------------------------


def test_the_example_trains_and_fetches_the_result(served, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(chat_rows())
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "native" / "train.py", "tiny", rows, tmp_path / "result.zip"],
        env={**os.environ, "TUNESMITH_URL": served.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The job has succeeded." in done.stdout
    with zipfile.ZipFile(tmp_path / "result.zip") as archive:
        assert "model/adapter_model.safetensors" in archive.namelist()


def test_the_curl_of_the_example_is_accepted(served, call):
    [command] = re.findall(r"^curl .*?^```", (ROOT / "examples/native/README.md").read_text(), re.DOTALL | re.MULTILINE)
    for old, new in (("```", ""), ("http://127.0.0.1:23478", served.url), ("MODEL", "tiny"), ('"support"', '"rows"')):
        command = command.replace(old, new)
    done = subprocess.run(["bash", "-c", f"{command.strip()} -s"], capture_output=True, text=True, check=True)
    id = json.loads(done.stdout)["id"]
    assert wait_for(lambda: _ended(call, id))["state"] == "succeeded"
