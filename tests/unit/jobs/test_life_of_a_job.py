import shutil
from pathlib import Path

import pytest

from stored_jobs import job_spec, stored_job
from tunesmith.jobs.publishing import model_name
from tunesmith.runners import Exit
from tunesmith.spec import events
from tunesmith.spec.errors import BusyError, ErrorInfo, JobNotFoundError, JobStateError
from tunesmith.spec.job import ModelSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.store import attempts

LOST = Exit(signal=9)
DONE = Exit(code=0)


SUBMISSION = Submission(dialect="native", request={}, suffix="A b!")


def state(house, job):
    return house.jobs.get(job.id).state


def run_to_start(house, started):
    job = house.submit()
    house.tick()
    house.runner.report(started)
    house.tick()
    assert state(house, job) is State.RUNNING
    return job


def succeed(house, job, metrics, step=4):
    run = house.runner.runs[-1]
    run.artifact.mkdir()
    (run.artifact / "adapter_model.safetensors").write_text("final")
    house.runner.report(metrics(step), events.Succeeded(at=metrics(1).at, step=step, path="artifact", logit_change=0.5))
    house.runner.end(DONE)
    house.tick()


def test_a_job_goes_from_the_queue_to_success(house, started, metrics):
    job = run_to_start(house, started)
    succeed(house, job, metrics)
    job = house.jobs.get(job.id)
    assert job.state is State.SUCCEEDED
    assert (job.step, job.total_steps, job.trained_tokens) == (4, 4, 40)
    assert job.finished_at is not None
    assert job.model_id == f"ft:m:local::{job.id[:8]}"


def test_the_artifact_moves_to_the_models(house, started, metrics, tmp_path):
    job = run_to_start(house, started)
    succeed(house, job, metrics)
    assert (tmp_path / "models" / job.id / "adapter_model.safetensors").read_text() == "final"


def test_the_metrics_become_a_table(house, started, metrics):
    job = run_to_start(house, started)
    house.runner.report(
        metrics(1), metrics(2), events.Evaluated(at=metrics(1).at, step=2, loss=3.0, token_accuracy=0.25)
    )
    succeed(house, job, metrics, step=3)
    from tunesmith.store import files

    with house.database.read() as connection:
        file = files.get(connection, house.jobs.get(job.id).result_file_id)
    lines = house.storage.path(file.sha256).read_text().splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert lines[2] == "2,2.3,0.5,3.0,0.25"
    assert lines[3].endswith(",,")


def test_jobs_start_in_order_of_arrival_one_a_device(house, started):
    first, second = house.submit(), house.submit()
    house.tick()
    house.tick()
    assert (state(house, first), state(house, second)) == (State.STARTING, State.QUEUED)
    assert len(house.runner.runs) == 1


def test_a_device_whose_memory_is_not_back_is_not_used(house):
    job = house.submit()
    house.runner.clear = False
    house.tick()
    assert state(house, job) is State.QUEUED
    house.runner.clear = True
    house.tick()
    assert state(house, job) is State.STARTING


def test_a_lost_worker_is_replaced_and_goes_on_from_its_checkpoint(house, started, metrics, saved):
    job = run_to_start(house, started)
    first = house.runner.runs[-1]
    house.runner.report(metrics(1), saved(first, 1, offered=False), metrics(2))
    house.runner.end(LOST)
    house.tick()
    assert state(house, job) is State.STARTING
    second = house.runner.runs[-1]
    assert second != first
    assert second.read_spec().resume_from == (first.path / "checkpoints/step-00000001",)
    assert any("signal 9" in message for message in house.messages(job))


def test_a_worker_lost_again_and_again_without_progress_fails_the_job(house, started):
    job = run_to_start(house, started)
    for _ in range(3):
        house.runner.end(LOST)
        house.tick()
    job = house.jobs.get(job.id)
    assert job.state is State.FAILED
    assert job.error.code == "worker_lost"


def test_progress_forgives_earlier_losses(house, started, metrics, saved):
    job = run_to_start(house, started)
    for step in range(1, 6):
        house.runner.report(metrics(step), saved(house.runner.runs[-1], step))
        house.runner.end(LOST)
        house.tick()
    assert state(house, job) is State.STARTING


def test_a_reported_failure_is_final(house, started):
    job = run_to_start(house, started)
    error = ErrorInfo(code="non_finite", message="NaN.")
    house.runner.report(events.Failed(at=started.at, error=error))
    house.runner.end(Exit(code=1))
    house.tick()
    job = house.jobs.get(job.id)
    assert (job.state, job.error) == (State.FAILED, error)
    with house.database.read() as connection:
        assert attempts.unended(connection) == []


