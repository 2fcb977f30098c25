import re
import time

import pytest
from fastapi import FastAPI

from stored_jobs import FILE, job_spec, optimization, stored_job
from tunesmith.dialects import image_training
from tunesmith.dialects.image_training.render import render_job, render_task
from tunesmith.dialects.image_training.translate import to_spec, to_submission
from tunesmith.dialects.image_training.webhook import render_webhook
from tunesmith.dialects.image_training.wire import TrainingTask, TrainingTaskCreate
from tunesmith.spec.errors import (
    ERRORS,
    InvalidRequestError,
    JobNotFoundError,
    JobStateError,
    OutOfMemoryError,
    UnsupportedError,
)
from tunesmith.spec.job import AdapterSpec, DataSource
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event

ID = "b" * 32
WIRE_ID = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
CREATED = 1_649_864_525.901  # 2022-04-13T15:42:05.901Z


class Doors:
    """The doors that rendering goes through, with what a test puts behind them."""

    def __init__(self, events=(), logs=()):
        self.jobs = self.produced_models = self.storage = self
        self._events, self._logs = list(events), list(logs)

    def find(self, _id):
        return None

    def path(self, sha256):
        return f"/files/{sha256}"

    def events(self, _id, *, limit=None, newest_first=False, kinds=()):
        found = [each for each in self._events if not kinds or each.kind in kinds]
        return (found[::-1] if newest_first else found)[:limit]

    def logs(self, _id):
        return self._logs


def job(state=State.QUEUED, train=FILE, **changes):
    """A text job as another dialect makes it."""
    adapter = AdapterSpec(rank=8, alpha=16, dropout=0, targets=("all-linear",))
    spec = job_spec(train, adapter=adapter, optimization=optimization(epochs=3, batch_size=8, micro_batch_size=2))
    return stored_job(state, spec, created_at=CREATED, **changes)


def image_job(state=State.QUEUED, request=None, **changes):
    body = TrainingTaskCreate.model_validate({"trigger_word": "sks", **(request or {})})
    spec = to_spec(body)
    return stored_job(state, spec, submission=to_submission(body, spec), created_at=CREATED, **changes)


def event(at, kind="state", message="It happened.", **data):
    return Event(number=1, id="e", job_id=ID, attempt=None, at=at, level="info", kind=kind, message=message, data=data)


def fetch(at, done, total, what="s3://bucket/rows.jsonl"):
    return event(at, "fetch", what=what, bytes=done, total_bytes=total)


# --- the page's schemas ----------------------------------------------------------------------------------------------

TEXT, WHOLE, NUMBER, FLAG = {"string"}, {"integer"}, {"number"}, {"boolean"}
NULL = {"null"}

# Every property of the page's TrainingTask: its types, and its default where the page shows one.
TASK = {
    "id": (TEXT, None), "created_at": (TEXT, None), "updated_at": (TEXT, None), "origin_instance": (TEXT, "unknown"),
    "origin_zone": (TEXT | NULL, None), "origin_version": (TEXT | NULL, None),
    "origin_tenant_id": (TEXT | NULL, None), "training_type": (TEXT, "LORA"), "entity_type": (TEXT, "PRODUCT"),
    "entity_id": (TEXT | NULL, None), "status": (TEXT, "PENDING"), "progress": (NUMBER, 0.0),
    "current_step": (WHOLE, 0), "total_steps": (WHOLE, 1000), "eta_seconds": (WHOLE | NULL, None),
    "trigger_word": (TEXT, None), "training_folder": (TEXT, ""), "rank": (WHOLE, 16), "save_every": (WHOLE, 2000),
    "max_step_saves_to_keep": (WHOLE, 4), "batch_size": (WHOLE, 1), "steps": (WHOLE, 1000),
    "learning_rate": (NUMBER, 0.0001), "gradient_accumulation": (WHOLE, 1), "optimizer": (TEXT, "adamw8bit"),
    "bypass_guidance_embedding": (FLAG, False), "base_model_path": (TEXT, "black-forest-labs/FLUX.1-dev"),
    "local_model_path": (TEXT | NULL, None), "sample_every": (WHOLE, 250), "sample_steps": (WHOLE, 25),
    "sample_prompts": ({"array"}, None), "started_at": (TEXT | NULL, None), "completed_at": (TEXT | NULL, None),
    "logs": (TEXT, ""), "error_message": (TEXT | NULL, None), "webhook_url": (TEXT, ""),
    "celery_training_task_id": (TEXT | NULL, None), "celery_preprocessing_task_id": (TEXT | NULL, None),
    "celery_chain_task_id": (TEXT | NULL, None), "preprocessing_stage": (TEXT | NULL, None),
    "processed_files_count": (WHOLE | NULL, None), "total_files_count": (WHOLE | NULL, None),
    "preprocessing_started_at": (TEXT | NULL, None), "preprocessing_completed_at": (TEXT | NULL, None),
    "source_images": ({"array"}, None), "processed_dataset_path": (TEXT | NULL, None),
    "preprocessing_transforms": ({"array"} | NULL, None), "preprocessing_captioning_strategy": (TEXT, "trigger_only"),
    "preprocessing_captioning_prompt": (TEXT | NULL, None), "priority": (WHOLE, 1),
    "priority_changed_at": (TEXT | NULL, None),
}  # fmt: skip

