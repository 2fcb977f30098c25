import pytest

from stored_jobs import job_spec, stored_job
from tunesmith.dialects._render import Figure
from tunesmith.dialects.simplismart import render_error, render_job
from tunesmith.dialects.simplismart.render import metric, summary
from tunesmith.spec.errors import BusyError, ConflictError, InvalidRequestError, JobNotFoundError, UnsupportedError
from tunesmith.spec.job import AdapterSpec, DataSource, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.spec.reading import Reading, SplitSpec


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.VALIDATING, "QUEUED"),
        (State.QUEUED, "QUEUED"),
        (State.STARTING, "RUNNING"),
        (State.RUNNING, "RUNNING"),
        (State.PAUSED, "RUNNING"),
        (State.CANCELLING, "CANCELED"),
        (State.SUCCEEDED, "COMPLETED"),
        (State.FAILED, "FAILED"),
        (State.CANCELLED, "CANCELED"),
    ],
)
def test_every_state_has_the_origins_word(state, word):
    assert summary(stored_job(state, job_spec())).status == word


def test_a_job_has_its_configurations_as_they_were_sent():
    sent = {
        "org": "o",
        "dataset_config": {"split": None},
        "model_details": {"base_model": "m", "model_type": "vlm"},
        "train_config": {"train_type": "qlora"},
        "dataset_details": {"dataset_path": "d"},
        "infra_config": {},
    }
    job = stored_job(
        State.RUNNING,
        job_spec(),
        submission=Submission(dialect="simplismart", request=sent, name="e", notes=("n",)),
        step=3,
        total_steps=8,
        started_at=1_700_000_000.0,
    )
    rendered = render_job(job, None)
    for part in sent.keys() - {"org"}:
        assert rendered[part] == sent[part]
    assert (rendered["progress"], rendered["notes"], rendered["experiment_name"]) == (37.5, ["n"], "e")
    assert rendered["started_at"] == rendered["updated_at"] == "2023-11-14T22:13:20.000Z"
    assert rendered["completed_at"] is None
    short = summary(job)
    assert (short.model_type, short.train_type) == ("vlm", "qlora")


def test_a_job_of_another_dialect_has_the_nearest_words():
    spec = job_spec(
        DataSource(kind="file", id="a" * 32, sha256="0" * 64),
        adapter=AdapterSpec(rank=4, alpha=8, dropout=0, targets=("q_proj",)),
    )
    reading = Reading(format="query_response")
    data = spec.data.model_copy(update={"reading": reading, "split": SplitSpec(by="random", ratios=(0.5, 0.5))})
    rendered = render_job(stored_job(State.QUEUED, spec.model_copy(update={"data": data})), None)
    assert rendered["dataset_details"]["dataset_path"] == "file-" + "a" * 32
    assert rendered["dataset_details"]["dataset_format"] == "instruction"
    assert rendered["dataset_config"]["split"] == {"type": "random", "ratios": [0.5, 0.5]}
    assert rendered["train_config"]["train_type"] == "lora"
    assert rendered["train_config"]["adapter_config"]["r"] == 4


def test_figures_have_a_clock_in_utc():
    told = metric(Figure(key="train_loss", value=2.0, at=1.25, step=3, epoch=0.5))
    assert told.model_dump() == {
        "key": "train_loss",
        "value": 2.0,
        "timestamp": "1970-01-01T00:00:01.250Z",
        "step": 3,
        "epoch": 0.5,
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("x"), 400),
        (UnsupportedError("x"), 400),
        (JobNotFoundError("x"), 404),
        (ConflictError("x"), 409),
        (BusyError("x"), 409),
    ],
)
def test_an_error_is_one_sentence_under_two_keys(error, status):
    assert render_error(error, "/job") == (status, {"error": "x", "detail": "x"})


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("method.kind", "train_config.type"),
        ("method.parameters.beta", "train_config.hyperparameters.beta"),
        ("data.train", "dataset_details.dataset_path"),
        ("data.reading.format", "dataset_details.dataset_format.format"),
        ("resources.nodes", "infra_config.node_count"),
        ("resources.distribution", "train_config.distributed.type"),
        ("adapter.targets", "train_config.adapter_config.targets"),
        ("optimization.learning_rate", "train_config.hyperparameters.learning_rate"),
    ],
)
def test_an_error_names_the_field_as_the_user_typed_it(param, name):
    _, body = render_error(InvalidRequestError("No.", param=param), "/job")
    assert body["error"] == f"{name}: No."
