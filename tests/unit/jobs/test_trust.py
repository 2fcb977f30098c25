"""What the server makes of how a training goes on, of anomalies, of progress, and of silence."""

import itertools

import pytest

from tunesmith.jobs.stalls import Patience, Stalls
from tunesmith.jobs.supervisor import Supervisor
from tunesmith.runners import Exit
from tunesmith.spec import events
from tunesmith.spec.exactness import Fingerprints
from tunesmith.spec.job import SelectionSpec, Submission
from tunesmith.spec.lifecycle import State

FINGERPRINTS = Fingerprints(spec="s", data="d", tokenizer="t", model="m", libraries={"torch": "2"}, device="cpu")


@pytest.fixture
def running(house, started):
    return _begun(house, started)


def _begun(house, started, **changes):
    """A running job whose spec has some other parts."""
    job = house.jobs.submit(house.spec().model_copy(update=changes), Submission(dialect="native", request={}))
    house.tick()
    house.runner.report(started)
    house.tick()
    return job


def _resumed(started, **facts):
    return events.Resumed(at=started.at, fingerprints=FINGERPRINTS, **facts)


def test_every_resume_is_kept_with_the_job_and_told_in_words(house, running, started):
    house.runner.report(
        _resumed(started, step=4, exactness="exact"),
        _resumed(started, step=4, exactness="approximate", differences=("torch 3 instead of 2",)),
        _resumed(started, step=0, exactness="restarted", differences=("no checkpoint had been saved",)),
    )
    house.tick()
    job = house.jobs.get(running.id)
    assert [(resume.attempt, resume.step, resume.exactness) for resume in job.resumes] == [
        (1, 4, "exact"),
        (1, 4, "approximate"),
        (1, 0, "restarted"),
    ]
    assert job.resumes[1].differences == ("torch 3 instead of 2",)
    assert job.step == 0
    told = [(event.level, event.message) for event in house.jobs.events(running.id, kinds=("resumed",))]
    assert [level for level, _ in told] == ["info", "warn", "warn"]
    assert "step 4, exactly" in told[0][1]
    assert "step 4, approximately: torch 3 instead of 2." in told[1][1]
    assert told[2][1] == "Training starts again from its first step: no checkpoint had been saved."


def test_fingerprints_are_in_the_event(house, running, started):
    house.runner.report(_resumed(started, step=4, exactness="exact"))
    house.tick()
    [event] = house.jobs.events(running.id, kinds=("resumed",))
    assert event.data["fingerprints"] == FINGERPRINTS.model_dump()


def test_progress_moves_the_step_and_leaves_no_event(house, running, started):
    before = len(house.messages(running))
    house.runner.report(events.Progressed(at=started.at, step=7, total_steps=90, tokens_total=700, eta_seconds=60.0))
    house.tick()
    job = house.jobs.get(running.id)
    assert (job.step, job.total_steps, job.trained_tokens) == (7, 90, 700)
    assert job.estimated_finish == pytest.approx(started.at.timestamp() + 60)
    assert len(house.messages(running)) == before


@pytest.mark.parametrize(("what", "word"), [("spike", "usual in the steps before"), ("divergence", "for long")])
def test_an_anomaly_is_a_warning_with_its_figures_and_lines(house, running, started, what, word):
    house.runner.report(
        events.Anomaly(at=started.at, what=what, step=9, figure="loss", value=8.5, usual=1.25, lines=(3, 71))
    )
    house.tick()
    [event] = house.jobs.events(running.id, kinds=("anomaly",))
    assert event.level == "warn"
    for part in ("Step 9", "8.5", "1.25", "3, 71", word):
        assert part in event.message
    assert event.data["lines"] == [3, 71]
    assert house.jobs.get(running.id).state is State.RUNNING


@pytest.mark.parametrize(
    ("evaluations", "min_improvement", "words"),
    [
        (3, 0.0, "the last 3 evaluations did not improve the best loss. The best"),
        (1, 0.0, "the last evaluation did not improve the best loss. The best"),
        (1, 0.25, "the last evaluation did not improve the best loss by more than 0.25. The best"),
    ],
)
def test_an_early_end_is_told_with_the_best_step(house, started, evaluations, min_improvement, words):
    selection = SelectionSpec(patience=evaluations, min_improvement=min_improvement)
    job = _begun(house, started, selection=selection)
    house.runner.report(
        events.StoppedEarly(at=started.at, step=9, best_step=6, best_value=0.5, metric="loss", evaluations=evaluations)
    )
    house.tick()
    message = house.messages(job)[-1]
    assert message == f"The training ends early, at step 9: {words} is that of step 6, 0.5."


def test_the_best_checkpoint_is_the_offered_one_with_the_best_score(house, running, saved):
    run = house.runner.runs[-1]
    scores = {1: 3.0, 2: 1.0, 3: 1.0, 4: None, 5: 2.0}
    house.runner.report(
        *(saved(run, step).model_copy(update={"score": score}) for step, score in scores.items()),
        saved(run, 6, offered=False).model_copy(update={"score": 0.1}),
    )
    house.tick()
    assert house.jobs.best_checkpoint(running.id).step == 2


