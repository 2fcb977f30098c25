"""Credentials that come in through every door, and every place where one of them could come out."""

import base64
import json
import os
import signal
import sqlite3
import threading
from urllib.parse import quote

import httpx2
import psutil
import pytest

from hub_server import HubServer
from mlflow_server import MlflowProcess
from receiver import Receiver
from rows import chat_rows
from running_server import RunningServer, wait_for
from s3_server import S3Server
from signed_tokens import AUDIENCE, ISSUER, SECRET, token
from wandb_server import WandbServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NATIVE = "/tunesmith/v1"
CANARIES = {
    "password of MLflow": 'canary "1" of/mlflöw',
    "user of MLflow": "canary-2-user",
    "token of MLflow": "canary-3-of-mlflow",
    "key of W&B": "cafe4" * 8,
    "other key of W&B": "cafe5" * 8,
    "token of the hub": HubServer.WRITERS_TOKEN,
    "path of a webhook": "canary-6-path",
    "path of a job's webhook": "canary-7-path",
    "key of S3": S3Server.SECRET_ACCESS_KEY,
    "refused": "canary-8-refused",
}


class Watched:
    """A server of tenants who show a key, and everything that it ever answered."""

    def __init__(self, home, **settings):
        self.server = RunningServer(
            home,
            TUNESMITH_AUTHENTICATION="required",
            TUNESMITH_TOKEN_SECRET=SECRET.decode(),
            TUNESMITH_TOKEN_ISSUER=ISSUER,
            TUNESMITH_TOKEN_AUDIENCE=AUDIENCE,
            TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8",
            TUNESMITH_WARM_WORKERS="false",
            **settings,
        )
        self.answers = []
        self.canaries = dict(CANARIES)
        owner = {"Authorization": f"Bearer {token(org='canaries', role='owner')}"}
        made = httpx2.post(
            f"{self.server.url}{NATIVE}/keys", headers=owner, json={"name": "robot", "role": "owner"}
        ).json()
        self.headers = {"Authorization": f"Bearer {made['key']}"}
        self.canaries["API key"] = made["key"]

    def ask(self, method, path, **request):
        """What is answered, kept to be searched."""
        answer = httpx2.request(method, self.server.url + path, headers=self.headers, timeout=60, **request)
        self.answers.append(f"{method} {path}: {answer.text} {answer.headers}")
        return answer

    def post(self, path, **request):
        answer = self.ask("POST", path, **request)
        assert answer.is_success, answer.text
        return answer.json()

    def shown_once(self, path, **body):
        """What makes a secret and shows it, this once."""
        answer = httpx2.post(self.server.url + path, headers=self.headers, json=body).raise_for_status()
        return answer.json()

    def job(self, id):
        return self.ask("GET", f"{NATIVE}/jobs/{id}").json()

    def ended(self, id, state):
        done = wait_for(lambda: (now := self.job(id))["state"] in ("succeeded", "failed", "cancelled") and now)
        assert done["state"] == state, done["error"]


def guises(secret):
    """A secret as it is, and as it would look where somebody writes it otherwise."""
    raw = secret.encode()
    yield from (raw, base64.b64encode(raw).rstrip(b"=")[:-1], raw.hex().encode(), raw[::-1])
    yield from (quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode(), repr(secret)[1:-1].encode())


def assert_nowhere(canaries, places):
    """`places` are contents by where they were found."""
    found = [
        (name, where)
        for name, secret in canaries.items()
        for guise in set(guises(secret))
        for where, content in places.items()
        if guise in content
    ]
    assert found == []


