"""The requests of the image training page against a real server: pictures from the web, training, and other jobs."""

import io
import json
import os
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageChops

from hub_server import HubServer
from receiver import Receiver
from rows import chat_rows
from running_server import RunningServer, wait_for
from tiny_pictures import png
from tunesmith.dialects.image_training.wire import HTTPValidationError, Refusal, TrainingTask
from web_server import WebServer, serve_file

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


PICTURE = "https://example.org/a.png"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory, image_model, hub):
    home = write_home(tmp_path_factory.mktemp("images") / "home")
    with (home / "tunesmith.toml").open("a") as settings:
        settings.write(f'"black-forest-labs/FLUX.1-dev" = "{image_model}"\n')
    server = RunningServer(home, TUNESMITH_HUB_URL=hub.url, TUNESMITH_ALLOWED_NETWORKS="127.0.0.1/32")
    added = server.http.post(
        "/tunesmith/v1/datasets", data={"name": "v1.0"}, files={"file": ("rows.jsonl", chat_rows())}
    )
    assert added.status_code == 200, added.text
    yield server
    server.stop()


@pytest.fixture
def web():
    server = WebServer()
    yield server
    server.stop()


def publish(web, *colours):
    """Addresses of pictures of one colour each."""
    for colour in colours:
        web.answers[f"/{colour}.png"] = serve_file(png(colour))
    return [f"{web.url}/{colour}.png?sig=canary" for colour in colours]


def documented(**fields):
    """The body of the page, but for an adapter, and what it needs besides."""
    return json.loads(BODY) | {"training_type": "LORA"} | fields


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


def create(server, **fields):
    """A new task of the documented body."""
    answer = server.http.post(f"{TRAINING}/", json=documented(**fields))
    assert answer.status_code == 200, answer.text
    assert "canary" not in answer.text
    return TrainingTask.model_validate(answer.json())


def job_of(task_id):
    return f"/tunesmith/v1/jobs/{uuid.UUID(task_id).hex}"


def followed(server, task_id):
    """Every different answer about a task until it has ended."""
    seen = []

    def ended():
        now = task(server, task_id)
        if not seen or (now.status, now.current_step) != (seen[-1].status, seen[-1].current_step):
            seen.append(now)
        return now.status in ENDED

    wait_for(ended, 240)
    return seen


def test_the_pages_request_names_no_pictures_and_is_refused(served):
    for path in (TRAINING, f"{TRAINING}/"):
        answer = post(served, BODY, path)
        assert answer.status_code == 422
        [fault] = HTTPValidationError.model_validate(answer.json()).detail
        assert fault.loc == ["body", "source_images"]
    assert served.http.get(TRAINING).json() == []


def test_pictures_of_the_web_become_an_adapter_that_changes_what_plain_diffusers_draws(served, web, image_model):
    addresses = publish(web, "red", "green", "blue")
    arrived, go_on = hold(web, "/blue.png")
    receiver = Receiver()
    created = create(
        served,
        trigger_word="sks",
        rank=4,
        steps=12,
        learning_rate=0.02,
        sample_prompts=["[trigger] flag"],
        source_images=addresses,
        preprocessing_transforms=[{"type": "exif_orient"}],
        preprocessing_captioning_strategy="filename",
        webhook_url=receiver.hook,
    )
    assert created.status in ("PENDING", "PREPROCESSING")
    assert arrived.wait(30)
    fetching = wait_for(lambda: (now := task(served, created.id)).processed_files_count == 2 and now)
    assert (fetching.status, fetching.preprocessing_stage, fetching.total_files_count) == (
        "PREPROCESSING", "downloading", 3,
    )  # fmt: skip
    assert fetching.preprocessing_started_at is not None
    assert fetching.preprocessing_completed_at is None
    go_on.set()
    seen = followed(served, created.id)
    done = seen[-1]
    assert (done.status, done.progress, done.error_message) == ("COMPLETED", 100.0, None), done.error_message
    statuses = [each.status for each in seen]
    assert "RUNNING" in statuses
    assert (done.preprocessing_stage, done.processed_files_count, done.total_files_count) == ("completed", 3, 3)
    assert done.preprocessing_completed_at >= done.preprocessing_started_at
    assert (done.current_step, done.total_steps, done.eta_seconds) == (12, 12, None)
    assert [each.progress for each in seen] == sorted(each.progress for each in seen)
    running = [each for each in seen if each.status == "RUNNING" and each.current_step]
    assert any(0 < each.progress < 100 for each in running)
    assert any(each.eta_seconds is not None for each in running)

    stages = [event["data"]["stage"] for event in events_of(served, created.id, "pictures")]
    assert list(dict.fromkeys(stages)) == [
        "downloading", "verifying", "transforming", "captioning", "writing", "completed",
    ]  # fmt: skip
    folder = Path(done.training_folder)
    assert (folder / "subject_sks.safetensors").is_file()
    assert difference(drawn(image_model), drawn(image_model, adapter=folder / "subject_sks.safetensors")) > 8
    require_samples(served, created.id)
    require_told(receiver, created.id)
    assert "canary" not in served.http.get(f"{job_of(created.id)}/events?limit=1000").text


