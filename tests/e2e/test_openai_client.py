"""The unmodified openai client against a real server and real training."""

import csv
import hashlib
import inspect
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from openai._resource import SyncAPIResource

from rows import chat_rows
from running_server import wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(server):
    """A job that ran to its end, with validation."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    train = client.files.create(file=("train.jsonl", chat_rows(20)), purpose="fine-tune")
    valid = client.files.create(file=("valid.jsonl", chat_rows(4)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=train.id,
        validation_file=valid.id,
        suffix="My Model!",
        seed=7,
        metadata={"team": "blue"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
    )
    assert job.status in ("queued", "running")
    return wait_for(lambda: _ended(client, job.id))


def _ended(client, id):
    job = client.fine_tuning.jobs.retrieve(id)
    return job if job.status in ("succeeded", "failed", "cancelled") else None


def test_the_job_succeeds_with_its_numbers(finished):
    assert finished.status == "succeeded", finished.error
    assert finished.fine_tuned_model == f"ft:tiny:local:my-model:{finished.id[6:14]}"
    assert finished.hyperparameters.n_epochs == 2
    assert finished.hyperparameters.batch_size == 4
    assert finished.seed == 7
    assert finished.metadata == {"team": "blue"}
    assert finished.trained_tokens > 0
    assert finished.model_extra["trained_steps"] == finished.model_extra["total_steps"] == 10
    assert finished.finished_at >= finished.created_at
    assert finished.error is None


def test_events_come_newest_first_and_page_without_gaps(client, finished):
    every = [event.id for event in client.fine_tuning.jobs.list_events(finished.id, limit=100)]
    paged = [event.id for event in client.fine_tuning.jobs.list_events(finished.id, limit=3)]
    assert paged == every
    events = list(client.fine_tuning.jobs.list_events(finished.id, limit=100))
    assert events[-1].message == f"Created fine-tuning job: {finished.id}"
    messages = [event.message for event in events]
    assert f"Checkpoint created at step 10 with Snapshot ID: {finished.fine_tuned_model}:ckpt-step-10" in messages
    assert f"New fine-tuned model created: {finished.fine_tuned_model}" in messages
    assert messages.index("The job has successfully completed") < messages.index("Fine-tuning job started")
    metrics = [event for event in events if event.type == "metrics" and "train_loss" in event.data]
    assert [event.data["step"] for event in metrics] == list(range(10, 0, -1))
    assert metrics[0].message.startswith("Step 10/10: training loss=")
    assert metrics[0].data["train_loss"] < metrics[-1].data["train_loss"]
    for key in ("train_mean_token_accuracy", "learning_rate", "grad_norm", "tokens_per_second", "memory_bytes"):
        assert key in metrics[0].data


def test_checkpoints_page_and_hold_metrics(client, finished):
    pages = list(client.fine_tuning.jobs.checkpoints.list(finished.id, limit=1))
    assert [checkpoint.step_number for checkpoint in pages] == [10, 5]
    newest = pages[0]
    assert newest.fine_tuned_model_checkpoint == f"{finished.fine_tuned_model}:ckpt-step-10"
    assert newest.metrics.train_loss > 0
    assert newest.metrics.full_valid_loss > 0
    single = client.get(f"/fine_tuning/jobs/{finished.id}/checkpoints/{newest.id}", cast_to=dict)
    assert single["step_number"] == 10


def test_checkpoint_files_can_be_downloaded(client, finished):
    newest = next(iter(client.fine_tuning.jobs.checkpoints.list(finished.id)))
    names = {client.files.retrieve(id).filename: id for id in newest.model_extra["result_files"]}
    assert {"step-10/adapter_model.safetensors", "step-10/adapter_config.json"} <= set(names)
    config = json.loads(client.files.content(names["step-10/adapter_config.json"]).read())
    assert config["r"] == 16


def test_the_result_file_is_a_table_of_steps(client, finished):
    content = client.files.content(finished.result_files[0]).text
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    assert float(rows[9]["valid_loss"]) > 0
    assert rows[0]["valid_loss"] == ""


def test_models_list_retrieve_and_delete(client, server, finished):
    names = [model.id for model in client.models.list()]
    assert {"tiny", "Qwen/Qwen2.5-1.5B-Instruct", finished.fine_tuned_model} <= set(names)
    assert client.models.retrieve("Qwen/Qwen2.5-1.5B-Instruct").owned_by == "system"
    assert client.models.retrieve(finished.fine_tuned_model).id == finished.fine_tuned_model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody/nothing")
    with pytest.raises(openai.ConflictError):
        client.models.delete("tiny")


def test_jobs_are_listed_newest_first_and_filtered_by_metadata(client, upload, finished):
    other = client.fine_tuning.jobs.create(model="tiny", training_file=upload().id, metadata={"team": "red"})
    client.fine_tuning.jobs.cancel(other.id)
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=1)]
    assert listed.index(other.id) < listed.index(finished.id)
    blue = client.get("/fine_tuning/jobs", cast_to=dict, options={"params": {"metadata[team]": "blue"}})
    assert [job["id"] for job in blue["data"]] == [finished.id]


def test_an_ended_job_cannot_be_cancelled_again(client, finished):
    with pytest.raises(openai.ConflictError, match="succeeded and cannot be cancelled"):
        client.fine_tuning.jobs.cancel(finished.id)


def test_files_upload_list_content_and_delete(client, upload):
    file = upload()
    assert (file.status, file.purpose, file.bytes) == ("processed", "fine-tune", len(chat_rows()))
    assert client.files.content(file.id).read() == chat_rows()
    assert file.id in [each.id for each in client.files.list(purpose="fine-tune", limit=2)]
    assert client.files.wait_for_processing(file.id).id == file.id
    assert client.files.delete(file.id).deleted
    assert file.id not in [each.id for each in client.files.list()]


def test_a_produced_adapter_can_be_trained_further(client, upload, finished):
    job = client.fine_tuning.jobs.create(
        model=finished.fine_tuned_model, training_file=upload().id, hyperparameters={"n_epochs": 1, "batch_size": 6}
    )
    job = wait_for(lambda: _ended(client, job.id))
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model.startswith("ft:tiny:")
    first = [event for event in client.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"][-1]
    early = [event for event in client.fine_tuning.jobs.list_events(finished.id, limit=100) if event.type == "metrics"]
    assert first.data["train_loss"] < early[-1].data["train_loss"]
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)


def test_nebius_jobs_train_full_weights_and_list_the_oldest_first(client, upload):
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload().id,
        hyperparameters={"n_epochs": 1, "batch_size": 1, "learning_rate": 1e-3, "packing": False},
    )
    job = wait_for(lambda: _ended(client, job.id))
    assert job.status == "succeeded", job.error
    assert job.hyperparameters.model_extra["lora"] is False
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert events[0].message == "Job submitted"
    [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id)
    names = [client.files.retrieve(id).filename for id in checkpoint.model_extra["result_files"]]
    assert f"step-{checkpoint.step_number}/model.safetensors" in names


def test_cancel_answers_at_once_and_the_worker_goes(client, server, upload):
    job = _long_job(client, upload)
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    wait_for(lambda: not server.worker_pids(), seconds=45)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


def test_pause_and_resume_lose_no_step(client, server, upload):
    job = _long_job(client, upload)
    client.fine_tuning.jobs.pause(job.id)
    paused = wait_for(lambda: _with_status(client, job.id, "queued"), seconds=45)
    assert server.worker_pids() == []
    client.fine_tuning.jobs.resume(job.id)
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).model_extra["trained_steps"] > paused.trained_steps)
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    told = f"Training goes on from the checkpoint of step {paused.trained_steps}, exactly: "
    assert any(message.startswith(told) for message in messages)
    client.fine_tuning.jobs.cancel(job.id)
    wait_for(lambda: not server.worker_pids(), seconds=45)


def _with_status(client, id, status):
    job = client.fine_tuning.jobs.retrieve(id)
    return job if job.status == status else None


def _long_job(client, upload):
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=upload(chat_rows(100)).id,
        hyperparameters={"n_epochs": 50, "batch_size": 1, "learning_rate_multiplier": 1},
    )
    wait_for(lambda: (client.fine_tuning.jobs.retrieve(job.id).model_extra["trained_steps"] or 0) > 2)
    return job


def test_the_example_trains_and_fetches_an_adapter(server, tmp_path):
    example = ROOT / "examples"
    command = [
        sys.executable,
        example / "openai" / "tune.py",
        "tiny",
        example / "support_triage" / "train.jsonl",
        tmp_path,
    ]
    done = subprocess.run(
        command, env={**os.environ, "TUNESMITH_URL": server.url}, capture_output=True, text=True, check=True
    )
    assert "The job has successfully completed" in done.stdout
    assert (tmp_path / "adapter_model.safetensors").stat().st_size > 0


# --- every call of the client, on both mounts ------------------------------------------------------------------------

_MOUNTS = ("/v1", "/nebius/v1")
_RESOURCES = ("files", "uploads", "models", "fine_tuning")
_GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{ sample.output_text }}",
    "reference": "x",
    "operation": "eq",
}


def _calls(resource, path):
    """Names of all calls below a resource of the client."""
    for name, member in inspect.getmembers(type(resource)):
        if name.startswith("_") or name in ("with_raw_response", "with_streaming_response"):
            continue
        if inspect.isfunction(member):
            yield f"{path}.{name}"
        elif isinstance(getattr(resource, name), SyncAPIResource):
            yield from _calls(getattr(resource, name), f"{path}.{name}")


_KNOWN = openai.OpenAI(api_key="any")
CALLS = [call for name in _RESOURCES for call in _calls(getattr(_KNOWN, name), name)]


@pytest.fixture(params=_MOUNTS)
def mounted(request, server):
    return openai.OpenAI(base_url=server.url + request.param, api_key="any", max_retries=0)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_of_the_client_works_on_both_mounts(call, mounted, finished):
    assert call in _WORKING, f"the client has a call that is not served: {call}"
    _WORKING[call](mounted, finished)


def _file(client, **more):
    return client.files.create(file=("rows.jsonl", chat_rows()), purpose="fine-tune", **more)


def _files_create(client, finished):
    file = _file(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at - file.created_at == 3600


def _files_list(client, finished):
    ours = {_file(client).id for _ in range(3)}
    for order in ("asc", "desc"):
        paged = [file.id for file in client.files.list(limit=2, order=order)]
        assert len(paged) == len(set(paged))
        assert ours <= set(paged)
    newest = [file.id for file in client.files.list(limit=100)]
    assert newest == [file.id for file in client.files.list(order="asc")][::-1]
    assert {file.purpose for file in client.files.list(purpose="fine-tune-results")} == {"fine-tune-results"}


def _files_content(client, finished):
    assert client.files.content(_file(client).id).read() == chat_rows()


def _files_retrieve_content(client, finished):
    with pytest.warns(DeprecationWarning, match="should be used instead|deprecated|`"):
        assert client.files.retrieve_content(_file(client).id) == chat_rows().decode()


def _uploads_whole(client, finished):
    content = chat_rows(40)
    md5 = hashlib.md5(content).hexdigest()
    upload = client.uploads.upload_file_chunked(
        file=content, filename="rows.jsonl", bytes=len(content), mime_type="application/jsonl", purpose="fine-tune",
        part_size=1000, md5=md5,
    )  # fmt: skip
    assert (upload.status, upload.file.bytes, upload.file.status) == ("completed", len(content), "processed")
    assert client.files.content(upload.file.id).read() == content


def _upload(client):
    return client.uploads.create(bytes=4, filename="a.txt", mime_type="text/plain", purpose="user_data")


def _uploads_create(client, finished):
    upload = _upload(client)
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)


def _uploads_cancel(client, finished):
    upload = _upload(client)
    client.uploads.parts.create(upload.id, data=b"abcd")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="cancelled"):
        client.uploads.parts.create(upload.id, data=b"abcd")


def _uploads_complete(client, finished):
    upload = _upload(client)
    parts = [client.uploads.parts.create(upload.id, data=data).id for data in (b"cd", b"ab")]
    done = client.uploads.complete(upload.id, part_ids=parts[::-1])
    assert client.files.content(done.file.id).read() == b"abcd"


def _uploads_parts_create(client, finished):
    upload = _upload(client)
    part = client.uploads.parts.create(upload.id, data=b"ab")
    assert (part.object, part.upload_id) == ("upload.part", upload.id)


def _jobs_create(client, finished):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=_file(client).id, seed=3)
    assert (job.object, job.seed, job.model) == ("fine_tuning.job", 3, "tiny")
    client.fine_tuning.jobs.cancel(job.id)


def _jobs_list(client, finished):
    paged = [job.id for job in client.fine_tuning.jobs.list(limit=1)]
    assert paged == [job.id for job in client.fine_tuning.jobs.list(limit=100)]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "blue"})] == [finished.id]


def _jobs_pause_and_resume(client, finished):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=_file(client).id, hyperparameters={"n_epochs": 20})
    assert client.fine_tuning.jobs.pause(job.id).status in ("queued", "running")
    assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
    client.fine_tuning.jobs.cancel(job.id)


def _jobs_list_events(client, finished):
    every = [event.id for event in client.fine_tuning.jobs.list_events(finished.id, limit=100)]
    assert [event.id for event in client.fine_tuning.jobs.list_events(finished.id, limit=3)] == every


def _checkpoints_list(client, finished):
    steps = [each.step_number for each in client.fine_tuning.jobs.checkpoints.list(finished.id, limit=1)]
    assert steps == ([5, 10] if "nebius" in str(client.base_url) else [10, 5])


def _permissions(client, finished):
    permissions = client.fine_tuning.checkpoints.permissions
    name = f"{finished.fine_tuned_model}:ckpt-step-5"
    made = list(permissions.create(name, project_ids=["proj_a", "proj_b", "proj_c"]))
    assert [each.project_id for each in made] == ["proj_a", "proj_b", "proj_c"]
    assert made[0].id.startswith("cp_")
    assert [each.id for each in permissions.create(name, project_ids=["proj_b"])] == [made[1].id]
    listed = [each.project_id for each in permissions.list(name, limit=2, order="ascending")]
    assert listed == ["proj_a", "proj_b", "proj_c"]
    assert [each.project_id for each in permissions.list(name)] == listed[::-1]
    assert [each.id for each in permissions.list(name, project_id="proj_b")] == [made[1].id]
    with pytest.warns(DeprecationWarning, match="should be used instead|deprecated|`"):
        assert permissions.retrieve(name, limit=1).has_more
    for each in made:
        assert permissions.delete(each.id, fine_tuned_model_checkpoint=name).deleted
    assert list(permissions.list(name)) == []
    with pytest.raises(openai.NotFoundError):
        permissions.delete(made[0].id, fine_tuned_model_checkpoint=name)
    with pytest.raises(openai.NotFoundError):
        permissions.create(f"{finished.fine_tuned_model}:ckpt-step-6", project_ids=["proj_a"])


def _graders_validate(client, finished):
    assert client.fine_tuning.alpha.graders.validate(grader=_GRADER).grader.operation == "eq"
    with pytest.raises(openai.APIStatusError, match="operation"):
        client.fine_tuning.alpha.graders.validate(grader={**_GRADER, "operation": "is"})


def _graders_run(client, finished):
    with pytest.raises(openai.BadRequestError, match="runs no graders"):
        client.fine_tuning.alpha.graders.run(grader=_GRADER, model_sample="x", item={})


def _models_delete(client, finished):
    with pytest.raises(openai.ConflictError):
        client.models.delete("tiny")


_WORKING = {
    "files.content": _files_content,
    "files.create": _files_create,
    "files.delete": lambda client, finished: client.files.delete(_file(client).id),
    "files.list": _files_list,
    "files.retrieve": lambda client, finished: client.files.retrieve(_file(client).id),
    "files.retrieve_content": _files_retrieve_content,
    "files.wait_for_processing": lambda client, finished: client.files.wait_for_processing(_file(client).id),
    "uploads.cancel": _uploads_cancel,
    "uploads.complete": _uploads_complete,
    "uploads.create": _uploads_create,
    "uploads.parts.create": _uploads_parts_create,
    "uploads.upload_file_chunked": _uploads_whole,
    "models.delete": _models_delete,
    "models.list": lambda client, finished: list(client.models.list()),
    "models.retrieve": lambda client, finished: client.models.retrieve(finished.fine_tuned_model),
    "fine_tuning.alpha.graders.run": _graders_run,
    "fine_tuning.alpha.graders.validate": _graders_validate,
    "fine_tuning.checkpoints.permissions.create": _permissions,
    "fine_tuning.checkpoints.permissions.delete": _permissions,
    "fine_tuning.checkpoints.permissions.list": _permissions,
    "fine_tuning.checkpoints.permissions.retrieve": _permissions,
    "fine_tuning.jobs.cancel": _jobs_create,
    "fine_tuning.jobs.checkpoints.list": _checkpoints_list,
    "fine_tuning.jobs.create": _jobs_create,
    "fine_tuning.jobs.list": _jobs_list,
    "fine_tuning.jobs.list_events": _jobs_list_events,
    "fine_tuning.jobs.pause": _jobs_pause_and_resume,
    "fine_tuning.jobs.resume": _jobs_pause_and_resume,
    "fine_tuning.jobs.retrieve": lambda client, finished: client.fine_tuning.jobs.retrieve(finished.id),
}


def test_the_list_of_calls_names_none_that_the_client_has_not():
    assert set(_WORKING) == set(CALLS)
