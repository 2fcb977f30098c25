"""Jobs with every integration at once, whose receivers and trackers fail in every way while the server is killed."""

import os
import signal
from dataclasses import dataclass, field

import openai
import pytest
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wandb_files
from hub_server import HubServer
from mlflow_server import MlflowProcess
from receiver import Receiver, Slow, answering, lying, redirecting, resetting
from rows import chat_rows
from running_server import RunningServer, wait_for
from tunesmith.integrations.webhook.catalogue import EVENTS
from wandb_server import WandbServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NATIVE = "/tunesmith/v1"
KEY = "0123456789abcdef" * 2 + "01234567"
STEPS = 120
SPEC = {
    "model": {"base": "tiny", "dtype": "float32"},
    "data": {"train": {"dataset": "rows"}, "validation": {"dataset": "others"}},
    "adapter": {"rank": 4, "dropout": 0.1},
    "optimization": {"batch_size": 2, "max_steps": STEPS, "learning_rate": 0.001},
    "cadence": {"save_steps": 20, "eval_steps": 40},
    "sampling": {"prompts": ["What comes after 3?", "And after 4?"], "every": 40, "max_new_tokens": 4},
}

# So slow that a server that was killed is there again before it ends.
SLOW = {**SPEC, "optimization": {**SPEC["optimization"], "batch_size": 24, "micro_batch_size": 1}}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    with MlflowProcess(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture
def wandb():
    server = WandbServer()
    yield server
    server.stop()


@pytest.fixture
def server(write_home, tmp_path, hub, mlflow, wandb):
    server = RunningServer(
        write_home(tmp_path / "home"),
        TUNESMITH_HUB_URL=hub.url,
        TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8",
        TUNESMITH_WARM_WORKERS="false",
    )
    for name, count in (("rows", 24), ("others", 4)):
        rows = {"file": ("rows.jsonl", chat_rows(count))}
        server.http.post(f"{NATIVE}/datasets", data={"name": name}, files=rows).raise_for_status()
    for name, purpose, fields, host in (
        ("mine", "mlflow", {"token": "t"}, mlflow.url),
        ("mine-too", "wandb", {"api_key": KEY, "base_url": wandb.url}, None),
        ("hub", "hub", {"token": HubServer.WRITERS_TOKEN}, hub.url),
    ):
        body = {"name": name, "purpose": purpose, "fields": fields}
        bound = {"host": host.removeprefix("http://")} if host else {}
        server.http.post(f"{NATIVE}/secrets", json={**body, **bound}).raise_for_status()
    yield server
    server.stop()


@dataclass
class Ear:
    """A receiver with a webhook of its own, which checks every message as it comes."""

    receiver: Receiver = field(default_factory=Receiver)
    id: str = ""
    secret: str = ""
    refused: list = field(default_factory=list)

    def listen(self, server, fault, times):
        """Make the webhook; the first message is not taken before so many tries have met the fault."""
        request = {"url": self.receiver.hook, "events": EVENTS}
        made = server.http.post(f"{NATIVE}/webhooks", json=request).raise_for_status().json()
        self.id, self.secret = made["id"], made["secret"]
        left = [fault] * times

        def take(handler):
            message = next(
                each for each in reversed(self.receiver.messages) if each.id == handler.headers["webhook-id"]
            )
            try:
                Verifier(self.secret).verify(message.body, message.headers)
                openai.OpenAI(api_key="any").webhooks.unwrap(message.body, message.headers, secret=self.secret)
            except (WebhookVerificationError, openai.InvalidWebhookSignatureError) as error:
                self.refused.append(error)
            is_first = message.id == self.receiver.messages[0].id
            (left.pop(0) if left and is_first else answering(204))(handler)

        self.receiver.plan = take
        return self

    def told(self, job):
        """Ids of the messages about a job as they came, those that came again right behind themselves once."""
        ids = [each.id for each in self.receiver.messages if each.json["data"]["id"] == f"ftjob-{job}"]
        return [id for place, id in enumerate(ids) if place == 0 or ids[place - 1] != id]


@pytest.fixture
def ears():
    made = {name: Ear() for name in ("healthy", "slow", "lying", "redirecting", "resetting", "broken", "gone")}
    yield made
    for ear in made.values():
        ear.receiver.stop()


def job_of(server, id):
    return server.http.get(f"{NATIVE}/jobs/{id}").json()


def submit(server, **body):
    answer = server.http.post(f"{NATIVE}/jobs", json={"spec": SPEC, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def succeeded(server, id):
    done = wait_for(lambda: (now := job_of(server, id))["state"] in ("succeeded", "failed") and now, 300)
    assert done["state"] == "succeeded", done["error"]
    return done


def curve(server, id, part="training"):
    points = server.http.get(f"{NATIVE}/jobs/{id}/metrics").json()[part]
    return [(point["step"], point["loss"]) for point in points]


def standing(server, id):
    found = server.http.get(f"{NATIVE}/jobs/{id}/integrations").json()["data"]
    return {each["kind"]: each for each in found}


def deliveries(server, **params):
    found = server.http.get(f"{NATIVE}/webhook-deliveries", params={"limit": 1000, **params}).json()["data"]
    return found[::-1]


def is_told(server, id):
    return all(each["state"] == "done" for each in standing(server, id).values())


def is_delivered(server, ear, *jobs):
    def all_of(job):
        found = deliveries(server, webhook=ear.id, job=job)
        ends = [each for each in found if each["event"] == "fine_tuning.job.succeeded"]
        return ends and all(each["state"] == "delivered" for each in found)

    return all(all_of(job) for job in jobs)


def kill_at(server, job, step):
    """Kill the server when a job has come so far, and start another one."""
    wait_for(lambda: (now := job_of(server, job))["state"] == "running" and now["step"] >= step)
    server.kill()
    server.restart()


def test_nobody_misses_anything_when_all_fail_and_the_server_is_killed_five_times(server, mlflow, hub, wandb, ears):
    alone = submit(server, spec=SLOW)
    succeeded(server, alone)
    listening = {
        "healthy": (answering(204), 0),
        "slow": (Slow(), 1),
        "lying": (lying, 1),
        "redirecting": (redirecting("/elsewhere"), 1),
        "resetting": (resetting, 1),
        "broken": (answering(500), 9),
        "gone": (answering(410), 1),
    }
    for name, (fault, times) in listening.items():
        ears[name].listen(server, fault, times)
    named = Receiver(path="/hook-of-one-job")
    named.plan = resetting
    job = submit(
        server,
        spec=SLOW,
        integrations={
            "mlflow": {"tracking_uri": mlflow.url, "experiment_name": "killed", "secret": "mine"},
            "wandb": {"project": "tests", "secret": "mine-too"},
            "hub": {"output_repo_name": "owner/all", "secret": "hub"},
        },
    )
    train = {"model_name": "tiny", "dataset_version": "rows", "num_epochs": 1, "webhook_url": named.hook}
    other = server.http.post("/train", json=train).raise_for_status().json()["job_id"].replace("-", "")
    hub.down = True

    kill_at(server, job, 5)
    mlflow.stop()
    kill_at(server, job, 20)
    [worker] = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    wandb.down = True
    wait_for(lambda: job_of(server, job)["attempts"] == 2)
    kill_at(server, job, 40)
    kill_at(server, job, 60)
    mlflow.start()
    wandb.down = False
    done = succeeded(server, job)
    server.kill()
    server.restart()
    hub.down = False
    named.plan = answering(204)

    assert done["attempts"] == 2
    assert curve(server, job) == curve(server, alone)
    assert curve(server, job, "validation") == curve(server, alone, "validation")
    assert len(curve(server, job)) == STEPS
    succeeded(server, other)
    wait_for(lambda: is_told(server, job) and is_told(server, other), 240)
    _hear_of_both(server, ears, job, other)
    assert [each.json["status"] for each in named.messages][-1] == "completed"
    assert len({each.id for each in named.messages}) == 1
    named.stop()
    _has_all(mlflow, "killed", server, job)
    _is_on_the_hub(hub)
    _online(wandb, server, job)
    assert wandb_files.history(server.home / "tracking" / other) == curve(server, other)
    for each in (job, other):
        folder = server.home / "tracking" / each / "tensorboard"
        points = EventAccumulator(str(folder), purge_orphaned_data=False).Reload().Scalars("train/loss")
        assert [(point.step, pytest.approx(point.value)) for point in points] == curve(server, each)


def _hear_of_both(server, ears, *jobs):
    """Every receiver but the one that is gone got every message at least once, in order, signed."""

    def tried_often():  # the schedule would take days: the rest of the nine failures is provoked by hand
        for each in deliveries(server, webhook=ears["broken"].id):
            if each["state"] == "pending" and each["attempts"] and each["attempts"][-1]["error"]:
                server.http.post(f"{NATIVE}/webhook-deliveries/{each['id']}/redeliver").raise_for_status()
        return is_delivered(server, ears["broken"], *jobs)

    wait_for(tried_often, 180)
    for name, ear in ears.items():
        assert ear.refused == [], name
        assert {path for path, _ in ear.receiver.requests} == {"/hook"}, name
        if name == "gone":
            assert len(ear.receiver.messages) == 1
            assert "410" in server.http.get(f"{NATIVE}/webhooks/{ear.id}").json()["disabled_because"]
            continue
        wait_for(lambda ear=ear: is_delivered(server, ear, *jobs), 180)
        for job in jobs:
            found = deliveries(server, webhook=ear.id, job=job)
            told = ear.told(job)
            if name == "broken":  # what is sent by hand goes beside the order, and may come behind what followed it
                told = list(dict.fromkeys(told))
            assert told == [each["id"] for each in found], name
            assert _is_a_life([each["event"].rpartition(".")[2] for each in found]), name
    broken = ears["broken"].receiver.messages
    assert sum(each.id == broken[0].id for each in broken) >= 10
    *tries, last = [each["status"] for each in deliveries(server, webhook=ears["broken"].id)[0]["attempts"]]
    assert (set(tries), last) == ({500}, 204)
    slow = ears["slow"].receiver.messages
    assert sum(each.id == slow[0].id for each in slow) > 1
    tries = deliveries(server, webhook=ears["slow"].id)[0]["attempts"]
    assert all("10 s" in each["error"] for each in tries[:-1]), "unless the server died meanwhile"


def _is_a_life(names):
    return names[0] == "started" and names[-1] == "succeeded" and set(names[1:-1]) <= {"started", "checkpoint"}


def _has_all(mlflow, experiment, server, job):
    """One run with every figure once, and with what the job left."""
    [run] = mlflow.runs(experiment)
    assert run["info"]["status"] == "FINISHED"
    for figure, part in (("train/loss", "training"), ("eval/loss", "validation")):
        assert [(step, value) for step, value, _ in mlflow.history(run, figure)] == curve(server, job, part)
    for figure in ("train/learning_rate", "train/grad_norm", "train/num_tokens", "train/mean_token_accuracy"):
        assert [step for step, _, _ in mlflow.history(run, figure)] == list(range(1, STEPS + 1))
    samples = mlflow.file(run, "samples.jsonl").decode().splitlines()
    shown = server.http.get(f"{NATIVE}/jobs/{job}/samples").json()["data"]
    assert len(samples) == len(shown) > 4
    for name in ("spec.json", "receipt.json", "model/adapter_config.json", "model/adapter_model.safetensors"):
        assert mlflow.file(run, name)
    of_run = f"run_id = '{run['info']['run_id']}'"
    [version] = mlflow.ask("model-versions/search", filter=of_run)["model_versions"]
    assert version["name"] == f"ftjob-{job}"


def _is_on_the_hub(hub):
    repository = hub.repositories["model", "owner/all"]
    files = repository.commits[repository.revisions["main"]]
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(files)


def _online(wandb, server, job):
    """One run at the service, with every figure and sample once."""
    [rows] = wandb.rows.values()
    ordered = [rows[place] for place in sorted(rows)]
    assert [(row["train/global_step"], row["train/loss"]) for row in ordered if "train/loss" in row] == curve(
        server, job
    )
    assert [(row["train/global_step"], row["eval/loss"]) for row in ordered if "eval/loss" in row] == curve(
        server, job, "validation"
    )
    shown = [row["train/global_step"] for row in ordered if "sample/1" in row]
    assert shown == sorted(set(shown))
    assert list(wandb.ended.values()) == [0]


def test_what_is_away_for_the_whole_job_has_everything_within_a_minute_of_its_return(server, mlflow, wandb, ears):
    alone = submit(server)
    done = succeeded(server, alone)
    seconds = done["finished_at"] - done["started_at"]
    receiver = ears["healthy"].listen(server, answering(204), 0).receiver
    takes, receiver.plan = receiver.plan, answering(503)
    mlflow.stop()
    wandb.down = True
    job = submit(
        server,
        integrations={
            "mlflow": {"tracking_uri": mlflow.url, "experiment_name": "away", "secret": "mine"},
            "wandb": {"project": "tests", "secret": "mine-too"},
        },
    )
    done = succeeded(server, job)
    assert done["finished_at"] - done["started_at"] < 1.5 * seconds + 3
    assert curve(server, job) == curve(server, alone)
    wait_for(lambda: standing(server, job)["mlflow"]["state"] == "retrying")
    assert standing(server, job)["wandb"]["state"] != "done"
    assert wandb.rows == {}

    receiver.plan = takes
    wandb.down = False
    mlflow.start()
    wait_for(lambda: is_told(server, job), 60)
    _has_all(mlflow, "away", server, job)
    _online(wandb, server, job)
    for waiting in [each for each in deliveries(server, job=job) if each["state"] == "pending"]:
        server.http.post(f"{NATIVE}/webhook-deliveries/{waiting['id']}/redeliver").raise_for_status()
    wait_for(lambda: is_delivered(server, ears["healthy"], job), 60)
    assert ears["healthy"].told(job) == [each["id"] for each in deliveries(server, job=job)]
    assert ears["healthy"].refused == []


def test_the_official_client_unwraps_how_jobs_end(server, ears):
    ear = ears["healthy"].listen(server, answering(204), 0)
    endless = {**SPEC["optimization"], "max_steps": 20_000}
    long = {**SPEC, "optimization": endless, "cadence": {"save_steps": 20_000, "eval_steps": 20_000}, "sampling": None}
    ids = {}

    ids["failed"] = submit(server, spec=long)
    for attempt in (1, 2, 3):  # a third loss without a checkpoint is the last one
        wait_for(lambda attempt=attempt: (now := job_of(server, ids["failed"]))["attempts"] == attempt and now["step"])
        [worker] = wait_for(server.worker_pids)
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: job_of(server, ids["failed"])["state"] == "failed")

    ids["cancelled"] = submit(server, spec=long)
    wait_for(lambda: job_of(server, ids["cancelled"])["step"])
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", webhook_secret=ear.secret)
    assert client.fine_tuning.jobs.cancel(f"ftjob-{ids['cancelled']}").status == "cancelled"
    ids["succeeded"] = submit(server)
    succeeded(server, ids["succeeded"])

    def told():
        return {each.json["type"]: each for each in ear.receiver.messages}

    wait_for(lambda: "fine_tuning.job.succeeded" in told())
    for state, id in ids.items():
        message = told()[f"fine_tuning.job.{state}"]
        event = client.webhooks.unwrap(message.body, message.headers)
        assert type(event).__name__ == f"FineTuningJob{state.capitalize()}WebhookEvent"
        assert event.data.id == f"ftjob-{id}"
        assert client.fine_tuning.jobs.retrieve(event.data.id).status == state
