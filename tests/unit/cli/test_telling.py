"""`tunesmith jobs integrations` and `tensorboard`, and `tunesmith webhooks`, with a real job on a real server."""

import json
import re
import signal

import httpx2
import pytest

from receiver import Receiver, answering
from running_server import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server, tiny_model, tmp_path_factory):
    return start_server(
        tmp_path_factory.mktemp("home"),
        TUNESMITH_MODEL_ALIASES=json.dumps({"tiny": str(tiny_model)}),
        TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8",
        TUNESMITH_WARM_WORKERS="false",
    )


@pytest.fixture
def shell(server, shell_for):
    return shell_for(server.url)


@pytest.fixture
def receiver():
    receiver = Receiver("/hook/password")
    yield receiver
    receiver.stop()


@pytest.fixture
def trained(shell, server, rows, tmp_path):
    """Train a job with trackers, and give its id when all are told."""
    assert shell.run("datasets", "add", "told", rows).code == 0
    file = tmp_path / "job.json"
    spec = {
        "model": {"base": "tiny", "dtype": "float32"},
        "data": {"train": {"dataset": "told"}},
        "optimization": {"max_steps": 3},
    }
    file.write_text(json.dumps({"spec": spec, "integrations": {"wandb": {"project": "tests"}}}))
    done = shell.run("jobs", "submit", file, "--json")
    assert done.code == 0, done.err

    def told():
        found = server.http.get(f"/tunesmith/v1/jobs/{done.json['id']}/integrations").json()["data"]
        return all(each["state"] == "done" for each in found)

    wait_for(told)
    return done.json["id"]


def test_how_the_trackers_of_a_job_fare_is_shown_and_tensorboard_serves_its_figures(shell, trained, tmp_path):
    done = shell.run("jobs", "integrations", f"ftjob-{trained}", COLUMNS="300")
    assert (done.code, done.err) == (0, "")
    headings, *lines = done.out.splitlines()
    assert headings.split("  ")[0] == "KIND"
    assert {tuple(line.split()[:2]) for line in lines} == {("tensorboard", "done"), ("wandb", "done")}
    found = shell.run("jobs", "integrations", trained, "--json").json
    assert {each["kind"]: each["url"].partition(":")[0] for each in found} == {"tensorboard": "file", "wandb": "file"}

    with (tmp_path / "said").open("w+") as said:
        board = shell.start("jobs", "tensorboard", trained, "--port", "0", stdout=said, stderr=said)
        try:
            [url] = wait_for(lambda: re.findall(r"http://localhost:\d+/", (tmp_path / "said").read_text()))
            [run] = wait_for(lambda: httpx2.get(f"{url}data/runs").json())
            asked = {"run": run, "tag": "train/loss"}
            points = wait_for(lambda: httpx2.get(f"{url}data/plugin/scalars/scalars", params=asked).json())
            assert [step for _, step, _ in points] == [1, 2, 3]
        finally:
            board.send_signal(signal.SIGINT)
            board.wait(30)


def test_a_webhook_is_made_tried_looked_up_and_told_again(shell, receiver, trained):
    made = shell.run("webhooks", "create", receiver.hook, "--event", "fine_tuning.job.failed", "--json").json
    assert made["secret"].startswith("whsec_")
    assert shell.run("webhooks", "test", made["id"]).code == 0
    receiver.plan = answering(500, b"broken")
    refused = shell.run("webhooks", "test", made["id"])
    assert refused.code == 1
    assert "only 200 to 299" in refused.err
    assert "broken" in refused.err
    log = shell.run("webhooks", "deliveries", "--webhook", made["id"], COLUMNS="300")
    headings, failed, taken = log.out.splitlines()
    assert headings.split() == ["ID", "CREATED", "EVENT", "STATE", "TRIES", "LAST", "ANSWER"]
    assert ("failed" in failed, "delivered" in taken) == (True, True)
    assert shell.run("webhooks", "deliveries", "--job", trained).out == ""
    id = failed.split()[0]
    assert shell.run("webhooks", "redeliver", id).code == 1
    receiver.plan = answering(204)
    again = shell.run("webhooks", "redeliver", id, "--json").json
    assert (again["state"], len(again["attempts"])) == ("delivered", 3)
    assert {message.id for message in receiver.messages[1:]} == {id}
    rotated = shell.run("webhooks", "rotate", made["id"])
    assert rotated.out.startswith("whsec_")
    assert rotated.out.strip() != made["secret"]
    for words in (("list",), ("get", made["id"]), ("deliveries",)):
        shown = shell.run("webhooks", *words, "--json").out
        assert "whsec_" not in shown
        assert "password" not in shown
    assert shell.run("webhooks", "redeliver", "0" * 32).code == 4
