"""The requests of the image training page against a real server: what it refuses now, and jobs of other dialects."""

import os
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for
from tunesmith.dialects.image_training.wire import HTTPValidationError, Refusal, TrainingTask

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "image_training" / "train.sh"

# As it stands on the page.
BODY = """
{
    "training_type": "FULL",
    "entity_type": "SUBJECT",
    "entity_id": null,
    "trigger_word": "string",
    "rank": null,
    "steps": null,
    "learning_rate": null,
    "sample_prompts": null,
    "source_images": null,
    "base_model_path": null,
    "bypass_guidance_embedding": null,
    "webhook_url": null,
    "origin_instance": null,
    "origin_zone": null,
    "origin_version": null,
    "origin_tenant_id": null,
    "preprocessing_transforms": null,
    "preprocessing_captioning_strategy": null,
    "preprocessing_captioning_prompt": null
}
"""

TRAINING = "/api/v1/training"


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("images") / "home"), TUNESMITH_HUB_URL="")
    added = server.http.post(
        "/tunesmith/v1/datasets", data={"name": "v1.0"}, files={"file": ("rows.jsonl", chat_rows())}
    )
    assert added.status_code == 200, added.text
    yield server
    server.stop()


def post(server, body, path=f"{TRAINING}/"):
    return server.http.post(path, content=body, headers={"Content-Type": "application/json"})


