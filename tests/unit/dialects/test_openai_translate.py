import pytest
from pydantic import ValidationError

from tunesmith.dialects.openai.translate import is_nebius, to_spec, to_submission
from tunesmith.dialects.openai.wire import CreateJob
from tunesmith.spec.errors import InvalidRequestError, TooFewExamplesError, UnsupportedError
from tunesmith.spec.job import DataSource

TRAIN = DataSource(kind="file", id="a" * 32, sha256="0" * 64)
BASE = {"model": "m", "training_file": "file-" + "a" * 32}


def spec(rows=100, **fields):
    return to_spec(CreateJob(**BASE, **fields), train=TRAIN, validation=None, rows=rows)


@pytest.mark.parametrize(
    ("rows", "epochs", "batch_size"),
    [(10, 10, 1), (33, 4, 1), (34, 3, 1), (5000, 3, 10), (20_000, 1, 40), (10**6, 1, 256)],
)
def test_auto_is_resolved_by_the_number_of_rows(rows, epochs, batch_size):
    optimization = spec(rows=rows).optimization
    assert (optimization.epochs, optimization.batch_size) == (epochs, batch_size)


def test_openai_requests_train_an_adapter_at_the_base_rate_times_the_multiplier():
    result = spec(hyperparameters={"learning_rate_multiplier": 2.5})
    assert result.adapter is not None
    assert result.optimization.learning_rate == pytest.approx(5e-4)
    assert not result.data.packing


def test_nebius_fields_bring_nebius_defaults():
    result = spec(hyperparameters={"n_epochs": 2, "context_length": 8192})
    assert result.adapter is None
    assert result.optimization.learning_rate == 1e-5
    assert result.optimization.batch_size == 8
    assert result.data.packing
    assert result.data.over_long == "refuse"


def test_nebius_lora_has_its_own_numbers():
    result = spec(hyperparameters={"lora": True, "lora_r": 32, "lora_alpha": 64, "lora_dropout": 0.1})
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.dropout) == (32, 64, 0.1)


def test_hyperparameters_may_stand_in_the_method():
    on_top = spec(hyperparameters={"n_epochs": 4})
    in_method = spec(method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}})
    assert on_top == in_method


def test_equal_requests_have_equal_specs():
    assert spec(suffix="a", metadata={"k": "v"}) == spec(suffix="b")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method.dpo"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"from_checkpoint": {"repo": "x"}}, "from_checkpoint"),
    ],
)
def test_what_is_not_available_is_refused_by_name(fields, param):
    with pytest.raises(UnsupportedError) as caught:
        spec(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "hyperparameters",
    [{"lora": True, "batch_size": 65}, {"lora": True, "n_epochs": 21}, {"lora": True, "learning_rate_multiplier": 2}],
)
def test_nebius_ranges_hold_beside_nebius_fields(hyperparameters):
    with pytest.raises(InvalidRequestError):
        spec(hyperparameters=hyperparameters)


def test_two_different_sets_of_hyperparameters_are_refused():
    with pytest.raises(InvalidRequestError, match="differ"):
        spec(
            hyperparameters={"n_epochs": 1},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        )


def test_fewer_than_ten_rows_are_refused_as_openai_does():
    with pytest.raises(TooFewExamplesError, match="has 9 examples"):
        spec(rows=9)
    assert spec(rows=9, hyperparameters={"lora": True})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 257),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("batch_size", "8"),
        ("n_epochs", 51),
        ("n_epochs", "three"),
        ("learning_rate_multiplier", 0),
        ("learning_rate_multiplier", 1e-320),
        ("learning_rate", -1e-5),
        ("learning_rate", float("nan")),
        ("warmup_ratio", 1.5),
        ("context_length", 100),
        ("lora_r", 4),
        ("lora_r", 129),
        ("lora_alpha", 7),
        ("lora", "yes"),
        ("packing", 1),
        ("learning_rat", 1e-5),
    ],
)
def test_hyperparameters_out_of_range_or_of_wrong_type_are_refused(name, value):
    with pytest.raises(ValidationError) as caught:
        CreateJob(**BASE, hyperparameters={name: value})
    assert caught.value.errors()[0]["loc"][:2] == ("hyperparameters", name)


def test_metadata_becomes_labels_and_secrets_do_not_travel():
    request = CreateJob(
        **BASE, metadata={"team": "a"}, integrations=[{"type": "wandb", "wandb": {"api_key": "canary"}}]
    )
    submission = to_submission(request)
    assert submission.labels == {"team": "a"}
    assert "canary" not in submission.model_dump_json()


def test_tags_mark_a_request_as_nebius():
    assert is_nebius(CreateJob(**BASE, tags="one"))
    assert not is_nebius(CreateJob(**BASE, hyperparameters={"n_epochs": 3}))