def test_cancelling_a_waiting_job_takes_effect_at_once(house):
    job = house.submit()
    assert house.jobs.cancel(job.id).state is State.CANCELLED
    house.tick()
    assert house.runner.runs == []


@pytest.mark.parametrize("reports", [True, False], ids=["saves and ends", "dies"])
def test_cancelling_a_running_job_asks_its_worker_to_end(house, started, reports):
    job = run_to_start(house, started)
    assert house.jobs.cancel(job.id).state is State.CANCELLING
    house.tick()
    assert house.runner.stops == [(1, False)]
    if reports:
        house.runner.report(events.Stopped(at=started.at, step=1))
    house.runner.end(DONE)
    house.tick()
    assert state(house, job) is State.CANCELLED


def test_a_job_that_finishes_while_it_is_cancelled_stays_cancelled_and_leaves_no_model(house, started, metrics):
    job = run_to_start(house, started)
    house.jobs.cancel(job.id)
    succeed(house, job, metrics)
    job = house.jobs.get(job.id)
    assert (job.state, job.model_id) == (State.CANCELLED, None)


def test_a_worker_that_ignores_the_request_is_removed_after_the_grace(house, started, monkeypatch):
    job = run_to_start(house, started)
    house.jobs.cancel(job.id)
    house.tick()
    monkeypatch.setattr("tunesmith.jobs.supervisor.GRACE_SECONDS", 0)
    house.tick()
    assert house.runner.stops == [(1, False), (1, True)]
    house.runner.end(LOST)
    house.tick()
    assert state(house, job) is State.CANCELLED


def test_pause_frees_the_device_and_resume_goes_on(house, started, metrics, saved):
    job, other = run_to_start(house, started), house.submit()
    house.jobs.pause(job.id)
    house.runner.report(saved(house.runner.runs[-1], 1, offered=False), events.Stopped(at=started.at, step=1))
    house.runner.end(DONE)
    house.tick()
    assert state(house, job) is State.PAUSED
    assert state(house, other) is State.STARTING
    house.runner.report(started)
    succeed(house, other, metrics)
    house.jobs.resume(job.id)
    house.tick()
    assert state(house, job) is State.STARTING
    assert len(house.runner.runs[-1].read_spec().resume_from) == 1


def test_resume_during_pausing_puts_the_job_back_into_the_queue(house, started):
    job = run_to_start(house, started)
    house.jobs.pause(job.id)
    assert house.jobs.resume(job.id).state is State.REQUEUEING
    house.runner.report(events.Stopped(at=started.at, step=1))
    house.runner.end(DONE)
    house.tick()
    assert state(house, job) is State.STARTING


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_an_ended_job_cannot_be_steered(house, verb):
    job = house.submit()
    house.jobs.cancel(job.id)
    with pytest.raises(JobStateError, match="is cancelled and cannot be"):
        getattr(house.jobs, verb)(job.id)


@pytest.mark.parametrize("verb", ["get", "cancel", "pause", "resume", "events", "checkpoints", "logs"])
def test_an_unknown_job_is_named(house, verb):
    with pytest.raises(JobNotFoundError, match="'nobody'"):
        getattr(house.jobs, verb)("nobody")


def test_a_submission_may_ask_not_to_wait(house):
    house.submit()
    with pytest.raises(BusyError):
        house.submit(when_busy="reject")
    house.jobs.cancel(house.jobs.newest_first(limit=1)[0].id)
    assert house.submit(when_busy="reject")


def test_notes_become_warnings(house):
    job = house.submit(notes=("x has no effect.",))
    assert [event.message for event in house.jobs.events(job.id) if event.level == "warn"] == ["x has no effect."]


def test_a_worker_started_just_before_the_server_died_is_found_again(house, started):
    job = house.submit()
    house.tick()
    with house.database.write() as connection:
        attempts.change(connection, attempts.newest(connection, job.id), handle=None)
    house.runner.found = {"pid": 1}
    house.runner.report(started)
    house.tick()
    assert state(house, job) is State.RUNNING
    assert len(house.runner.runs) == 1


def test_a_worker_that_was_never_started_is_started_again(house):
    job = house.submit()
    house.tick()
    with house.database.write() as connection:
        attempts.change(connection, attempts.newest(connection, job.id), handle=None)
    house.tick()
    assert state(house, job) is State.STARTING
    assert len(house.runner.runs) == 2


