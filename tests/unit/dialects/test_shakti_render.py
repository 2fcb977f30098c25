import pytest

from stored_jobs import job_spec, stored_job
from tunesmith.dialects._render import Figure
from tunesmith.dialects.shakti import render_error, render_job
from tunesmith.dialects.shakti.render import metric, summary
from tunesmith.spec.errors import InvalidRequestError, JobNotFoundError
from tunesmith.spec.job import AdapterSpec, Submission
from tunesmith.spec.lifecycle import State


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.VALIDATING, "pending"),
        (State.QUEUED, "pending"),
        (State.STARTING, "running"),
        (State.RUNNING, "running"),
        (State.PAUSED, "running"),
        (State.SUCCEEDED, "completed"),
        (State.FAILED, "failed"),
        (State.CANCELLING, "failed"),
        (State.CANCELLED, "failed"),
    ],
)
def test_every_state_has_the_origins_word(state, word):
    assert summary(stored_job(state, job_spec())).status == word


def test_a_cancelled_job_says_that_it_was_cancelled():
    assert render_job(stored_job(State.CANCELLED, job_spec()), None)["error"] == "cancelled"
    assert render_job(stored_job(State.RUNNING, job_spec()), None)["error"] is None


def test_a_job_has_its_configuration_as_it_was_sent():
    sent = {"model_type": "llm", "base_model": "m"}
    submission = Submission(dialect="shakti", request={"org": "o", "training_config_json": sent}, name="e")
    rendered = render_job(stored_job(State.SUCCEEDED, job_spec(), submission=submission), None)
    assert (rendered["config"], rendered["name"], rendered["progress"]) == (sent, "e", 100)


def test_a_job_of_another_dialect_has_the_nearest_words():
    spec = job_spec(adapter=AdapterSpec(rank=4, alpha=8, dropout=0, targets=("q_proj",)))
    config = render_job(stored_job(State.QUEUED, spec), None)["config"]
    assert (config["model_type"], config["trainer"]["type"], config["adapter"]["r"]) == ("llm", "finetune", 4)


def test_figures_have_milliseconds():
    told = metric(Figure(key="train_loss", value=2.0, at=1.25, step=3, epoch=0.5))
    assert told.model_dump() == {"key": "train_loss", "value": 2.0, "timestamp": 1250, "step": 3}


def test_an_error_is_one_sentence_under_two_keys_and_names_the_field():
    assert render_error(JobNotFoundError("x"), "/api/llm/train") == (404, {"error": "x", "detail": "x"})
    status, body = render_error(InvalidRequestError("No.", param="adapter.targets"), "/api/llm/train")
    assert (status, body["error"]) == (400, "training_config_json.adapter.target_modules: No.")
