"""`tunesmith train` and what follows it, with a tiny model on a real server."""

import json
import os
import pty
import shutil
import signal
import threading
import zipfile
from pathlib import Path

import pytest

from running_server import wait_for
from tunesmith.cli.training import hyperparameters

pytestmark = pytest.mark.slow

# Enough steps that a training is under way when a test looks at it.
LONG = ("--epochs", "50", "--batch-size", "1")


@pytest.fixture(scope="module")
def home(tiny_model, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    broken = tmp_path_factory.mktemp("models") / "broken"
    shutil.copytree(tiny_model, broken)
    # The check before a job reads no weights, so that this is found out by the job.
    next(broken.glob("*.safetensors")).write_bytes(b"no tensors")
    (home / "tunesmith.toml").write_text(f'[model_aliases]\ntiny = "{tiny_model}"\nbroken = "{broken}"\n')
    return home


@pytest.fixture(scope="module")
def server(start_server, home):
    return start_server(home)


@pytest.fixture(scope="module")
def shell(server, shell_for):
    return shell_for(server.url)


@pytest.fixture(scope="module")
def train(shell, rows):
    def run(*options):
        return shell.run("train", rows, "--model", "tiny", "--dtype", "float32", *options)

    return run


@pytest.fixture(scope="module")
def trained(train):
    """A finished job with its model."""
    done = train("--epochs", "2", "--batch-size", "8", "--suffix", "mine", "--json")
    assert done.code == 0, done.err
    return done.json


@pytest.fixture
def running(train, shell):
    """The id of a job in training."""
    id = train(*LONG, "--detach").out.strip()
    wait_for(lambda: shell.run("jobs", "get", id, "--json").json["step"] > 0)
    yield id
    shell.run("jobs", "cancel", id)
    shell.run("jobs", "watch", id)


def test_the_result_is_a_model_and_its_folder(train):
    done = train("--epochs", "1", "--batch-size", "8")
    assert done.code == 0, done.err
    (_, model), (_, path) = (line.split(maxsplit=1) for line in done.out.splitlines())
    assert model.startswith("ft:tiny:")
    assert (Path(path) / "adapter_model.safetensors").exists()
    lines = done.err.splitlines()
    assert "LoRA rank 16" in lines[0]
    assert "float32" in lines[0]
    assert sum(line.startswith("100 %") for line in lines) == 1
    assert "\x1b" not in done.err


def test_json_holds_job_and_model(trained):
    assert set(trained) == {"job", "model"}
    assert trained["job"]["state"] == "succeeded"
    assert trained["job"]["spec"]["optimization"]["epochs"] == 2
    assert trained["model"]["id"] == trained["job"]["model"]
    assert "mine" in trained["model"]["id"]


def test_a_rank_means_an_adapter_and_full_means_none(train, shell):
    jobs = [train(*options, "--detach", "--json").json["job"] for options in (("--rank", "16"), ("--full",))]
    assert [job["spec"]["adapter"] and job["spec"]["adapter"]["rank"] for job in jobs] == [16, None]
    assert all(shell.run("jobs", "watch", job["id"]).code == 0 for job in jobs)


def test_a_finished_job_can_be_read(trained, shell):
    id = trained["job"]["id"]
    assert id in shell.run("jobs", "list").out
    assert id in [job["id"] for job in shell.run("jobs", "list", "--json").json]
    assert shell.run("jobs", "get", f"ftjob-{id}", "--json").json == trained["job"]
    assert "succeeded" in shell.run("jobs", "get", id).out
    assert trained["model"]["id"] in shell.run("models", "list").out


def test_watching_a_finished_job_ends_as_it_ended(trained, shell):
    done = shell.run("jobs", "watch", trained["job"]["id"], "--json")
    assert (done.code, done.json) == (0, trained)


def test_logs_are_events_the_worker_s_own_words_or_a_curve(trained, shell):
    id = trained["job"]["id"]
    events = shell.run("jobs", "logs", id, "--json").json
    assert {"started", "prepared", "metrics", "succeeded"} <= {event["kind"] for event in events}
    assert len(shell.run("jobs", "logs", id).out.splitlines()) == len(events)
    assert shell.run("jobs", "logs", id, "--worker").code == 0
    curve = shell.run("jobs", "logs", id, "--plot").out
    assert "loss" in curve
    assert "training" in curve
    assert "\x1b" not in curve


def test_metrics_are_a_table_of_steps(trained, shell):
    id, steps = trained["job"]["id"], trained["job"]["total_steps"]
    headings, *lines = shell.run("jobs", "metrics", id).out.splitlines()
    assert headings.split() == ["STEP", "CURVE", "LOSS", "ACCURACY", "RATE", "TOKENS/S"]
    assert [line.split()[:2] for line in lines] == [[str(step + 1), "training"] for step in range(steps)]
    assert len(shell.run("jobs", "metrics", id, "--limit", "2", "--json").json["training"]) == 2


def test_what_a_job_left_is_listed_and_downloaded(trained, shell, tmp_path):
    id = trained["job"]["id"]
    listed = shell.run("jobs", "artifacts", id, "--json").json
    assert listed[0]["name"] in shell.run("jobs", "artifacts", id).out
    whole = tmp_path / "whole.zip"
    done = shell.run("jobs", "download", id, "--to", whole)
    assert (done.code, done.out) == (0, f"{whole}\n")
    with zipfile.ZipFile(whole) as archive:
        assert archive.testzip() is None

    name = "model/adapter_model.safetensors"
    one = tmp_path / "adapter.safetensors"
    done = shell.run("jobs", "download", id, "--artifact", name, "--to", one, "--json")
    assert done.json == {"path": str(one), "bytes": one.stat().st_size}
    assert one.read_bytes() == Path(trained["model"]["path"], Path(name).name).read_bytes()

    again = shell.run("jobs", "download", id, "--to", whole)
    assert again.code == 2
    assert "exists already" in again.err
    assert shell.run("jobs", "download", id, "--artifact", "model/no", "--to", tmp_path / "no").code == 4
    assert sorted(file.name for file in tmp_path.iterdir()) == ["adapter.safetensors", "whole.zip"]


def test_a_described_job_is_checked_and_submitted(shell, rows, tmp_path):
    file = shell.run("files", "add", rows).out.strip()
    request = {
        "spec": {
            "model": {"base": "tiny", "dtype": "float32"},
            "data": {"train": {"file": file}},
            "optimization": {"max_steps": 2},
        },
        "labels": {"test": "described"},
    }
    described = tmp_path / "job.json"
    described.write_text(json.dumps(request))
    checked = shell.run("jobs", "validate", described)
    assert checked.code == 0, checked.err
    assert checked.json["optimization"]["learning_rate"] == 2e-4
    assert "would be accepted" in checked.err
    assert shell.run("jobs", "list", "--label", "test=described", "--json").json == []

    id = shell.run("jobs", "submit", described).out.strip()
    assert shell.run("jobs", "watch", id).code == 0
    [job] = shell.run("jobs", "list", "--label", "test=described", "--state", "succeeded", "--json").json
    assert (job["id"], job["spec"]) == (id, checked.json)


def test_a_running_job_is_steered(running, shell):
    assert "priority high" in shell.run("jobs", "priority", running, "high").err
    assert shell.run("jobs", "get", running, "--json").json["priority"] == 2
    assert shell.run("jobs", "priority", running, "highest").code == 2
    assert shell.run("jobs", "pause", running).code == 0
    wait_for(lambda: shell.run("jobs", "get", running, "--json").json["state"] == "paused")
    assert shell.run("jobs", "pause", running).code == 5
    assert shell.run("jobs", "resume", running, "--json").json["state"] == "queued"


def test_what_has_ended_cannot_be_cancelled(trained, shell):
    done = shell.run("jobs", "cancel", trained["job"]["id"])
    assert done.code == 5
    assert "cannot be cancelled" in done.err


def test_a_terminal_gets_a_bar(trained, shell):
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read():
        try:
            while piece := os.read(ours, 65536):
                shown.extend(piece)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    process = shell.start("jobs", "watch", trained["job"]["id"], stderr=theirs)
    os.close(theirs)
    assert process.communicate(timeout=60)[0].startswith("Model")
    reader.join()
    os.close(ours)
    assert process.returncode == 0
    assert "100%" in shown.decode()
    assert "━" in shown.decode()


def test_ctrl_c_detaches_and_cancels_nothing(running, shell):
    watcher = shell.start("jobs", "watch", running)
    assert watcher.stderr
    assert watcher.stderr.readline().startswith(f"Job {running}")
    assert watcher.stderr.readline()  # it follows
    watcher.send_signal(signal.SIGINT)
    out, err = watcher.communicate(timeout=30)
    assert (watcher.returncode, out) == (130, "")
    assert f"tunesmith jobs watch {running}" in err
    assert "Traceback" not in err
    assert shell.run("jobs", "get", running, "--json").json["state"] == "running"


def test_waiting_can_end_before_the_job(running, shell):
    done = shell.run("jobs", "watch", running, "--timeout", "0")
    assert done.code == 124
    assert f"tunesmith jobs watch {running}" in done.err
    assert shell.run("jobs", "get", running, "--json").json["state"] == "running"


def test_a_cancelled_job_is_a_failure_for_its_watcher(running, shell):
    cancelled = shell.run("jobs", "cancel", running, "--json")
    assert (cancelled.code, cancelled.json["state"]) == (0, "cancelling")
    done = shell.run("jobs", "watch", running)
    assert (done.code, done.out) == (1, "")
    assert "was cancelled" in done.err


def test_a_failed_job_is_a_failure_with_its_reason(shell, rows):
    done = shell.run("train", rows, "--model", "broken", "--json")
    assert done.code == 1
    job = done.json["job"]
    assert (job["state"], done.json["model"]) == ("failed", None)
    assert job["error"]["message"] in done.err
    assert job["error"]["message"] in shell.run("jobs", "get", job["id"]).out


def test_an_adapter_s_settings_do_not_fit_full_tuning(train):
    done = train("--full", "--rank", "8")
    assert done.code == 2
    assert "--full" in done.err


def test_the_server_s_refusal_is_told(train):
    done = train("--batch-size", "100000")
    assert done.code == 1
    assert "batch_size" in done.err


@pytest.mark.parametrize(
    ("given", "lora", "sent"),
    [
        ({"n_epochs": None}, None, None),
        ({"n_epochs": 3, "dtype": "float32"}, True, {"n_epochs": 3, "dtype": "float32"}),
        ({"learning_rate": 1e-4}, None, {"learning_rate": 1e-4, "lora": True}),
        ({"packing": False}, None, {"packing": False, "lora": True}),
        ({"n_epochs": None}, False, {"lora": False}),
    ],
)
def test_only_what_was_given_is_sent(given, lora, sent):
    assert hyperparameters(given, lora) == sent
