"""Webhooks of a real server: killed while it delivers, steered over its API and its command line."""

import json
import subprocess
import sys

import openai
import pytest

from receiver import Receiver, answering
from rows import chat_rows
from running_server import RunningServer, wait_for
from tunesmith.integrations.webhook.catalogue import EVENTS

pytestmark = pytest.mark.slow

CANARY = "canary-5f4dcc3b5aa765d61d83"


@pytest.fixture
def start(write_home, tmp_path):
    started = []

    def start(name):
        server = RunningServer(
            write_home(tmp_path / name), TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8", TUNESMITH_WARM_WORKERS="false"
        )
        started.append(server)
        rows = {"file": ("rows.jsonl", chat_rows(24))}
        server.http.post("/tunesmith/v1/datasets", data={"name": "rows"}, files=rows).raise_for_status()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def receiver():
    server = Receiver(path=f"/{CANARY}")
    yield server
    server.stop()


def submit(server):
    spec = {
        "model": {"base": "tiny", "dtype": "float32"},
        "data": {"train": {"dataset": "rows"}},
        "optimization": {"epochs": 1, "batch_size": 2},
        "cadence": {"save_steps": 1},
    }
    answer = server.http.post("/tunesmith/v1/jobs", json={"spec": spec})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def ended(server, job):
    found = server.http.get(f"/tunesmith/v1/jobs/{job}").json()
    return found if found["state"] in ("succeeded", "failed") else None


def losses(server, job):
    done = wait_for(lambda: ended(server, job))
    assert done["state"] == "succeeded", done
    points = server.http.get(f"/tunesmith/v1/jobs/{job}/metrics").json()["training"]
    return [(point["step"], point["loss"]) for point in points]


@pytest.mark.timeout(600)
def test_a_server_killed_five_times_while_it_delivers_loses_nothing_and_disturbs_no_training(start, receiver):
    server = start("killed")
    undisturbed = losses(server, submit(server))
    request = {"url": receiver.hook, "events": EVENTS}
    secret = server.http.post("/tunesmith/v1/webhooks", json=request).json()["secret"]
    deadly = [1, 3, 5, 7, 9]

    def kill_now_and_then(handler):
        # A server that is still starting is no process of ours to kill yet: it dies at its next message.
        if deadly and len(receiver.messages) >= deadly[0] and server.process.poll() is None:
            deadly.pop(0)
            server.kill()
        answering(200)(handler)

    receiver.plan = kill_now_and_then
    job = submit(server)
    for left in range(4, -1, -1):
        wait_for(lambda left=left: len(deadly) <= left and server.process.poll() is not None)
        server.restart()
    assert losses(server, job) == undisturbed

    def all_delivered():
        found = server.http.get("/tunesmith/v1/webhook-deliveries", params={"job": job}).json()["data"]
        names = [delivery["event"] for delivery in found]
        done = all(delivery["state"] == "delivered" for delivery in found)
        return found[::-1] if done and "fine_tuning.job.succeeded" in names else None

    delivered = wait_for(all_delivered)
    told = [delivery["event"].rpartition(".")[2] for delivery in delivered]
    assert told == ["started", *["checkpoint"] * 12, "succeeded"]
    arrived = [message.id for message in receiver.messages]
    # Each kill makes one message come twice, one right behind the other.
    in_order = [id for place, id in enumerate(arrived) if place == 0 or arrived[place - 1] != id]
    assert in_order == [delivery["id"] for delivery in delivered]
    assert len(arrived) == len(delivered) + 5
    client = openai.OpenAI(api_key="any", webhook_secret=secret)
    for message in receiver.messages:
        assert client.webhooks.unwrap(message.body, message.headers).data.id == f"ftjob-{job}"
    _nothing_leaked(server, receiver, secret)


def _nothing_leaked(server, receiver, secret):
    """The path of the URL and the signing secret stand in no log, file, answer or message."""
    files = [path for path in server.home.rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    assert files
    for canary in (CANARY, secret, secret.removeprefix("whsec_")):
        assert canary not in "".join(server.stderr)
        assert not any(canary in message.body.decode() for message in receiver.messages)
        for path in files:
            assert canary.encode() not in path.read_bytes(), path
        for route in ("webhooks", "webhook-deliveries", "jobs", "secrets"):
            assert canary not in server.http.get(f"/tunesmith/v1/{route}").text


def _the_command_line_manages_webhooks(server, receiver):
    def run(*words, code=0, **given):
        command = [sys.executable, "-m", "tunesmith.cli", "webhooks", *words, "--url", server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **given)
        assert done.returncode == code, done.stderr
        assert CANARY not in done.stdout + done.stderr
        return done.stdout

    made = json.loads(run("create", "-", "--description", "ops", "--json", input=f"{receiver.hook}\n"))
    assert made["secret"].startswith("whsec_")
    run("test", made["id"])
    assert receiver.messages[-1].json["type"] == "webhook.test"
    receiver.plan = answering(500)
    run("test", made["id"], code=1)
    [failed, _] = json.loads(run("deliveries", "--webhook", made["id"], "--json"))
    receiver.plan = answering(204)
    run("redeliver", failed["id"])
    assert receiver.messages[-1].id == failed["id"]
    assert run("rotate", made["id"], "--overlap", "0").startswith("whsec_")
    run("change", made["id"], "--disable")
    assert "disabled" in run("list")
    assert "ops" in run("get", made["id"])
    assert "webhook.test" in run("deliveries")
    run("delete", made["id"])
    run("get", made["id"], code=4)


def test_the_training_apis_webhook_is_told_of_the_end_of_a_job(start, receiver):
    server = start("training-api")
    asked = {
        "model_name": "tiny", "dataset_version": "rows", "num_epochs": 1, "webhook_url": receiver.hook,
    }  # fmt: skip
    answer = server.http.post("/train", json=asked)
    assert answer.status_code == 200, answer.text
    id = answer.json()["job_id"]
    wait_for(lambda: receiver.messages)
    status = server.http.get(f"/train/{id}").json()
    assert receiver.messages[0].json == {
        "job_id": id, "status": "completed", "tracking_url": None, "output_path": status["output_path"],
    }  # fmt: skip
    assert CANARY not in server.http.get(f"/tunesmith/v1/jobs/{id.replace('-', '')}").text
    assert CANARY not in json.dumps(status)
    refused = server.http.post("/train", json={**asked, "webhook_url": "http://10.0.0.1/x"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "webhook_url"]
    _the_command_line_manages_webhooks(server, receiver)
    openai_view = server.http.get(f"/v1/fine_tuning/jobs/ftjob-{id.replace('-', '')}").json()
    assert [each["type"] for each in openai_view["integrations"]] == [
        "wandb"
    ]  # as this API means it where none is named