def hold(web, path):
    """Make an answer wait. Gives what is set when somebody asks for it, and what to set to let it go."""
    arrived, go_on, answer = threading.Event(), threading.Event(), web.answers[path]

    def slow(handler):
        arrived.set()
        go_on.wait(60)
        answer(handler)

    web.answers[path] = slow
    return arrived, go_on


def require_told(receiver, task_id):
    """The webhook was told of each status, and of progress."""
    told = wait_for(lambda: [each.json for each in receiver.messages if each.json["status"] == "COMPLETED"] and
                    [each.json for each in receiver.messages])  # fmt: skip
    receiver.stop()
    assert {each["task_id"] for each in told} == {task_id}
    statuses = list(dict.fromkeys(each["status"] for each in told))
    assert statuses == ["PENDING", "QUEUED", "PREPROCESSING", "RUNNING", "COMPLETED"]
    assert {each["metadata"]["current_step"] for each in told if each["status"] == "RUNNING"} >= {12}


def test_the_whole_transformer_is_trained_with_the_pages_body_but_for_steps_and_rate(served, web, image_model):
    addresses = publish(web, "red", "green")
    created = create(served, training_type="FULL", steps=3, learning_rate=0.01, source_images=addresses)
    assert (created.training_type, created.entity_type, created.trigger_word) == ("FULL", "SUBJECT", "string")
    done = followed(served, created.id)[-1]
    assert done.status == "COMPLETED", done.error_message
    assert difference(drawn(image_model), drawn(image_model, transformer=Path(done.training_folder))) > 8


def events_of(server, task_id, kind):
    answer = server.http.get(f"{job_of(task_id)}/events?limit=1000").json()
    return [event for event in answer["data"] if event["kind"] == kind]


def drawn(model, adapter=None, transformer=None):
    """What a plain pipeline draws: of the base, with an adapter's file, or with another transformer."""
    import torch
    from diffusers import FluxPipeline, FluxTransformer2DModel

    parts = {"transformer": FluxTransformer2DModel.from_pretrained(transformer)} if transformer else {}
    pipeline = FluxPipeline.from_pretrained(model, **parts).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    size = {"width": 64, "height": 64, "num_inference_steps": 4, "max_sequence_length": 64}
    return pipeline("sks flag", generator=torch.Generator().manual_seed(1), **size).images[0]


def difference(one, other):
    """The largest difference of a value from 0 to 255."""
    return max(most for _, most in ImageChops.difference(one, other).getextrema())


def require_samples(server, task_id):
    """The prompt was drawn before and after the training, and the pictures are served."""
    samples = server.http.get(f"{job_of(task_id)}/samples").json()["data"]
    assert [(each["step"], each["prompt"], each["text"]) for each in samples] == [
        (0, "sks flag", None),
        (12, "sks flag", None),
    ]
    assert samples[0]["seed"] == samples[1]["seed"]
    pictures = []
    for each in samples:
        answer = server.http.get(f"{job_of(task_id)}/samples/{each['id']}/picture")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert picture.size == (1024, 1024)
        pictures.append(answer.content)
    assert pictures[0] != pictures[1]
    sheet = server.http.get(f"{job_of(task_id)}/sample-sheet")
    assert (sheet.status_code, sheet.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(sheet.content)) as picture:
        assert picture.width > 2 * 192
    file = server.home / "sheet.png"
    command = [sys.executable, "-m", "tunesmith.cli", "jobs", "sample-sheet", task_id, "--to", file]
    subprocess.run(command, env={**os.environ, "TUNESMITH_URL": server.url}, check=True)
    assert file.read_bytes() == sheet.content
    unknown = server.http.get(f"{job_of(task_id)}/samples/nothing/picture")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")


def test_a_task_whose_pictures_cannot_be_used_fails_with_their_reasons(served, web):
    web.answers["/a.png"] = serve_file(b"no picture")
    created = create(served, trigger_word="sks", source_images=[f"{web.url}/a.png", f"{web.url}/missing.png"])
    failed = followed(served, created.id)[-1]
    assert failed.status == "FAILED"
    assert "a.png" in failed.error_message
    assert "missing.png" in failed.error_message


def test_a_task_is_cancelled_while_its_pictures_are_fetched(served, web):
    addresses = publish(web, "red")
    arrived, go_on = hold(web, "/red.png")
    created = create(served, trigger_word="sks", source_images=addresses)
    assert arrived.wait(30)
    assert task(served, created.id).status == "PREPROCESSING"
    require_cancelled(served, created.id)
    go_on.set()
    require_nothing_left(served)


