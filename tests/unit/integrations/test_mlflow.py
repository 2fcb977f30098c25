"""What a real MLflow server has of a job, also when it or the teller was away in between."""

import json

import httpx2
import pytest

from mlflow_server import MlflowProcess
from tunesmith.integrations import Wish
from tunesmith.integrations._parts import text_file
from tunesmith.spec.errors import AddressRefusedError, InvalidRequestError, SecretNotFoundError
from tunesmith.spec.lifecycle import State
from web_server import WebServer, reply

pytestmark = pytest.mark.slow

CANARY = "canary-of-mlflow"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with MlflowProcess(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def web():
    web = WebServer()
    yield web
    web.stop()


def wish(url, experiment="tests", **credentials):
    settings = {"tracking_uri": url, "experiment_name": experiment, "run_name": "my run", "tags": {"team": "höhe"}}
    return Wish("mlflow", settings, "integrations.0.mlflow", credentials)


def live(tracked, job, *, steps=5, loss=1.0):
    """A job's whole life: its figures and its end."""
    tracked.happen(job, "state", state=State.RUNNING)
    for step in range(1, steps + 1):
        tracked.step(job, step, loss=loss / step)
    tracked.evaluate(job, steps)
    tracked.sample(job, steps)
    tracked.end(job, with_model=True)


def told_all(tracked, job):
    return lambda: tracked.standing(job, "mlflow").state in ("done", "failed", "incomplete")


def test_a_run_has_what_a_job_was_made_with_its_figures_its_end_and_what_it_left(tracked, server):
    tracked.files = [text_file("adapter_config.json", "{}"), text_file("ä b.txt", "umlaut")]
    job = tracked.submit(wish(server.url, "whole life"), name="support/v:1")
    picture = tracked.draw(job, 2)
    live(tracked, job)
    tracked.run_until(tracked.feeder("mlflow"), told_all(tracked, job))
    standing = tracked.standing(job, "mlflow")
    assert (standing.state, standing.error) == ("done", None)
    [run] = server.runs("whole life")
    assert standing.url == tracked.job(job).tracking_url
    assert standing.url.endswith(f"/runs/{run['info']['run_id']}")
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == "my run"
    parameters = {each["key"]: each["value"] for each in run["data"]["params"]}
    assert parameters["optimization.learning_rate"] == "0.001"
    assert parameters["model.base"] == "m"
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert (tags["team"], tags["tunesmith.job"]) == ("höhe", job.id)
    points = server.history(run, "train/loss")
    assert [(step, value) for step, value, _ in points] == [(step, 1.0 / step) for step in range(1, 6)]
    assert [at for _, _, at in points] == sorted(at for _, _, at in points)
    assert [step for step, _, _ in server.history(run, "eval/loss")] == [5]
    assert server.history(run, "train/rewards/margins")[0][1] == 0.25
    assert json.loads(server.file(run, "spec.json"))["optimization"]["epochs"] == 1
    samples = [json.loads(line) for line in server.file(run, "samples.jsonl").splitlines()]
    assert [each["text"] for each in samples] == [None, "Ja, 你好"]
    assert server.file(run, "samples/2.png") == picture
    assert server.file(run, "model/adapter_config.json") == b"{}"
    assert server.file(run, "model/ä b.txt") == b"umlaut"
    [version] = server.ask("model-versions/search", filter=f"run_id = '{run['info']['run_id']}'")["model_versions"]
    assert (version["name"], version["version"]) == ("support-v-1", "1")


@pytest.mark.parametrize(
    ("state", "status"), [(State.FAILED, "FAILED"), (State.CANCELLED, "KILLED"), (State.RUNNING, "RUNNING")]
)
def test_a_run_ends_as_its_job_does(tracked, server, state, status):
    job = tracked.submit(wish(server.url, f"end {status}"))
    tracked.happen(job, "state", state=State.RUNNING)
    if state is not State.RUNNING:
        tracked.end(job, state)
    feeder = tracked.feeder("mlflow")
    for _ in range(5):
        tracked.run(feeder, 1)
    [run] = server.runs(f"end {status}")
    assert run["info"]["status"] == status
    assert ("end_time" in run["info"]) == (state is not State.RUNNING)


def test_a_teller_that_dies_before_it_remembers_what_it_told_tells_nothing_twice(tracked, server):
    job = tracked.submit(wish(server.url, "killed"))
    tracked.happen(job, "state", state=State.RUNNING)
    for step in range(1, 400):
        tracked.step(job, step)
        if step % 100 == 0:
            tracked.run(tracked.feeder("mlflow"), 1)
            tracked.forget(job, "mlflow", cursor=0, progress={}, url=None)
    tracked.end(job)
    tracked.run_until(tracked.feeder("mlflow"), told_all(tracked, job))
    [run] = server.runs("killed")
    assert [step for step, _, _ in server.history(run, "train/loss")] == list(range(1, 400))


def test_a_tracker_that_is_away_for_the_whole_job_has_everything_within_a_minute_of_its_return(tracked, server):
    server.stop()
    try:
        job = tracked.submit(wish(server.url, "away"))
        feeder = tracked.feeder("mlflow")
        live(tracked, job, steps=50)
        for _ in range(3):
            tracked.run(feeder, 3600)
            assert tracked.standing(job, "mlflow").state == "retrying"
        assert "does not answer" in tracked.standing(job, "mlflow").error
    finally:
        server.start()
    back = tracked.clock.ahead
    tracked.run_until(feeder, told_all(tracked, job))
    assert tracked.clock.ahead - back < 60
    assert tracked.standing(job, "mlflow").state == "done"
    [run] = server.runs("away")
    assert [step for step, _, _ in server.history(run, "train/loss")] == list(range(1, 51))


def test_steps_that_are_done_again_are_told_once(tracked, server):
    job = tracked.submit(wish(server.url, "again"))
    feeder = tracked.feeder("mlflow")
    for step in (1, 2, 3, 4):
        tracked.step(job, step, loss=step)
    tracked.run(feeder, 1)
    tracked.happen(job, "resumed", attempt=2, step=2)
    for step in (3, 4, 5):
        tracked.step(job, step, loss=10 * step, attempt=2)
    tracked.run(feeder, 1)
    [run] = server.runs("again")
    points = [(step, value) for step, value, _ in server.history(run, "train/loss")]
    assert points == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 50)]


