"""The unmodified openai client against a real server and real training."""

import csv
import io
import json

import openai
import pytest

from rows import chat_rows
from running_server import wait_for

pytestmark = pytest.mark.slow


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
    assert events[-1].message == "The job was created."
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
    assert events[0].message == "The job was created."
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
    assert f"Training goes on from the checkpoint of step {paused.trained_steps}." in messages
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