def test_a_task_with_the_pages_defaults_is_cancelled_while_it_trains_and_one_behind_it_while_it_waits(served, web):
    addresses = publish(web, "red", "green")
    first = create(served, source_images=addresses)
    running = wait_for(lambda: (now := task(served, first.id)).current_step > 2 and now)
    second = create(served, source_images=addresses)
    assert (running.steps, running.total_steps, running.rank, running.learning_rate) == (1000, 1000, 16, 0.0001)
    assert running.processed_dataset_path
    wait_for(lambda: task(served, second.id).status == "QUEUED")
    for each in (second, first):
        require_cancelled(served, each.id)
    wait_for(lambda: task(served, first.id).completed_at)
    require_nothing_left(served)


def test_a_task_is_cancelled_before_its_first_step(served, web):
    prompts = ["a wall"] * 20  # drawn before the first step, in 25 denoising steps each
    created = create(served, sample_prompts=prompts, source_images=publish(web, "red"))
    wait_for(served.worker_pids)
    wait_for(lambda: (now := task(served, created.id)).status == "RUNNING" and now.current_step == 0)
    require_cancelled(served, created.id)
    require_nothing_left(served)
    assert task(served, created.id).current_step == 0


def require_nothing_left(server):
    """No worker, no process that decodes pictures, no file of a preparation."""
    wait_for(lambda: not server.worker_pids())
    wait_for(lambda: not list((server.home / "pictures").iterdir()))
    wait_for(lambda: not [each for each in psutil.Process(server.process.pid).children(recursive=True)
                          if "tunesmith.data.imaging.process" in each.cmdline()])  # fmt: skip


def require_cancelled(server, task_id):
    answer = server.http.post(f"{TRAINING}/{task_id}/cancel")
    assert answer.status_code == 200
    assert TrainingTask.model_validate(answer.json()).status == "CANCELLED"


@pytest.mark.parametrize(
    ("body", "location", "word"),
    [
        ({}, ["trigger_word"], "required"),
        ({"trigger_word": "a", "rank": 0}, ["rank"], "greater than or equal to 1"),
        ({"trigger_word": "a", "steps": 0}, ["steps"], "greater than or equal to 1"),
        ({"trigger_word": "a", "learning_rate": -1}, ["learning_rate"], "greater than 0"),
        ({"trigger_word": "a", "steps_": 3}, ["steps_"], "not a field"),
        ({"trigger_word": "a", "training_type": "DORA"}, ["training_type"], "'FULL' or 'LORA'"),
        ({"trigger_word": "a", "rank": 1025}, ["rank"], "less than or equal to 1024"),
        ({"trigger_word": "a", "source_images": ["a.jpg"]}, ["source_images", 0], "https://"),
        ({"trigger_word": "a", "source_images": [PICTURE], "base_model_path": "tiny"}, ["base_model_path"], "FLUX.1"),
        (
            {"trigger_word": "a", "source_images": [PICTURE], "preprocessing_captioning_strategy": "guess"},
            ["preprocessing_captioning_strategy"],
            "'filename'",
        ),
        (
            {"trigger_word": "a", "source_images": [PICTURE], "preprocessing_captioning_strategy": "auto"},
            ["preprocessing_captioning_strategy"],
            "captioning_model",
        ),
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


def test_a_base_model_that_is_nowhere_is_not_found_before_a_picture_is_fetched(served, web):
    answer = served.http.post(
        f"{TRAINING}/", json=documented(source_images=publish(web, "red"), base_model_path="no/body")
    )
    assert answer.status_code == 404
    assert "'no/body'" in Refusal.model_validate(answer.json()).detail
    assert web.requests == []


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


def test_the_example_follows_its_task_to_the_end_and_shows_why_it_failed(served, web):
    web.answers["/mug.jpg"] = serve_file(b"no picture")
    done = subprocess.run(
        ["bash", str(EXAMPLE), f"{web.url}/mug.jpg"],
        env={**os.environ, "TUNESMITH_URL": served.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "mug.jpg" in done.stdout


def test_a_gated_base_model_needs_a_token_that_may_read_it(served, image_model, hub, web):
    files = {
        path.relative_to(image_model).as_posix(): path.read_bytes() for path in image_model.rglob("*") if path.is_file()
    }
    hub.publish("model", "black-forest-labs/gated", files, gated=True)
    asked = {"steps": 1, "source_images": publish(web, "red"), "base_model_path": "black-forest-labs/gated"}
    refused = served.http.post(f"{TRAINING}/", json=documented(**asked))
    assert refused.status_code == 422
    [fault] = refused.json()["detail"]
    assert fault["loc"] == ["body", "base_model_path"]
    assert "is gated" in fault["msg"]
    token = {
        "name": "hub",
        "purpose": "hub",
        "fields": {"token": HubServer.TOKEN},
        "host": hub.url.removeprefix("http://"),
    }
    served.http.post("/tunesmith/v1/secrets", json=token).raise_for_status()
    created = create(served, **asked, base_model_secret="hub")
    done = followed(served, created.id)[-1]
    assert done.status == "COMPLETED", done.error_message