# The same for TrainingTaskCreate.
CREATE = {
    "training_type": (TEXT, "LORA"), "entity_type": (TEXT, "PRODUCT"), "entity_id": (TEXT | NULL, None),
    "trigger_word": (TEXT, None), "rank": (WHOLE | NULL, 16), "steps": (WHOLE | NULL, 1000),
    "learning_rate": (NUMBER | NULL, 0.0001), "sample_prompts": ({"array"} | NULL, []),
    "source_images": ({"array"} | NULL, []), "base_model_path": (TEXT | NULL, "black-forest-labs/FLUX.1-dev"),
    "bypass_guidance_embedding": (FLAG | NULL, False), "webhook_url": (TEXT | NULL, None),
    "origin_instance": (TEXT | NULL, "unknown"), "origin_zone": (TEXT | NULL, None),
    "origin_version": (TEXT | NULL, None), "origin_tenant_id": (TEXT | NULL, None),
    "preprocessing_transforms": ({"array"} | NULL, None),
    "preprocessing_captioning_strategy": (TEXT | NULL, "trigger_only"),
    "preprocessing_captioning_prompt": (TEXT | NULL, None),
}  # fmt: skip

ADDITIONS = {"priority", "source_secret", "base_model_secret"}
CLOCKS = {name for name in TASK if name.endswith("_at")}


@pytest.fixture(scope="module")
def document():
    app = FastAPI()
    app.include_router(image_training.routes())
    return app.openapi()


