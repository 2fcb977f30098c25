import pytest

from open_doors import open_doors
from stored_jobs import job_spec, optimization, stored_job
from tunesmith.dialects._render import MAX_REPORTS, clock, figures, figures_of, progress, render_id, updated_at
from tunesmith.spec.lifecycle import State
from tunesmith.store import events
from tunesmith.store.events import Event

SHARED = {"token_accuracy": 0.5, "learning_rate": 1e-4, "grad_norm": 1.0}


@pytest.fixture
def doors(tmp_path):
    with open_doors(tmp_path) as doors:
        yield doors


def report(number, kind, **data):
    return Event(
        number=number,
        id=str(number),
        job_id="b" * 32,
        attempt=1,
        at=1.25,
        level="info",
        kind=kind,
        message="",
        data=data,
    )


def test_figures_of_a_step_that_ran_twice_are_those_of_the_last_run():
    found = figures(
        [
            report(1, "metrics", step=1, epoch=0.5, loss=3.0, **SHARED),
            report(3, "metrics", step=1, epoch=0.5, loss=2.0, **SHARED),
            report(4, "evaluated", step=1, loss=2.5, token_accuracy=0.4),
        ]
    )
    assert [(each.key, each.value, each.epoch) for each in found] == [
        ("train_loss", 2.0, 0.5),
        ("train_token_accuracy", 0.5, 0.5),
        ("learning_rate", 1e-4, 0.5),
        ("grad_norm", 1.0, 0.5),
        ("eval_loss", 2.5, 0.5),
        ("eval_token_accuracy", 0.4, 0.5),
    ]
    assert {each.at for each in found} == {1.25}


def test_of_a_long_training_the_newest_reports_are_told_in_order(doors):
    job = doors.add_job()
    with doors.database.write() as connection:
        for step in range(MAX_REPORTS + 2):
            data = {"step": step, "epoch": 0.5, "loss": 1.0, **SHARED}
            events.add(connection, job.id, at=float(step), kind="metrics", message="", data=data)
            if step % 1000 == 0:
                events.add(connection, job.id, at=float(step), kind="note", message="Not a figure.")
    steps = [each.step for each in figures_of(doors.services, job.id) if each.key == "train_loss"]
    assert steps == list(range(2, MAX_REPORTS + 2))


@pytest.mark.parametrize(
    ("state", "steps", "expected"),
    [
        (State.QUEUED, {}, 0.0),
        (State.RUNNING, {"step": 3, "total_steps": 8}, 37.5),
        (State.RUNNING, {"step": 9, "total_steps": 8}, 100.0),
        (State.CANCELLED, {"step": 1, "total_steps": 3}, 33.33),
        (State.SUCCEEDED, {}, 100.0),
    ],
)
def test_progress_is_the_percentage_of_the_steps(state, steps, expected):
    assert progress(stored_job(state, job_spec(), **steps)) == expected


def test_before_the_steps_are_counted_those_that_were_asked_for_are_taken():
    asked = optimization().model_copy(update={"max_steps": 10})
    assert progress(stored_job(State.RUNNING, job_spec(optimization=asked), step=1)) == 10.0


def test_a_job_was_updated_when_it_last_changed():
    job = stored_job(State.RUNNING, job_spec(), created_at=1.0, started_at=3.0)
    assert updated_at(job) == 3.0
    assert updated_at(job.model_copy(update={"priority_changed_at": 4.0})) == 4.0


def test_clocks_are_utc_to_the_millisecond_and_ids_have_dashes():
    assert clock(1_649_864_525.901) == "2022-04-13T15:42:05.901Z"
    assert render_id("b" * 32) == "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
