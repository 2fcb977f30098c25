"""What the library of Weights & Biases writes for a job without a key, and that nobody waits for it."""

import json
import os
import signal

import psutil
import pytest

import wandb_files
from running_server import wait_for
from tunesmith.integrations import Wish
from tunesmith.spec.lifecycle import State

pytestmark = pytest.mark.slow

CANARY = "c" * 40  # of the length of a key


def wish(**credentials):
    settings = {"project": "tests", "name": "my run", "entity": None, "tags": ["ä", "b"]}
    return Wish("wandb", settings, "integrations.0.wandb", credentials)


@pytest.fixture
def teller(tracked):
    feeder = tracked.feeder("wandb")
    yield feeder
    feeder.stop()


def ended(tracked, job):
    return lambda: tracked.standing(job, "wandb").state in ("done", "failed", "incomplete")


def records(tracked, job):
    return wandb_files.records(tracked.folder / job.id)


def history(tracked, job, figure="train/loss"):
    return wandb_files.history(tracked.folder / job.id, figure)


def senders():
    """Processes that hold the library for this one."""
    mine = psutil.Process().children(recursive=True)
    return [each for each in mine if "tunesmith.integrations.wandb.sender" in each.cmdline()]


def test_without_a_key_the_run_is_written_to_files_that_the_library_can_read(tracked, teller):
    job = tracked.submit(wish())
    tracked.happen(job, "state", state=State.RUNNING)
    for step in (1, 2, 3):
        tracked.step(job, step, loss=step / 2)
    tracked.evaluate(job, 3, loss=7)
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    assert tracked.standing(job, "wandb").state == "done"
    assert history(tracked, job) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert history(tracked, job, "eval/loss") == [(3, 7.0)]
    [run] = [each.run for each in records(tracked, job) if each.WhichOneof("record_type") == "run"][:1]
    assert (run.project, run.display_name, list(run.tags)) == ("tests", "my run", ["ä", "b"])
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["optimization"]["learning_rate"] == 0.001
    assert senders() == []


def test_answers_and_pictures_are_among_the_files(tracked, teller):
    job = tracked.submit(wish())
    tracked.sample(job, 1)
    picture = tracked.draw(job, 2)
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    assert history(tracked, job, "sample/0/_type") == [(1, "html-file"), (2, "image-file")]
    media = {file.suffix: file.read_bytes() for file in tracked.folder.rglob("media/*/sample/*")}
    assert media[".png"] == picture
    assert "Ja, 你好" in media[".html"].decode()


def test_nothing_of_this_machine_becomes_part_of_a_run(tracked, teller, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    monkeypatch.setenv("MY_PASSWORD", CANARY)
    job = tracked.submit(wish())
    tracked.step(job, 1)
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    for file in (tracked.folder / job.id).rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert CANARY.encode() not in content, file
            assert os.uname().nodename.encode() not in content, file


@pytest.mark.parametrize("times", [1, 3])
def test_a_sender_that_is_killed_is_replaced_and_every_row_is_there_once(tracked, teller, times):
    job = tracked.submit(wish())
    step = 0
    for _ in range(times):
        for _ in range(5):
            step += 1
            tracked.step(job, step)
        told_at = tracked.standing(job, "wandb").told_at
        tracked.run_until(teller, lambda told_at=told_at: tracked.standing(job, "wandb").told_at != told_at)
        [sender] = senders()
        sender.kill()
        sender.wait()
    tracked.step(job, step + 1)
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    assert [each for each, _ in history(tracked, job)] == list(range(1, step + 2))


def test_a_server_that_is_started_again_begins_the_files_anew(tracked, teller):
    job = tracked.submit(wish())
    tracked.step(job, 1)
    tracked.run_until(teller, lambda: tracked.standing(job, "wandb").told_at)
    teller.stop()
    tracked.step(job, 2)
    tracked.end(job)
    again = tracked.feeder("wandb")
    tracked.run_until(again, ended(tracked, job))
    again.stop()
    assert [step for step, _ in history(tracked, job)] == [1, 2]


def test_a_sender_that_does_not_answer_holds_nobody_up_and_is_removed(tracked, teller):
    job = tracked.submit(wish())
    tracked.step(job, 1)
    tracked.run_until(teller, lambda: tracked.standing(job, "wandb").told_at)
    [sender] = senders()
    sender.send_signal(signal.SIGSTOP)
    for step in range(2, 5000):
        tracked.step(job, step)
    teller.tick()
    teller.join()  # returns
    teller.stop()
    wait_for(lambda: senders() == [])


def test_a_job_that_never_ran_starts_no_process(tracked, teller):
    job = tracked.submit(wish())
    tracked.end(job, State.CANCELLED)
    tracked.run_until(teller, ended(tracked, job))
    assert not tracked.folder.exists()


def test_the_organisations_stored_key_counts_where_none_comes_along(tracked):
    assert tracked.feed(tracked.submit(wish()), "wandb").secret_id is None
    stored = tracked.secrets.create("acme", name="wandb", purpose="wandb", fields={"api_key": CANARY})
    job = tracked.submit(wish())
    assert tracked.feed(job, "wandb").secret_id == stored.id
    own = tracked.feed(tracked.submit(wish(api_key="k" * 40)), "wandb").secret_id
    assert own not in (None, stored.id)