def test_a_model_that_disappeared_fails_the_job_with_the_reason(house, tmp_path):
    job = house.submit()
    (tmp_path / "m" / "config.json").unlink()
    house.tick()
    job = house.jobs.get(job.id)
    assert (job.state, job.error.code) == (State.FAILED, "model_load")


def test_offered_checkpoints_can_be_downloaded_until_they_are_removed(house, started, metrics, saved):
    job = run_to_start(house, started)
    run = house.runner.runs[-1]
    house.runner.report(metrics(1), saved(run, 1), metrics(2), saved(run, 2))
    house.tick()
    newest, oldest = house.jobs.checkpoints(job.id)
    assert (newest.step, oldest.step) == (2, 1)
    assert newest.metrics == {"step": 2, "train_loss": 2.3, "train_mean_token_accuracy": 0.5}
    assert house.storage.path(f"{1:064d}").read_text() == "weights of step 1"
    house.runner.report(events.CheckpointRemoved(at=started.at, step=1, path="checkpoints/step-00000001"))
    house.tick()
    assert [checkpoint.step for checkpoint in house.jobs.checkpoints(job.id)] == [2]
    assert not house.storage.path(f"{1:064d}").exists()


def test_states_kept_only_for_a_crash_go_when_the_job_ends(house, started, metrics, saved):
    job = run_to_start(house, started)
    run = house.runner.runs[-1]
    house.runner.report(metrics(1), saved(run, 1, offered=False), metrics(2), saved(run, 2))
    succeed(house, job, metrics)
    assert [Path(folder).name for folder in sorted(run.checkpoints.iterdir())] == ["step-00000002"]


def test_a_half_written_event_waits_for_its_end(house, started):
    job = run_to_start(house, started)
    run = house.runner.runs[-1]
    line = events.Note(at=started.at, level="info", message="whole").model_dump_json().encode() + b"\n"
    with run.events.open("ab") as file:
        file.write(line[:10])
        file.flush()
        house.tick()
        assert "whole" not in house.messages(job)
        file.write(line[10:])
    house.tick()
    assert "whole" in house.messages(job)


def test_a_checkpoint_that_is_gone_before_it_was_read_about_does_no_harm(house, started, metrics, saved):
    job = run_to_start(house, started)
    event = saved(house.runner.runs[-1], 1)
    shutil.rmtree(house.runner.runs[-1].path / event.path)
    house.runner.report(event, events.CheckpointRemoved(at=started.at, step=1, path=event.path))
    succeed(house, job, metrics)
    assert state(house, job) is State.SUCCEEDED
    assert house.jobs.checkpoints(job.id) == []


def test_cancelling_a_waiting_job_lets_go_of_data_that_was_deleted_meanwhile(house, tmp_path):
    blob = house.storage.put(b"rows")
    spec = house.spec()
    source = spec.data.train.model_copy(update={"sha256": blob.sha256})
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"train": source})})
    job = house.jobs.submit(spec, Submission(dialect="native", request={}))
    assert blob.path.exists()
    house.jobs.cancel(job.id)
    assert not blob.path.exists()


def test_cancelling_a_paused_job_removes_its_saved_state(house, started, saved):
    job = run_to_start(house, started)
    run = house.runner.runs[-1]
    house.jobs.pause(job.id)
    house.runner.report(saved(run, 1, offered=False), events.Stopped(at=started.at, step=1))
    house.runner.end(DONE)
    house.tick()
    assert len(list(run.checkpoints.iterdir())) == 1
    house.jobs.cancel(job.id)
    assert list(run.checkpoints.iterdir()) == []


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("owner/m", "ft:owner/m:local:a-b:12345678"),
        ("ft:owner/m:local::87654321", "ft:owner/m:local:a-b:12345678"),
        ("owner/m-LoRa:mine-aB1c", "ft:owner/m:local:a-b:12345678"),
        ("ft:owner/m:local::87654321-LoRa:mine-aB1c", "ft:owner/m:local:a-b:12345678"),
    ],
)
def test_a_produced_models_name_has_the_base_below(base, expected):
    spec = job_spec(model=ModelSpec(base=base, dtype="float32"))
    job = stored_job(State.RUNNING, spec, id="12345678" + "0" * 24, submission=SUBMISSION)
    assert model_name(job) == expected