def test_credentials_reach_the_server_and_are_forgotten_at_the_end(tracked, web):
    web.answers = {
        "/api/2.0/mlflow/experiments/get-by-name": lambda handler: reply(handler, 401, CANARY.encode()),
    }
    job = tracked.submit(wish(web.url, username="user", password=CANARY))
    feeder = tracked.feeder("mlflow")
    tracked.run(feeder)
    assert web.requests[0][1]["authorization"].startswith("Basic ")
    standing = tracked.standing(job, "mlflow")
    assert standing.state == "retrying"
    assert "401" in standing.error
    assert CANARY not in standing.model_dump_json()
    assert CANARY not in repr(wish(web.url, password=CANARY))
    assert len(tracked.known_secrets()) == 1
    tracked.end(job, State.CANCELLED)
    tracked.forget(job, "mlflow", cursor=10**6, due_at=0)
    tracked.run(feeder)
    assert tracked.known_secrets() == []


def test_a_server_that_leaves_files_to_its_clients_gets_everything_else(tracked, web):
    run = {"info": {"run_id": "r", "artifact_uri": "file:///somewhere/else"}}
    answers = {
        "experiments/get-by-name": {"experiment": {"experiment_id": "1"}},
        "runs/search": {},
        "runs/create": {"run": run},
        "runs/log-batch": {},
        "runs/update": {},
    }
    for path, body in answers.items():
        content = json.dumps(body).encode()
        web.answers[f"/api/2.0/mlflow/{path}"] = lambda handler, content=content: (
            handler.rfile.read(int(handler.headers.get("content-length", 0))),
            reply(handler, 200, content),
        )
    tracked.files = [text_file("adapter_config.json", "{}")]
    job = tracked.submit(wish(web.url))
    live(tracked, job)
    tracked.run_until(tracked.feeder("mlflow"), told_all(tracked, job))
    assert tracked.standing(job, "mlflow").state == "failed"
    assert "--serve-artifacts" in tracked.standing(job, "mlflow").error
    assert any(path.endswith("runs/update") for path, _ in web.requests)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"experiment": 3}', b"null"])
def test_what_is_no_mlflow_server_is_said_to_be_none(tracked, web, body):
    web.answers = {"/api/2.0/mlflow/experiments/get-by-name": lambda handler: reply(handler, 200, body)}
    job = tracked.submit(wish(web.url))
    tracked.run(tracked.feeder("mlflow"))
    assert "no MLflow server" in tracked.standing(job, "mlflow").error


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://10.0.0.1:5000", AddressRefusedError),
        ("http://169.254.169.254/", AddressRefusedError),
        ("https://user:pw@mlflow.example.org", AddressRefusedError),
        ("sqlite:///runs.db", InvalidRequestError),
        ("file:///etc", InvalidRequestError),
        ("databricks", InvalidRequestError),
        ("https://mlflow.example.org/?a=b", InvalidRequestError),
        ("", InvalidRequestError),
    ],
)
def test_addresses_that_cannot_be_told_are_refused_at_once_and_leave_nothing(tracked, url, error):
    with pytest.raises(error) as raised:
        tracked.submit(wish(url, password=CANARY))
    assert raised.value.param == "integrations.0.mlflow.tracking_uri"
    assert CANARY not in str(raised.value)
    assert tracked.known_secrets() == []


def test_a_certificate_that_is_none_is_refused(tracked):
    with pytest.raises(InvalidRequestError) as raised:
        tracked.submit(wish("https://mlflow.example.org", certificate=CANARY))
    assert raised.value.param == "integrations.0.mlflow.certificate_file"
    assert CANARY not in raised.value.message


def test_stored_credentials_are_for_their_host_only(tracked):
    stored = tracked.secrets.create(
        "acme", name="mlflow", purpose="mlflow", fields={"token": CANARY}, host="mlflow.example.org"
    )
    job = tracked.submit(wish("https://mlflow.example.org/tracking"))
    assert tracked.feed(job, "mlflow").secret_id == stored.id
    job = tracked.submit(wish("https://other.example.org"))
    assert tracked.feed(job, "mlflow").secret_id is None
    elsewhere = Wish("mlflow", {"tracking_uri": "https://other.example.org"}, "integrations.mlflow", secret="mlflow")
    with pytest.raises(SecretNotFoundError) as raised:
        tracked.submit(elsewhere)
    assert raised.value.param == "integrations.mlflow.secret"


def test_the_page_of_the_run_is_served(tracked, server):
    job = tracked.submit(wish(server.url, "page"))
    tracked.step(job, 1)
    tracked.run(tracked.feeder("mlflow"), 1)
    assert httpx2.get(tracked.standing(job, "mlflow").url).is_success