def types(schema, document):
    if "$ref" in schema:
        return types(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    return {schema["type"]} if "type" in schema else set().union(*(types(part, document) for part in schema["anyOf"]))


def properties(name, document):
    found = document["components"]["schemas"][name]["properties"]
    return {field: (types(schema, document), schema.get("default")) for field, schema in found.items()}


def test_the_task_has_the_properties_of_the_pages_schema_with_their_types_and_defaults(document):
    assert properties("TrainingTask", document) == TASK


def test_the_request_has_the_properties_of_the_pages_schema_with_their_types_and_defaults(document):
    found = properties("TrainingTaskCreate", document)
    assert {name: facts for name, facts in found.items() if name not in ADDITIONS} == CREATE
    assert set(found) == set(CREATE) | ADDITIONS
    assert document["components"]["schemas"]["TrainingTaskCreate"]["required"] == ["trigger_word"]


def test_clocks_and_ids_are_declared_as_such(document):
    fields = document["components"]["schemas"]["TrainingTask"]["properties"]
    formats = {name: re.findall(r"'format': '([\w-]+)'", str(schema)) for name, schema in fields.items()}
    assert {name for name, found in formats.items() if found == ["date-time"]} == CLOCKS
    assert {name for name, found in formats.items() if found == ["uuid"]} == {"id", "entity_id"}


def test_faults_are_declared_in_the_pages_shape(document):
    fault = document["components"]["schemas"]["ValidationError"]
    assert set(fault["properties"]) == set(fault["required"]) == {"loc", "msg", "type"}
    for methods in document["paths"].values():
        for operation in methods.values():
            schema = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert schema["$ref"].endswith("/HTTPValidationError")


# --- tasks -----------------------------------------------------------------------------------------------------------

WORDS = {
    State.VALIDATING: "PENDING",
    State.QUEUED: "QUEUED",
    State.STARTING: "PREPROCESSING",
    State.RUNNING: "RUNNING",
    State.PAUSING: "RUNNING",
    State.PAUSED: "RUNNING",
    State.REQUEUEING: "RUNNING",
    State.CANCELLING: "CANCELLED",
    State.SUCCEEDED: "COMPLETED",
    State.FAILED: "FAILED",
    State.CANCELLED: "CANCELLED",
}


@pytest.mark.parametrize("make", [job, image_job])
@pytest.mark.parametrize("state", list(State))
def test_a_job_of_any_dialect_in_any_state_is_a_whole_task(state, make):
    rendered = render_job(make(state), Doors())
    assert set(rendered) == set(TASK)
    assert rendered["status"] == WORDS[state]
    assert TrainingTask.model_validate(rendered).model_dump(mode="json") == rendered


def test_a_text_job_is_told_in_the_nearest_words():
    rendered = render_job(job(State.RUNNING, step=5, total_steps=20, started_at=CREATED + 1, attempts=2), Doors())
    assert (rendered["trigger_word"], rendered["source_images"], rendered["webhook_url"]) == ("", [], "")
    assert (rendered["training_type"], rendered["rank"]) == ("LORA", 8)
    assert (rendered["batch_size"], rendered["gradient_accumulation"], rendered["optimizer"]) == (2, 4, "adamw")
    assert (rendered["save_every"], rendered["max_step_saves_to_keep"]) == (0, 0)
    assert (rendered["steps"], rendered["total_steps"], rendered["current_step"]) == (20, 20, 5)
    assert rendered["progress"] == 25.0
    assert rendered["celery_chain_task_id"] == WIRE_ID
    assert rendered["celery_training_task_id"] == f"{WIRE_ID}/attempts/2"
    assert rendered["celery_preprocessing_task_id"] is None


def test_an_image_job_echoes_its_request_in_canonical_spelling():
    asked = {
        "training_type": "full", "entity_type": "style", "entity_id": "5F0C3F8A-0000-4000-8000-000000000001", "rank": 4,
        "sample_prompts": ["[trigger] in rain"], "source_images": ["https://example.org/a.jpg?sig=canary"],
        "preprocessing_transforms": [{"name": "Rotate", "degrees": 90}], "origin_zone": "eu", "priority": 2,
        "webhook_url": "https://example.org/canary",
    }  # fmt: skip
    rendered = render_job(image_job(request=asked, priority=2), Doors())
    assert (rendered["training_type"], rendered["entity_type"], rendered["rank"]) == ("FULL", "STYLE", 4)
    assert rendered["entity_id"] == "5f0c3f8a-0000-4000-8000-000000000001"
    assert rendered["sample_prompts"] == ["[trigger] in rain"]
    assert rendered["source_images"] == ["https://example.org/a.jpg"]
    assert rendered["preprocessing_transforms"] == [{"type": "rotate", "degrees": 90.0, "color": "#ffffff"}]
    assert (rendered["origin_instance"], rendered["origin_zone"], rendered["priority"]) == ("unknown", "eu", 2)
    assert rendered["webhook_url"] == "https://example.org"
    assert (rendered["steps"], rendered["total_steps"]) == (1000, 1000)
    assert "canary" not in str(rendered)


def test_clocks_are_utc_with_a_z():
    rendered = render_job(job(State.FAILED, started_at=CREATED + 1, finished_at=CREATED + 61.5), Doors())
    assert rendered["created_at"] == "2022-04-13T15:42:05.901Z"
    assert rendered["started_at"] == "2022-04-13T15:42:06.901Z"
    assert rendered["completed_at"] == rendered["updated_at"] == "2022-04-13T15:43:07.401Z"


def test_the_time_that_is_left_is_told_while_the_job_runs():
    running = render_job(job(State.RUNNING, estimated_finish=time.time() + 90), Doors())
    assert 85 <= running["eta_seconds"] <= 90
    assert render_job(job(State.RUNNING, estimated_finish=1.0), Doors())["eta_seconds"] == 0
    assert render_job(job(State.PAUSED, estimated_finish=time.time() + 90), Doors())["eta_seconds"] is None


def test_a_succeeded_job_is_at_100_percent_and_an_unprepared_one_at_0():
    assert render_job(job(State.SUCCEEDED, step=20, total_steps=20), Doors())["progress"] == 100.0
    assert render_job(job(State.QUEUED), Doors())["progress"] == 0.0


def test_a_failed_job_tells_why_with_what_to_do():
    failed = job(State.FAILED, error=OutOfMemoryError("It did not fit.", hint="Take less.").info)
    assert render_job(failed, Doors())["error_message"] == "It did not fit. Take less."


# --- log and events --------------------------------------------------------------------------------------------------


def test_the_log_is_the_end_of_all_attempts(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_bytes(b"one\n")
    second.write_bytes(b"two\n\xff")
    doors = Doors([event(CREATED)], [first, second])
    assert render_task(job(), doors, log_bytes=100)["logs"] == "one\ntwo\n\N{REPLACEMENT CHARACTER}"
    assert render_task(job(), doors, log_bytes=7)["logs"] == "e\ntwo\n\N{REPLACEMENT CHARACTER}"
    assert render_task(job(), Doors([event(CREATED)]), log_bytes=7)["logs"] == ""


def test_a_task_was_updated_when_its_last_event_happened():
    assert render_task(job(), Doors([event(CREATED), event(CREATED + 2)]), log_bytes=1)["updated_at"].endswith(
        "07.901Z"
    )


REMOTE = DataSource(kind="s3", id="s3://bucket/rows.jsonl", sha256=None)


def preprocessing(job, *events):
    task = render_task(job, Doors(events), log_bytes=1)
    return tuple(
        task[name]
        for name in (
            "preprocessing_stage",
            "processed_files_count",
            "preprocessing_started_at",
            "preprocessing_completed_at",
        )
    )


def test_fetching_is_told_while_it_lasts():
    created = event(CREATED, state="validating")
    waiting = job(State.VALIDATING, REMOTE)
    assert preprocessing(waiting, created) == (None, None, None, None)
    found = preprocessing(waiting, created, fetch(CREATED + 1, 5, 10))
    assert found == ("downloading", 0, "2022-04-13T15:42:06.901Z", None)


def test_fetching_is_told_when_it_is_over():
    events = (event(CREATED, state="validating"), fetch(CREATED + 1, 10, 10), event(CREATED + 2, state="queued"))
    found = preprocessing(job(State.QUEUED, REMOTE), *events)
    assert found == ("completed", 1, "2022-04-13T15:42:06.901Z", "2022-04-13T15:42:07.901Z")


def pictures(at, stage, done, total):
    return event(at, "pictures", stage=stage, done=done, total=total)


def test_a_task_whose_pictures_are_prepared_is_preprocessing_with_its_stage_and_counts():
    created = event(CREATED, state="validating")
    waiting = render_task(image_job(State.VALIDATING), Doors([created]), log_bytes=1)
    assert (waiting["status"], waiting["preprocessing_stage"], waiting["total_files_count"]) == ("PENDING", None, None)
    told = [created, pictures(CREATED + 1, "downloading", 0, 3), pictures(CREATED + 2, "verifying", 2, 3)]
    task = render_task(image_job(State.VALIDATING), Doors(told), log_bytes=1)
    assert (task["status"], task["preprocessing_stage"]) == ("PREPROCESSING", "verifying")
    assert (task["processed_files_count"], task["total_files_count"]) == (2, 3)
    assert task["preprocessing_started_at"] == "2022-04-13T15:42:06.901Z"
    assert (task["preprocessing_completed_at"], task["processed_dataset_path"]) == (None, None)
    assert task["celery_preprocessing_task_id"] == f"{WIRE_ID}/pictures"
    TrainingTask.model_validate(task)


def test_a_task_whose_pictures_are_prepared_names_the_set_until_it_has_ended():
    told = [pictures(CREATED + 1, "downloading", 0, 3), pictures(CREATED + 2, "completed", 2, 3)]
    spec = image_job().spec
    train = spec.data.train.model_copy(update={"sha256": "c" * 64})
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"train": train})})
    for state, status, path in (
        (State.QUEUED, "QUEUED", f"/files/{'c' * 64}"),
        (State.RUNNING, "RUNNING", f"/files/{'c' * 64}"),
        (State.SUCCEEDED, "COMPLETED", None),
    ):
        job = image_job(state).model_copy(update={"spec": spec})
        task = render_task(job, Doors(told), log_bytes=1)
        assert (task["status"], task["processed_dataset_path"]) == (status, path)
        assert (task["preprocessing_stage"], task["processed_files_count"]) == ("completed", 2)
        assert task["preprocessing_completed_at"] == "2022-04-13T15:42:07.901Z"


