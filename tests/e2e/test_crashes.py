"""What survives the death of the server and of a worker."""

import os
import signal

import openai
import psutil
import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def server(write_home, tmp_path):
    server = RunningServer(write_home(tmp_path / "home"))
    yield server
    server.stop()


def client_of(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


def submit(server, **hyperparameters):
    client = client_of(server)
    file = client.files.create(file=("rows.jsonl", chat_rows(40)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        hyperparameters={"n_epochs": 12, "batch_size": 4, "lora": True, "lora_dropout": 0.1, "learning_rate": 1e-3,
                         "packing": False} | hyperparameters,
    )  # fmt: skip


def step(server, job):
    return client_of(server).fine_tuning.jobs.retrieve(job.id).model_extra["trained_steps"] or 0


def ended(server, job):
    found = client_of(server).fine_tuning.jobs.retrieve(job.id)
    return found if found.status in ("succeeded", "failed", "cancelled") else None


def losses(server, job):
    """The loss of each step, of its last run."""
    data = server.http.get(f"/tunesmith/v1/jobs/{job.id[6:]}/events?limit=1000").json()["data"]
    return {event["data"]["step"]: event["data"]["loss"] for event in data if event["kind"] == "metrics"}


def messages(server, job):
    data = server.http.get(f"/tunesmith/v1/jobs/{job.id[6:]}/events?limit=1000").json()["data"]
    return [event["message"] for event in data]


def test_training_outlives_the_server_and_the_next_one_adopts_it(server):
    job = submit(server)
    wait_for(lambda: step(server, job) > 2)
    [pid] = server.worker_pids()
    server.kill()
    assert psutil.pid_exists(pid)
    server.restart()
    done = wait_for(lambda: ended(server, job))
    assert done.status == "succeeded", done.error
    assert server.http.get(f"/tunesmith/v1/jobs/{job.id[6:]}").json()["attempts"] == 1
    assert sorted(losses(server, job)) == list(range(1, 121))


def test_a_job_whose_worker_died_while_no_server_ran_goes_on(server):
    job = submit(server)
    wait_for(lambda: step(server, job) > 2)
    [pid] = server.worker_pids()
    server.kill()
    os.kill(pid, signal.SIGKILL)
    server.restart()
    done = wait_for(lambda: ended(server, job))
    assert done.status == "succeeded", done.error
    assert server.http.get(f"/tunesmith/v1/jobs/{job.id[6:]}").json()["attempts"] == 2


def test_a_killed_worker_is_replaced_and_its_losses_equal_an_undisturbed_runs(server):
    undisturbed = submit(server)
    assert wait_for(lambda: ended(server, undisturbed)).status == "succeeded"
    job = submit(server)
    wait_for(lambda: step(server, job) >= 25)
    [pid] = server.worker_pids()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: any("signal 9" in message for message in messages(server, job)), seconds=5)
    done = wait_for(lambda: ended(server, job))
    assert done.status == "succeeded", done.error
    resumed = [message for message in messages(server, job) if "goes on from the checkpoint" in message]
    assert len(resumed) == 1
    assert losses(server, job) == losses(server, undisturbed)


def test_an_accepted_job_is_there_after_a_crash_and_runs(server):
    ids = [submit(server, n_epochs=1).id for _ in range(3)]
    server.kill()
    server.restart()
    client = client_of(server)
    assert [job.id for job in client.fine_tuning.jobs.list()] == ids[::-1]
    for id in ids:
        assert wait_for(lambda id=id: client.fine_tuning.jobs.retrieve(id).status == "succeeded")


def test_a_stopped_server_leaves_its_workers_running(server):
    job = submit(server, n_epochs=20)
    wait_for(lambda: step(server, job) > 2)
    [pid] = server.worker_pids()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=15) in (0, -signal.SIGTERM)
    assert psutil.pid_exists(pid)
    server.restart()
    assert wait_for(lambda: ended(server, job)).status == "succeeded"


def test_a_second_server_on_the_same_home_is_refused(server):
    with pytest.raises(AssertionError, match="in use by another server"):
        RunningServer(server.home)