def files_below(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(home):
    """Every table but that of the secrets, which are sealed."""
    with sqlite3.connect(f"file:{home / 'tunesmith.db'}?mode=ro", uri=True) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        assert {"jobs", "events", "feeds", "secrets"} <= set(names)
        return {name: repr(database.execute(f"select * from {name}").fetchall()).encode() for name in names}


def processes_of(server):
    """Command lines and environments of everything that the server started."""
    told = b""
    for each in psutil.Process(server.process.pid).children(recursive=True):
        try:
            told += repr((each.cmdline(), each.environ())).encode()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return told


@pytest.fixture
def services(tmp_path):
    """Real services, or stand-ins of them, that take what they are sent."""
    for name in ("mlflow", "s3"):
        (tmp_path / name).mkdir()
    wandb, receiver, named = WandbServer(), Receiver("/canary-6-path"), Receiver("/canary-7-path")
    with MlflowProcess(tmp_path / "mlflow") as mlflow, HubServer() as hub, S3Server(tmp_path / "s3") as bucket:
        yield {"mlflow": mlflow, "hub": hub, "s3": bucket, "wandb": wandb, "receiver": receiver, "named": named}
    for each in (wandb, receiver, named):
        each.stop()


@pytest.fixture
def watched(write_home, tmp_path, services):
    watched = Watched(write_home(tmp_path / "home"), TUNESMITH_HUB_URL=services["hub"].url)
    yield watched
    watched.server.stop()


def nebius(services, file, **changes):
    mlflow = {
        "tracking_uri": services["mlflow"].url,
        "experiment_name": "canaries",
        "username": CANARIES["user of MLflow"],
        "password": CANARIES["password of MLflow"],
        "certificate_file": "",
    }
    return {
        "model": "tiny",
        "training_file": file,
        "hyperparameters": {"n_epochs": 1, "lora": True, "packing": False},
        "integrations": [
            {"type": "mlflow", "mlflow": mlflow},
            {"type": "wandb", "wandb": {"project": "canaries", "api_key": CANARIES["key of W&B"]}},
            {"type": "hf", "hf": {"output_repo_name": "owner/canaries", "api_token": HubServer.WRITERS_TOKEN}},
        ],
        **changes,
    }


def native(services, **spec):
    return {
        "spec": {
            "model": {"base": "tiny", "dtype": "float32"},
            "data": {"train": {"address": "s3://rows/rows.jsonl", "secret": "bucket"}},
            "optimization": {"epochs": 1},
            **spec,
        },
        "integrations": {
            "mlflow": {"tracking_uri": services["mlflow"].url, "experiment_name": "canaries", "secret": "tracker"},
            "wandb": {"secret": "runs"},
            "hub": {"output_repo_name": "owner/native", "secret": "hub"},
        },
    }


def store(watched, services):
    """Secrets through the doors that take some by name."""
    host = {"host": services["mlflow"].url.removeprefix("http://")}
    for body in (
        {"name": "tracker", "purpose": "mlflow", "fields": {"token": CANARIES["token of MLflow"]}, **host},
        {"name": "bucket", "purpose": "s3", "fields": services["s3"].credentials},
        {
            "name": "runs",
            "purpose": "wandb",
            "fields": {"api_key": CANARIES["other key of W&B"], "base_url": services["wandb"].url},
        },
    ):
        watched.post(f"{NATIVE}/secrets", json=body)
    hub = {"purpose": "hub", "host": services["hub"].url.removeprefix("http://")}
    fields = {"token": HubServer.WRITERS_TOKEN}
    watched.post("/secret", json={"org": "canaries", "name": "hub", "fields": fields, **hub})


def refusals(services, file):
    """Requests with credentials that are refused, for all sorts of reasons."""
    secret, jobs = CANARIES["refused"], "/v1/fine_tuning/jobs"
    whole = nebius(services, file)
    mlflow = whole["integrations"][0]["mlflow"]
    named = {"model_name": "tiny", "dataset_version": "rows", "num_epochs": 1}
    yield jobs, {**whole, "model": "nonesuch"}
    yield jobs, {**whole, "hyperparameters": {"n_epochs": -1}}
    misspelt = {name: value for name, value in mlflow.items() if name != "password"} | {"pass_word": secret}
    yield jobs, {**whole, "integrations": [{"type": "mlflow", "mlflow": misspelt}]}
    yield jobs, {**whole, "integrations": [{"type": "mlflow", "mlflow": {**mlflow, "password": [secret]}}]}
    yield jobs, {**whole, "integrations": [{"type": secret}]}
    yield jobs, {**whole, "integrations": secret}
    yield jobs, {**whole, "integrations": [{"type": "wandb", "wandb": {"project": "p", "api_key": {secret: secret}}}]}
    yield jobs, {**whole, "integrations": [{"type": "mlflow", "mlflow": {**mlflow, "tracking_uri": "http://10.0.0.1"}}]}
    leads = f"http://me:{secret}@mlflow.example.org"
    yield jobs, {**whole, "integrations": [{"type": "mlflow", "mlflow": {**mlflow, "tracking_uri": leads}}]}
    yield jobs, {**whole, "from_checkpoint": {"type": "hf", "repo": "a/b", "token": [secret]}}
    yield jobs, {**whole, "from_checkpoint": {"type": "hf", "repo": "no/where", "token": secret}}
    yield f"{NATIVE}/jobs", native(services, model={"base": "tiny", "secret": secret})
    yield f"{NATIVE}/jobs", {**native(services), "integrations": {"wandb": {"secret": [secret]}}}
    yield f"{NATIVE}/jobs", {**native(services), "integrations": {"wandb": {"api_key": secret}}}
    yield f"{NATIVE}/jobs", native(services, data={"train": {"address": f"https://me:{secret}@example.org/rows.jsonl"}})
    yield f"{NATIVE}/jobs", native(services, data={"train": {"address": f"ftp://example.org/?signature={secret}"}})
    for fields in (secret, [secret], {"token": [secret]}, {"pass_word": secret}, {}):
        yield f"{NATIVE}/secrets", {"name": "n", "purpose": "mlflow", "fields": fields}
        yield "/secret", {"org": "canaries", "name": "n", "purpose": "mlflow", "fields": fields}
    yield f"{NATIVE}/secrets", {"name": "n", "purpose": "wandb", "fields": {"api_key": secret, "base_url": secret}}
    yield f"{NATIVE}/webhooks", {"url": f"http://10.0.0.1/{secret}"}
    yield f"{NATIVE}/webhooks", {"url": {"secret": secret}}
    yield "/v1/webhook_endpoints", {"url": f"ftp://{secret}", "name": "n", "event_types": ["fine_tuning.job.failed"]}
    for url in (f"http://me:{secret}@example.org/", f"http://10.0.0.1/{secret}", secret, [secret]):
        yield "/train", {**named, "webhook_url": url}
        yield "/api/v1/training", {"trigger_word": "sks", "webhook_url": url}
    yield "/train", {**named, "num_epochs": 0, "webhook_url": f"{services['named'].url}/{secret}"}
    yield "/api/v1/training", {"trigger_word": "sks", "source_secret": secret, "source_images": ["s3://a/b.png"]}
    yield "/api/v1/training", {"trigger_word": "sks", "source_images": [f"ftp://a/b.png?X-Amz-Signature={secret}"]}


def _refuse_all(watched, services, file):
    for path, body in refusals(services, file):
        answer = watched.ask("POST", path, json=body)
        assert 400 <= answer.status_code < 500, (path, body, answer.text)
    cut = json.dumps(nebius(services, file))[:-40].encode()
    sent = {**watched.headers, "content-type": "application/json"}
    broken = httpx2.post(f"{watched.server.url}/v1/fine_tuning/jobs", headers=sent, content=cut)
    assert broken.status_code == 400
    watched.answers.append(broken.text)
    wrong = {"Authorization": f"Bearer {CANARIES['refused']}"}
    refused = httpx2.get(f"{watched.server.url}{NATIVE}/jobs", headers=wrong)
    assert refused.status_code == 401
    watched.answers.append(refused.text)


def _failed(watched, services):
    """A job whose worker is killed until the server gives it up."""
    endless = {"optimization": {"max_steps": 20_000}, "cadence": {"save_steps": 20_000}}
    id = watched.post(f"{NATIVE}/jobs", json=native(services, **endless))["id"]
    for attempt in (1, 2, 3):
        wait_for(lambda attempt=attempt: (now := watched.job(id))["attempts"] == attempt and now["step"])
        [worker] = wait_for(watched.server.worker_pids)
        os.kill(worker, signal.SIGKILL)
    watched.ended(id, "failed")
    return id


def _look_at(watched, of_jobs):
    for job in of_jobs:
        for part in ("", "/events", "/log", "/metrics", "/artifacts", "/recipes/trl", "/integrations", "/receipt"):
            watched.ask("GET", f"{NATIVE}/jobs/{job}{part}")
        watched.ask("GET", f"/v1/fine_tuning/jobs/ftjob-{job}")
        watched.ask("GET", f"/v1/fine_tuning/jobs/ftjob-{job}/events")
    for path in ("secrets", "webhooks", "webhook-deliveries", "keys", "jobs", "models"):
        watched.ask("GET", f"{NATIVE}/{path}")


def test_what_came_in_as_a_secret_comes_out_nowhere(watched, services, tmp_path):
    services["s3"].put("rows", "rows.jsonl", chat_rows())
    rows = {"file": ("rows.jsonl", chat_rows())}
    file = watched.post("/v1/files", data={"purpose": "fine-tune"}, files=rows)["id"]
    watched.post(f"{NATIVE}/datasets", data={"name": "rows"}, files=rows)
    store(watched, services)
    webhook = watched.shown_once(f"{NATIVE}/webhooks", url=services["receiver"].hook)
    watched.canaries["secret of a webhook"] = webhook["secret"]
    watched.canaries["key in the secret of a webhook"] = webhook["secret"].removeprefix("whsec_")

    _refuse_all(watched, services, file)
    done = watched.post("/v1/fine_tuning/jobs", json=nebius(services, file))["id"].removeprefix("ftjob-")
    told = processes_of(watched.server)
    watched.ended(done, "succeeded")
    told += processes_of(watched.server)
    other = watched.post(f"{NATIVE}/jobs", json=native(services))["id"]
    watched.ended(other, "succeeded")
    trained = {"model_name": "tiny", "dataset_version": "rows", "num_epochs": 1, "webhook_url": services["named"].hook}
    of_training = watched.post("/train", json=trained)["job_id"].replace("-", "")
    watched.ended(of_training, "succeeded")
    failed = _failed(watched, services)
    long = nebius(services, file, hyperparameters={"n_epochs": 20, "batch_size": 1, "lora": True, "packing": False})
    cancelled = watched.post("/v1/fine_tuning/jobs", json=long)["id"].removeprefix("ftjob-")
    wait_for(lambda: watched.job(cancelled)["step"])
    told += processes_of(watched.server)
    watched.post(f"{NATIVE}/jobs/{cancelled}/cancel")
    watched.server.kill()
    watched.server.restart()
    watched.ended(cancelled, "cancelled")
    of_jobs = (done, other, of_training, failed, cancelled)

    reached = (other, of_training, failed)  # the others' keys are for the service itself

    def has_told(job):
        found = watched.ask("GET", f"{NATIVE}/jobs/{job}/integrations").json()["data"]
        return all(each["state"] == "done" for each in found if each["kind"] != "wandb" or job in reached)

    wait_for(lambda: all(has_told(job) for job in of_jobs))
    wait_for(lambda: services["receiver"].messages and services["named"].messages)
    _look_at(watched, of_jobs)
    wandb = services["wandb"]
    repositories = services["hub"].repositories.values()
    places = {
        **{f"answer {number}": answer.encode() for number, answer in enumerate(watched.answers)},
        **files_below(watched.server.home),
        **{name: rows for name, rows in rows_of(watched.server.home).items() if name != "secrets"},
        **files_below(tmp_path / "mlflow"),
        "standard error": "".join(watched.server.stderr).encode(),
        "processes": told,
        "messages": b"".join(each.body for each in (*services["receiver"].messages, *services["named"].messages)),
        "W&B": repr((wandb.rows, wandb.runs, wandb.files, wandb.asked)).encode(),
        "hub": repr([each.commits for each in repositories]).encode(),
    }
    assert len(repositories) == 2
    assert len(places) > 100
    assert_nowhere(watched.canaries, places)


def test_credentials_of_a_request_that_a_crash_cut_off_are_gone_after_the_start(watched, services):
    rows = {"file": ("rows.jsonl", chat_rows())}
    file = watched.post("/v1/files", data={"purpose": "fine-tune"}, files=rows)["id"]

    def kept():
        with sqlite3.connect(f"file:{watched.server.home / 'tunesmith.db'}?mode=ro", uri=True) as database:
            return [database.execute(f"select count(*) from {name}").fetchone()[0] for name in ("secrets", "jobs")]

    def submit():
        with pytest.raises(httpx2.TransportError):
            watched.post("/v1/fine_tuning/jobs", json=nebius(services, file))

    request = threading.Thread(target=submit)
    request.start()
    wait_for(lambda: kept() == [3, 0])
    watched.server.kill()
    request.join()
    assert kept() == [3, 0]
    watched.server.restart()
    assert kept() == [0, 0]