# --- webhook ---------------------------------------------------------------------------------------------------------


def test_a_webhook_tells_the_status_that_its_event_brought_about():
    running = image_job(State.RUNNING, {"origin_zone": "eu"}, step=100, started_at=CREATED)
    told = render_webhook(running, event(CREATED + 1, message="The job waits.", state="queued"), Doors())
    assert told == {
        "event_type": "training_status_update",
        "task_id": WIRE_ID,
        "task_type": "training",
        "status": "QUEUED",
        "entity_id": None,
        "origin_instance": "unknown",
        "origin_zone": "eu",
        "origin_version": None,
        "timestamp": "2022-04-13T15:42:06.901Z",
        "started_at": "2022-04-13T15:42:05.901Z",
        "completed_at": None,
        "progress": 10.0,
        "error_message": None,
        "error_category": None,
        "metadata": {"message": "The job waits.", "current_step": 100, "total_steps": 1000, "training_folder": ""},
        "additional_properties": {},
    }


def test_a_webhook_about_progress_tells_the_jobs_own_status():
    told = render_webhook(job(State.RUNNING), event(CREATED, "metrics", step=100, total_steps=1000), Doors())
    assert told["status"] == "RUNNING"


@pytest.mark.parametrize(("step", "total", "is_told"), [(1, 1000, False), (99, 1000, False), (100, 1000, True),
    (101, 1000, False), (1000, 1000, True), (1, 1, True), (1, 3, True)])  # fmt: skip