@pytest.mark.parametrize(("weights_of", "step"), [(6, 6), (2, 2), (None, 8)])
def test_the_best_checkpoint_is_the_one_whose_weights_the_result_has(house, started, saved, weights_of, step):
    job = _begun(house, started, selection=SelectionSpec(result="best"))
    run = house.runner.runs[-1]
    scores = {2: (1.0, True), 4: (3.0, True), 6: (0.5, False), 7: (0.9, False), 8: (2.0, True)}
    run.artifact.mkdir()
    for at, (score, offered) in scores.items():
        house.runner.report(saved(run, at, offered=offered).model_copy(update={"score": score}))
    house.runner.report(
        events.Succeeded(at=started.at, step=8, path="artifact", weights_of=weights_of, logit_change=0.1),
    )
    house.runner.end(Exit(code=0, signal=None))
    house.tick()
    assert house.jobs.get(job.id).state is State.SUCCEEDED
    best = house.jobs.best_checkpoint(job.id)
    assert best.step == step
    listed = house.jobs.checkpoints(job.id)
    assert [each.step for each in listed] == sorted({8, 4, 2, step}, reverse=True)
    assert best in listed
    assert best.files
    assert (run.checkpoints / f"step-{step:08d}").is_dir()
    assert not (run.checkpoints / "step-00000007").exists()


def test_a_job_without_evaluations_has_no_best_checkpoint(house, running, saved):
    house.runner.report(saved(house.runner.runs[-1], 1))
    house.tick()
    assert house.jobs.best_checkpoint(running.id) is None


def test_a_later_attempt_removes_a_checkpoint_of_an_earlier_one(house, running, started, metrics, saved):
    first = house.runner.runs[-1]
    house.runner.report(saved(first, 1), saved(first, 2))
    house.runner.end(Exit(signal=9))
    house.tick()
    path = str(first.checkpoints / "step-00000001")
    house.runner.report(started, events.CheckpointRemoved(at=started.at, step=1, path=path))
    house.tick()
    assert [checkpoint.step for checkpoint in house.jobs.checkpoints(running.id)] == [2]


# --- silence ---------------------------------------------------------------------------------------------------------

KEY = ("job", 1)


def _looks(signs):
    """What is due at each second, for signs that a worker gives."""
    seconds = itertools.count()
    stalls = Stalls(Patience(warning=3, limit=6), clock=lambda: next(seconds))
    return [stalls.look(KEY, sign) for sign in signs], stalls


def test_a_silent_worker_is_warned_of_once_and_then_removed_once():
    due, stalls = _looks([5.0] * 9)
    assert due == [None, None, None, "warn", None, None, "lost", None, None]
    assert stalls.verdict(KEY) == "removed after 6 s without a sign of getting on"
    assert stalls.verdict(KEY) is None


def test_a_sign_begins_the_silence_anew():
    due, stalls = _looks([1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
    assert due == [None] * 6 + ["warn"] + [None] * 3 + ["warn"]
    assert stalls.verdict(KEY) is None


def test_a_worker_that_has_not_said_a_word_yet_is_silent_too():
    due, _ = _looks([None] * 7)
    assert due[3] == "warn"
    assert due[6] == "lost"


def test_a_limit_below_the_warning_removes_without_one():
    seconds = itertools.count()
    stalls = Stalls(Patience(warning=9, limit=2), clock=lambda: next(seconds))
    assert [stalls.look(KEY, 1.0) for _ in range(4)] == [None, None, "lost", None]


def test_a_hung_worker_is_dumped_removed_and_replaced(house, running, saved, tmp_path):
    house.runner.report(saved(house.runner.runs[-1], 1))
    impatient = Supervisor(
        house.database,
        house.runner,
        house.supervisor._publisher,
        house.supervisor._use,
        tmp_path / "jobs",
        "server",
        Patience(warning=1e-9, limit=1e-9),
    )
    impatient.tick()
    impatient.tick()
    assert house.runner.stops == [(1, True)]
    house.runner.end(Exit(signal=9))
    impatient.tick()
    assert any("without a sign of getting on" in message for message in house.messages(running))
    house.tick()
    assert len(house.runner.runs) == 2
    assert len(house.runner.runs[-1].read_spec().resume_from) == 1


def test_a_hung_worker_that_the_server_removed_is_not_told_as_one_without_memory(house, running, tmp_path):
    impatient = Supervisor(
        house.database,
        house.runner,
        house.supervisor._publisher,
        house.supervisor._use,
        tmp_path / "jobs",
        "server",
        Patience(warning=1e-9, limit=1e-9),
    )
    for _ in range(3):
        impatient.tick()
        impatient.tick()
        house.runner.end(Exit(signal=9, out_of_memory=True))  # of something else that ended meanwhile
        impatient.tick()
        house.scheduler.tick()
    job = house.jobs.get(running.id)
    assert (job.state, job.error.code) == (State.FAILED, "worker_lost")
    assert "without a sign of getting on" in job.error.message


def test_a_silent_worker_is_warned_of_with_its_step(house, running, metrics, tmp_path):
    house.runner.report(metrics(3))
    patient = Supervisor(
        house.database,
        house.runner,
        house.supervisor._publisher,
        house.supervisor._use,
        tmp_path / "jobs",
        "server",
        Patience(warning=1e-9, limit=1e9),
    )
    for _ in range(3):
        patient.tick()
    [event] = house.jobs.events(running.id, kinds=("anomaly",))
    assert (event.data["what"], event.data["step"], event.level) == ("stall", 3, "warn")
    assert house.runner.dumps == [1]
    assert house.runner.stops == []
