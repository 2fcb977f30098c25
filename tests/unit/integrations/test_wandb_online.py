"""What the service of Weights & Biases gets of a job with a key, through its own library."""

import subprocess
import sys
from ipaddress import ip_network

import psutil
import pytest

from running_server import wait_for
from tunesmith.access.hosts import host_of
from tunesmith.integrations import Wish
from tunesmith.integrations.wandb import service_of
from tunesmith.integrations.wandb.orders import Begin
from tunesmith.spec.lifecycle import State
from wandb_server import WandbServer

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def service():
    server = WandbServer()
    yield server
    server.stop()


@pytest.fixture
def teller(tracked):
    feeder = tracked.feeder("wandb")
    yield feeder
    feeder.stop()


def submitted(tracked, service):
    settings = {"project": "tests", "name": "my run", "entity": None, "tags": ["a"]}
    return tracked.submit(Wish("wandb", settings, "integrations.wandb", {"api_key": KEY, "base_url": service.url}))


def ended(tracked, job):
    return lambda: tracked.standing(job, "wandb").state in ("done", "failed", "incomplete")


def steps(service):
    [rows] = service.rows.values()
    return [rows[place]["train/global_step"] for place in sorted(rows)]


def test_a_run_is_there_while_its_job_runs_and_has_everything_at_its_end(tracked, teller, service):
    job = submitted(tracked, service)
    tracked.happen(job, "state", state=State.RUNNING)
    for step in (1, 2, 3):
        tracked.step(job, step, loss=step / 2)
    tracked.run_until(teller, lambda: tracked.standing(job, "wandb").url)
    assert tracked.job(job).tracking_url == tracked.standing(job, "wandb").url
    assert "/acme/tests/runs/" in tracked.job(job).tracking_url
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    assert tracked.standing(job, "wandb").state == "done"
    assert steps(service) == [1, 2, 3]
    assert list(service.ended.values()) == [0]
    assert tracked.known_secrets() == []
    assert not list(tracked.folder.rglob("*.wandb"))


def test_a_sender_that_is_replaced_goes_on_with_the_same_run_and_misses_no_step(tracked, teller, service):
    job = submitted(tracked, service)
    for step in (1, 2, 3):
        tracked.step(job, step)
    tracked.run_until(teller, lambda: service.rows and len(next(iter(service.rows.values()))) == 3)
    teller.stop()
    again = tracked.feeder("wandb")
    tracked.forget(job, "wandb", cursor=0)
    tracked.step(job, 4)
    tracked.end(job)
    tracked.run_until(again, ended(tracked, job))
    again.stop()
    assert len(service.runs) == 1
    assert steps(service) == [1, 2, 3, 4]
    assert [place for _, place in service.given] == [0, 1, 2, 3], "a row that is there is not sent again"
    assert list(service.ended.values()) == [0]


def test_answers_and_pictures_come_along(tracked, teller, service):
    job = submitted(tracked, service)
    tracked.step(job, 1)
    tracked.sample(job, 1, text="<b> & 你好")
    picture = tracked.draw(job, 2)
    tracked.end(job)
    tracked.run_until(teller, ended(tracked, job))
    [rows] = service.rows.values()
    shown = {row["train/global_step"]: row["sample/0"] for row in rows.values() if "sample/0" in row}
    assert (shown[1]["_type"], shown[2]["_type"], shown[2]["caption"]) == ("html-file", "image-file", "Grüße?")
    assert service.files[shown[2]["path"]] == picture
    page = service.files[shown[1]["path"]].decode()
    assert "Grüße?" in page
    assert "&lt;b&gt; &amp; 你好" in page


def test_a_service_that_is_away_in_between_misses_no_row(tracked, teller, service):
    job = submitted(tracked, service)
    tracked.step(job, 1)
    tracked.run_until(teller, lambda: service.rows)
    service.down = True
    for step in (2, 3):
        tracked.step(job, step)
    tracked.end(job)
    asked = len(service.asked_while_down)
    tracked.run_until(teller, lambda: len(service.asked_while_down) > asked + 2)
    assert not ended(tracked, job)()
    service.down = False
    tracked.run_until(teller, ended(tracked, job))
    assert tracked.standing(job, "wandb").state == "done"
    assert steps(service) == [1, 2, 3]


def test_a_run_whose_rows_the_service_refuses_is_not_said_to_be_told(tracked, teller, service):
    job = submitted(tracked, service)
    tracked.step(job, 1)
    tracked.run_until(teller, lambda: service.rows)
    service.full = True
    tracked.step(job, 2)
    tracked.end(job)
    tracked.run_until(teller, lambda: tracked.standing(job, "wandb").error)
    assert tracked.standing(job, "wandb").error == "W&B has refused 1 rows of the history."
    service.full = False
    tracked.run_until(teller, ended(tracked, job))
    assert tracked.standing(job, "wandb").state == "done"
    assert steps(service) == [1, 2]


def test_a_key_goes_to_the_host_that_it_is_bound_to(tracked):
    assert service_of({"api_key": KEY, "base_url": "https://wandb.example.org"}) == "https://wandb.example.org"
    secret = tracked.secrets.create("acme", name="wandb", purpose="wandb", fields={"api_key": KEY})
    address = service_of({"api_key": KEY})
    tracked.secrets.reveal("acme", secret.id, purpose="wandb", host=host_of(address, param="base_url"))


def test_a_key_stands_in_no_file(tracked, teller, service):
    job = submitted(tracked, service)
    tracked.step(job, 1)
    tracked.run_until(teller, lambda: tracked.standing(job, "wandb").url)
    files = [file for file in tracked.folder.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_addresses_that_the_operator_does_not_allow_are_not_reached(tracked, service):
    tracked.limits = tracked.limits.model_copy(update={"allowed_networks": ()})
    feeder = tracked.feeder("wandb")
    job = submitted(tracked, service)
    tracked.step(job, 1)
    tracked.run(feeder, 1)
    assert "not public" in tracked.standing(job, "wandb").error
    assert service.asked == []
    feeder.stop()


def test_a_sender_whose_server_is_gone_waits_for_no_answer_and_leaves_nothing_running(service, tmp_path):
    service.down = True
    begin = Begin(
        run="r", project="tests", entity=None, name="n", tags=(), config={}, folder=str(tmp_path), key=KEY,
        base_url=service.url, allowed_networks=(ip_network("127.0.0.0/8"),),
    )  # fmt: skip
    sender = subprocess.Popen(
        [sys.executable, "-m", "tunesmith.integrations.wandb.sender"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    sender.stdin.write(begin.model_dump_json() + "\n")
    sender.stdin.flush()
    wait_for(lambda: service.asked_while_down, 60)
    family = psutil.Process(sender.pid).children(recursive=True)
    assert family
    sender.stdout.close()
    sender.stdin.close()
    assert sender.wait(20) == 0
    assert psutil.wait_procs(family, 20)[1] == []
    service.down = False
    assert service.ended == {}
