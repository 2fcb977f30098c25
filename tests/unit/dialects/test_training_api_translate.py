import pytest
from pydantic import ValidationError

from tunesmith.dialects.training_api.translate import to_spec, to_submission
from tunesmith.dialects.training_api.wire import TrainingRequest
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import DataSource, StartSpec

TRAIN = DataSource(kind="dataset", id="v1.0", sha256="0" * 64)


def spec(adapter=None, **fields):
    return to_spec(TrainingRequest(**fields), train=TRAIN, modality="text", adapter=adapter)


def test_an_empty_request_has_the_origins_defaults():
    result = spec()
    assert result.model.base == "Qwen/Qwen2.5-1.5B-Instruct"
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.dropout) == (64, 128, 0)
    assert (result.optimization.schedule, result.optimization.warmup_ratio) == ("cosine", 0.1)
    assert result.optimization.batch_size == 8
    assert result.optimization.learning_rate == 2e-5
    assert result.optimization.epochs == 3.0
    assert (result.data.max_length, result.data.max_samples) == (2048, 10_000)


@pytest.mark.parametrize("rate", ["2.0e-5", 2e-5, "0.00002"])
def test_the_learning_rate_may_be_text_or_a_number(rate):
    assert spec(learning_rate=rate).optimization.learning_rate == 2e-5


def test_batch_size_times_accumulation_is_the_batch_of_a_step():
    assert spec(batch_size=3, gradient_accumulation_steps=4).optimization.batch_size == 12


def test_a_registered_adapter_is_continued():
    adapter = StartSpec(kind="model", id="ft:m:local::12345678")
    assert spec(adapter=adapter).init_from == adapter


def test_a_folder_of_the_server_is_refused_by_name():
    with pytest.raises(UnsupportedError) as caught:
        spec(adapter_path="saves/adapter")
    assert caught.value.param == "adapter_path"


def test_the_stage_is_the_method():
    assert spec(training_type="dpo").method.model_dump() == {"kind": "dpo", "parameters": {"beta": 0.1}}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", 0),
        ("num_epochs", 0),
        ("batch_size", 0),
        ("batch_size", "1"),
        ("cutoff_len", -1),
        ("tracking_backend", "tensorboard"),
        ("training_type", "grpo"),
        ("webhook_url", "not a url"),
        ("modelname", "x"),
    ],
)
def test_bad_fields_are_refused(name, value):
    with pytest.raises(ValidationError) as caught:
        TrainingRequest(**{name: value})
    assert caught.value.errors()[0]["loc"][0] == name


def test_a_step_of_too_many_rows_is_refused():
    with pytest.raises(ValidationError, match="at most 65536 rows"):
        TrainingRequest(batch_size=1024, gradient_accumulation_steps=1024)


def test_the_old_name_of_the_tracker_field_is_taken():
    assert TrainingRequest(logging_backend="mlflow").tracking_backend == "mlflow"


def test_fields_without_effect_are_noted_one_by_one():
    request = TrainingRequest(tracking_backend="mlflow", lora_name="initial-sft")
    notes = to_submission(request, when_busy="queue", adapter=None).notes
    for field in ("tracking_backend", "template", "initial-sft"):
        assert any(field in note for note in notes)


def test_the_echo_holds_every_field_but_the_webhook():
    request = TrainingRequest(webhook_url="https://user:canary@example.org/hook", learning_rate="2.0e-5")
    submission = to_submission(request, when_busy="reject", adapter=None)
    assert set(submission.request) == set(TrainingRequest.model_fields) - {"webhook_url"}
    assert submission.request["learning_rate"] == 2e-5
    assert "canary" not in submission.model_dump_json()
    assert submission.when_busy == "reject"
