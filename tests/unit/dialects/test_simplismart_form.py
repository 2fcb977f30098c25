"""Requests against the routes, with doors that only tell what they were asked."""

import json
import threading
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.dialects import _forms, simplismart
from tunesmith.server.app import _dialect_app
from tunesmith.spec.errors import DatasetNotFoundError
from tunesmith.storage import BlobWriter, Storage

PARTS = {
    "org": "o",
    "experiment_name": "e",
    "dataset_config": "{}",
    "model_details": '{"base_model": "m"}',
    "train_config": "{}",
    "dataset_details": '{"dataset_name": "d", "dataset_path": "nowhere", "source_type": "local"}',
    "infra_config": "{}",
}


class NoDatasets:
    """Has none."""

    def get(self, reference, *, param):
        raise DatasetNotFoundError(f"No dataset is registered as {reference!r}.", param=param)


@pytest.fixture
def client_of(tmp_path):
    app = _dialect_app("simplismart", simplismart)
    storage = Storage(tmp_path / "files")

    def client_of(caller):
        services = SimpleNamespace(caller=caller, storage=storage, max_upload_bytes=1000, datasets=NoDatasets())

        async def opened(scope, receive, send):
            await app({**scope, "state": {"services": services}}, receive, send)

        return TestClient(opened, raise_server_exceptions=False)

    return client_of


@pytest.fixture
def client(client_of):
    return client_of(LOCAL)


def send(client, parts):
    """The form, all of its parts as multipart text."""
    return client.post("/job", files={name: (None, text) for name, text in parts.items()})


def test_a_whole_form_is_read_and_its_dataset_looked_for(client):
    answer = send(client, PARTS)
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("dataset_details.dataset_path: No dataset is registered as 'nowhere'")
    assert answer.json()["detail"] == answer.json()["error"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_required(client, part):
    answer = send(client, {name: text for name, text in PARTS.items() if name != part})
    assert answer.status_code == 400
    assert answer.json()["error"] == f"{part} is required."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "required"),
        ("{", "line 1, column 2"),
        ('{"type": "sft", "type": "dpo"}', "twice"),
        ('{"hyperparameters": {"learning_rate": NaN}}', "NaN"),
        ('{"hyperparameters": {"learning_rate": 1e999}}', "finite"),
        ("[" * 100_000, "nested too deeply"),
        ('{"hyperparameters": {"num_epochs": ' + "9" * 5000 + "}}", "an integer of more than 1,000 digits is too long"),
        ('"\\u0000"', "U+0000"),
        ('"\\ud800"', "surrogate"),
        ("[]", "train_config: "),
        ("7", "train_config: "),
        (json.dumps(json.dumps({"type": "sft"})), "train_config: "),
        ('{"hyperparameters": {"num_epoch": 1}}', "train_config.hyperparameters.num_epoch is not a field"),
        ('{"type": "tune"}', "train_config.type: input should be 'sft', 'dpo', 'ppo' or 'grpo'"),
        ('{"hyperparameters": {"learning_rate": "fast"}}', "train_config.hyperparameters.learning_rate: "),
    ],
)
def test_a_part_of_json_is_read_as_strictly_as_a_body_and_its_fault_named(client, text, words):
    answer = send(client, {**PARTS, "train_config": text})
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert "train_config" in answer.json()["error"]


def test_parts_that_are_not_known_are_refused(client):
    assert "priority is not a field" in send(client, {**PARTS, "priority": "1"}).json()["error"]
    answer = client.post("/job", files={**{name: (None, text) for name, text in PARTS.items()}, "file": ("x", b"x")})
    assert (answer.status_code, "file is not a field" in answer.json()["error"]) == (400, True)


def test_a_zero_character_in_a_text_part_is_refused(client):
    answer = send(client, {**PARTS, "experiment_name": "a\0b"})
    assert (answer.status_code, "U+0000" in answer.json()["error"]) == (400, True)


def test_a_configuration_may_be_sent_as_a_file_too(client):
    answer = client.post(
        "/job", files={name: ("part.json" if text.startswith("{") else None, text) for name, text in PARTS.items()}
    )
    assert answer.status_code == 404


def test_a_body_that_is_no_form_is_told_so(client):
    answer = client.post("/job", json={})
    assert (answer.status_code, "multipart/form-data" in answer.json()["error"]) == (415, True)


def test_nothing_of_a_refused_file_stays_on_disk(client, tmp_path):
    answer = client.post("/dataset", files={"org": (None, "o"), "file": ("rows.jsonl", b'{"text": "a"}')})
    assert answer.json()["error"] == "dataset_name is required."
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


def test_a_file_is_removed_and_json_is_read_beside_the_event_loop(client, monkeypatch):
    threads = {}
    discard, parse = BlobWriter.discard, _forms.parse_json

    def told(name, call):
        def calling(*args):
            threads[name] = threading.current_thread().name
            return call(*args)

        return calling

    monkeypatch.setattr(BlobWriter, "discard", told("discard", discard))
    monkeypatch.setattr(_forms, "parse_json", told("parse", parse))
    files = {name: (None, text) for name, text in PARTS.items()}
    client.post("/job", files={**files, "file": ("rows.jsonl", b"{}")})
    assert set(threads) == {"discard", "parse"}
    assert all(name.startswith("AnyIO worker") for name in threads.values())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/job/list?org_id=other"),
        ("GET", "/job/get?org_id=other&request_id=x"),
        ("GET", "/job/metrics?org_id=other&request_id=x"),
        ("POST", "/job/cancel?org_id=other&request_id=x"),
        ("GET", "/job/logs?org_id=other&request_id=x"),
        ("GET", "/job/checkpoints?org_id=other&request_id=x"),
        ("GET", "/secret?org_id=other"),
        ("DELETE", "/secret?org_id=other&secret_id=x"),
        ("GET", "/dataset?org_id=other"),
    ],
)
def test_another_organisation_is_unknown_to_a_caller_who_has_one(client_of, method, path):
    answer = client_of(Caller(org="mine", user=None, role=Role.OWNER)).request(method, path)
    assert answer.status_code == 404
    assert "No organisation has the id 'other'" in answer.json()["error"]


def test_a_form_for_another_organisation_is_refused_in_the_same_way(client_of):
    answer = send(client_of(Caller(org="mine", user=None, role=Role.OWNER)), PARTS)
    assert (answer.status_code, "No organisation" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize("fields", ['"canary"', '{"access_key_id": {"canary": 1}}', '["canary"]'])
def test_a_malformed_secret_is_not_repeated(client, fields):
    answer = client.post(
        "/secret",
        content=f'{{"org": "o", "name": "n", "purpose": "s3", "fields": {fields}}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400
    assert "canary" not in answer.text
    assert "fields" in answer.json()["error"]


@pytest.mark.parametrize("query", ["", "?org_id=o&offset=-1", "?org_id=o&count=0", f"?org_id=o&offset={2**70}"])
def test_bad_queries_are_400(client, query):
    assert client.get(f"/job/list{query}").status_code == 400