def test_a_webhook_is_told_of_each_tenth_of_the_steps(step, total, is_told):
    told = render_webhook(job(State.RUNNING), event(CREATED, "metrics", step=step, total_steps=total), Doors())
    assert (told is not None) == is_told


def test_a_webhook_is_told_of_nothing_but_states_and_progress():
    assert render_webhook(job(State.RUNNING), event(CREATED, "note"), Doors()) is None


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("invalid_request", "request"),
        ("nothing_to_train", "data"),
        ("download_failed", "data"),
        ("model_load", "model"),
        ("out_of_memory", "training"),
        ("worker_lost", "server"),
    ],
)
def test_a_webhook_sorts_errors_into_categories(code, category):
    failed = job(State.FAILED, error=ERRORS[code]("What is wrong.").info)
    told = render_webhook(failed, event(CREATED, state="failed"), Doors())
    assert (told["error_category"], told["error_message"]) == (category, "What is wrong.")


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("param", "location"),
    [
        (None, ["body"]),
        ("rank", ["body", "rank"]),
        ("preprocessing_transforms.0.width", ["body", "preprocessing_transforms", 0, "width"]),
        ("limit", ["query", "limit"]),
        ("task_id", ["path", "task_id"]),
        ("method.kind", ["body", "training_type"]),
        ("model.base", ["body", "base_model_path"]),
        ("optimization.max_steps", ["body", "steps"]),
        ("adapter.rank", ["body", "rank"]),
        ("data.images.transforms.3", ["body", "preprocessing_transforms", 3]),
        ("data.train", ["body", "source_images"]),
    ],
)
def test_a_fault_is_located_in_the_users_words(param, location):
    error = UnsupportedError("What is wrong.", param=param, hint="What to do.")
    status, body = image_training.render_error(error, "/api/v1/training")
    assert status == 422
    assert body == {"detail": [{"loc": location, "msg": "What is wrong. What to do.", "type": "unsupported"}]}


def test_all_other_errors_are_a_sentence():
    for error, expected in ((JobNotFoundError("None."), 404), (JobStateError("Late."), 409)):
        status, body = image_training.render_error(error, "/api/v1/training/x")
        assert (status, body) == (expected, {"detail": error.message})


def test_a_key_of_many_digits_is_a_name():
    _, body = image_training.render_error(InvalidRequestError("x", param="9" * 5000), "/api/v1/training")
    assert body["detail"][0]["loc"] == ["body", "9" * 5000]