def text_job(server, **fields):
    """The id of a job made through another dialect."""
    answer = server.http.post("/train", json={"gradient_accumulation_steps": 1, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()["job_id"]


def task(server, task_id):
    answer = server.http.get(f"{TRAINING}/{task_id}")
    assert answer.status_code == 200, answer.text
    return TrainingTask.model_validate(answer.json())


def require_missing_preparation(answer):
    assert answer.status_code == 422
    [fault] = HTTPValidationError.model_validate(answer.json()).detail
    assert fault.loc == ["body", "source_images"]
    assert fault.type == "unsupported"
    assert "prepares no pictures" in fault.msg
    assert "FLUX" not in fault.msg


def test_the_pages_request_is_refused_because_pictures_are_not_prepared_and_leaves_nothing_behind(served):
    require_missing_preparation(post(served, BODY))
    require_missing_preparation(post(served, BODY, TRAINING))
    for path in ("/tunesmith/v1/jobs", "/v1/files"):
        assert served.http.get(path).json()["data"] == []
    assert served.http.get(TRAINING).json() == []
    assert list((served.home / "checks").iterdir()) == []
    assert list((served.home / "jobs").iterdir()) == []


def test_a_complete_request_is_refused_for_the_same_reason(served):
    asked = {
        "training_type": "lora", "entity_type": "product", "trigger_word": "sks", "rank": 32, "steps": 500,
        "sample_prompts": ["[trigger] on a table"], "source_images": ["https://example.org/a.jpg?sig=canary"],
        "webhook_url": "https://example.org/canary", "preprocessing_transforms": [{"type": "exif_orient"}],
        "priority": 3,
    }  # fmt: skip
    answer = served.http.post(f"{TRAINING}/", json=asked)
    require_missing_preparation(answer)
    assert "canary" not in answer.text
    assert "canary" not in "".join(served.stderr)


@pytest.mark.parametrize(
    ("body", "location", "word"),
    [
        ({}, ["trigger_word"], "required"),
        ({"trigger_word": "a", "rank": 0}, ["rank"], "greater than or equal to 1"),
        ({"trigger_word": "a", "steps": 0}, ["steps"], "greater than or equal to 1"),
        ({"trigger_word": "a", "learning_rate": -1}, ["learning_rate"], "greater than 0"),
        ({"trigger_word": "a", "steps_": 3}, ["steps_"], "not a field"),
        ({"trigger_word": "a", "training_type": "DORA"}, ["training_type"], "'FULL' or 'LORA'"),
        ({"trigger_word": "a", "source_images": ["a.jpg"]}, ["source_images", 0], "https://"),
        (
            {"trigger_word": "a", "preprocessing_transforms": [{"type": "melt"}]},
            ["preprocessing_transforms", 0, "type"],
            "grayscale",
        ),
    ],
)
def test_a_faulty_request_is_answered_with_the_place_of_the_fault(served, body, location, word):
    answer = served.http.post(f"{TRAINING}/", json=body)
    assert answer.status_code == 422
    [fault] = HTTPValidationError.model_validate(answer.json()).detail
    assert fault.loc == ["body", *location]
    assert word in fault.msg


def test_a_job_of_another_dialect_is_listed_read_and_cancelled(served):
    before = datetime.now(UTC).replace(microsecond=0)
    first = text_job(served, num_epochs=900)
    second = text_job(served, num_epochs=900)
    listed = served.http.get(f"{TRAINING}/").json()
    assert [each["id"] for each in listed[:2]] == [second, first]
    assert listed[0]["status"] == "QUEUED"
    assert [each["id"] for each in served.http.get(f"{TRAINING}/?skip=1&limit=1").json()] == [first]

    running = wait_for(lambda: (now := task(served, first)).status == "RUNNING" and now.current_step > 0 and now)
    assert (running.trigger_word, running.source_images, running.preprocessing_stage) == ("", [], None)
    assert (running.training_type, running.rank, running.save_every) == ("LORA", 64, 1000)
    assert 0 < running.progress < 100
    assert running.total_steps > running.current_step
    assert running.started_at.endswith("Z")
    assert before <= datetime.fromisoformat(running.created_at) <= datetime.fromisoformat(running.started_at)
    assert datetime.fromisoformat(running.started_at) <= datetime.fromisoformat(running.updated_at)
    assert running.completed_at is None
    assert running.celery_training_task_id == f"{first}/attempts/1"

    for task_id in (second, first):
        answer = served.http.post(f"{TRAINING}/{task_id}/cancel/")
        assert answer.status_code == 200
        assert TrainingTask.model_validate(answer.json()).status == "CANCELLED"
        assert served.http.get(f"/train/{task_id}").json()["status"] == "cancelled"
    ended = wait_for(lambda: (now := task(served, first)).completed_at and now)
    assert ended.eta_seconds is None
    late = served.http.post(f"{TRAINING}/{first}/cancel")
    assert late.status_code == 409
    assert "cancelled" in Refusal.model_validate(late.json()).detail


def test_a_succeeded_job_has_its_folder_and_its_log(served):
    task_id = text_job(served, num_epochs=1)
    done = wait_for(lambda: (now := task(served, task_id)).status not in ("PENDING", "QUEUED", "PREPROCESSING",
                                                                         "RUNNING") and now)  # fmt: skip
    assert (done.status, done.progress, done.error_message) == ("COMPLETED", 100.0, None)
    assert done.current_step == done.total_steps == done.steps
    assert any(Path(done.training_folder).glob("*.safetensors"))
    log = served.http.get(f"/tunesmith/v1/jobs/{uuid.UUID(task_id).hex}/log").text
    assert done.logs == log[-len(done.logs) :] if done.logs else not log


def test_an_unknown_task_is_404_and_a_malformed_id_a_fault_of_the_path(served):
    for method, path in (("GET", "{}"), ("POST", "{}/cancel")):
        unknown = served.http.request(method, f"{TRAINING}/{path.format('550e8400-e29b-41d4-a716-446655440000')}")
        assert unknown.status_code == 404
        assert isinstance(unknown.json()["detail"], str)
        malformed = served.http.request(method, f"{TRAINING}/{path.format('nonsense')}")
        assert malformed.status_code == 422
        assert malformed.json()["detail"][0]["loc"] == ["path", "task_id"]


@pytest.mark.parametrize(
    ("name", "value"), [("limit", -1), ("limit", 0), ("limit", 10**9), ("skip", -1), ("skip", 10**30), ("limit", "x")]
)
def test_a_bad_page_is_a_fault_of_the_query(served, name, value):
    answer = served.http.get(f"{TRAINING}/?{name}={value}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]


def test_the_example_runs_and_shows_the_answer(served):
    done = subprocess.run(
        ["bash", str(EXAMPLE)],
        env={**os.environ, "TUNESMITH_URL": served.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "prepares no pictures" in done.stdout
