import pytest

from tunesmith.dialects.openai.mounts import NEBIUS, OPENAI
from tunesmith.dialects.openai.reading import NebiusRequestError, read_create_job
from tunesmith.dialects.openai.translate import Resolved, to_spec, to_submission
from tunesmith.spec.errors import InvalidRequestError, TooFewExamplesError, UnsupportedError
from tunesmith.spec.job import DataSource, ModelSpec, StartSpec

TRAIN = DataSource(kind="file", id="a" * 32, sha256="0" * 64)
BASE = {"model": "m", "training_file": "file-" + "a" * 32}


def read(mount=OPENAI, **fields):
    return read_create_job({**BASE, **fields}, mount)


def spec(rows=100, mount=OPENAI, **fields):
    model = ModelSpec(base="m", dtype="bfloat16")
    inputs = Resolved(model=model, start=None, train=TRAIN, validation=None, rows=rows)
    return to_spec(read(mount, **fields), inputs)


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


def test_a_request_on_nebius_mount_is_read_by_nebius_rules_whatever_it_holds():
    assert spec(mount=NEBIUS).adapter is None
    assert spec(mount=NEBIUS, hyperparameters={"n_epochs": 2}).optimization.learning_rate == 1e-5


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": "one"},
        {"tags": ["one"]},
        {"extra_body": {}},
        {"from_checkpoint": {"repo": "owner/name"}},
        {"method": {"type": "spec-draft"}},
        {"hyperparameters": {"lora": True}},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"packing": False}}}},
        {"integrations": [{"type": "wandb", "wandb": {"project": "p", "api_key": "k"}}]},
        {"integrations": [{"type": "hf", "hf": {"output_repo_name": "o/n", "api_token": "t"}}]},
    ],
)
def test_a_field_that_only_nebius_has_marks_a_request(fields):
    assert read(**fields).flavour == "nebius"
    assert to_submission(read(**fields)).flavour == "nebius"


@pytest.mark.parametrize(
    "fields",
    [
        {"hyperparameters": {"n_epochs": 3, "lora": None}},
        {"tags": None},
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        {"method": {"type": "dpo"}},
    ],
)
def test_what_both_vendors_have_does_not_mark_a_request(fields):
    assert read(**fields).flavour == "openai"


def test_hyperparameters_may_stand_in_the_method():
    on_top = spec(hyperparameters={"n_epochs": 4})
    in_method = spec(method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}})
    assert on_top == in_method


def test_equal_hyperparameters_in_both_places_and_an_empty_one_are_accepted():
    numbers = {"n_epochs": 4, "lora": True}
    once = spec(hyperparameters=numbers)
    for on_top, in_method in ((numbers, numbers), ({}, numbers), (numbers, {})):
        method = {"type": "supervised", "supervised": {"hyperparameters": in_method}}
        assert spec(hyperparameters=on_top, method=method) == once


def test_two_different_sets_of_hyperparameters_are_refused():
    with pytest.raises(InvalidRequestError, match="differ"):
        spec(
            hyperparameters={"n_epochs": 1},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        )


def test_preference_tuning_becomes_a_method_with_a_beta_and_reads_preference_rows():
    asked = spec(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 2}}})
    assert (asked.method.kind, asked.method.parameters) == ("dpo", {"beta": 0.3})
    assert (asked.data.reading.format, asked.optimization.epochs) == ("preference", 2)
    assert spec(method={"type": "dpo"}).method.parameters == {"beta": 0.1}


GRADER = {"type": "string_check", "name": "g", "input": "a", "reference": "b", "operation": "eq"}


@pytest.mark.parametrize(
    "method",
    [
        {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
        {"type": "spec-draft", "spec_draft": {"hyperparameters": {"num_decoding_heads": 2}}},
    ],
)
def test_a_method_that_is_not_there_yet_is_refused_with_the_reason(method):
    with pytest.raises(UnsupportedError, match="well formed, but this version has no such method") as caught:
        spec(method=method)
    assert caught.value.param == "method.type"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method.dpo"),
        ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
        ({"method": {"type": "reinforcement"}, "suffix": "x" * 65}, "suffix"),
        ({"method": {"type": "magic"}}, "method.type"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0}}}}, "method.dpo.hyperparameters.beta"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.reinforcement.grader"),
        (
            {"method": {"type": "reinforcement", "reinforcement": {"grader": {**GRADER, "operation": "is"}}}},
            "method.reinforcement.grader.operation",
        ),
        (
            {"method": {"type": "spec-draft", "spec_draft": {"hyperparameters": {"learning_rate": 1}}}},
            "method.spec_draft.hyperparameters.learning_rate",
        ),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations.0.wandb.project"),
        ({"integrations": [{"type": "wandb"}]}, "integrations.0"),
        ({"integrations": [{"type": "mlflow", "mlflow": {"tracking_uri": "u"}}]}, "integrations.0.mlflow.username"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}] * 6}, "integrations"),
        ({"from_checkpoint": {"type": "hf"}}, "from_checkpoint"),
        ({"from_checkpoint": {"type": "ft", "job_id": "ftjob-1"}}, "from_checkpoint"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"tags": [""]}, "tags"),
        ({"learning_rat": 1}, "learning_rat"),
    ],
)
def test_a_fault_is_told_by_the_path_that_the_user_typed(fields, param):
    with pytest.raises(InvalidRequestError) as caught:
        spec(**fields)
    assert caught.value.param == param


def test_nebius_ranges_hold_beside_nebius_fields():
    for name, value in (("batch_size", 65), ("n_epochs", 21)):
        with pytest.raises(NebiusRequestError, match=f"{name} must be from 1 to"):
            spec(hyperparameters={"lora": True, name: value})


def test_a_multiplier_beside_nebius_fields_has_no_effect_and_is_noted():
    fields = {"hyperparameters": {"lora": True, "learning_rate_multiplier": 2e-5}}
    assert spec(**fields).optimization.learning_rate == 1e-5
    assert "learning_rate_multiplier has no effect" in to_submission(read(**fields)).notes[0]


def test_the_shape_of_an_adapter_that_is_not_asked_for_has_no_effect_and_is_noted():
    shape = {"lora": False, "lora_r": 16, "lora_alpha": 8}
    assert spec(hyperparameters=shape).adapter is None
    [note] = to_submission(read(hyperparameters=shape)).notes
    assert note.startswith("lora_r has no effect")
    assert to_submission(read(hyperparameters=shape | {"lora": True})).notes == ()


def test_a_multiplier_that_was_meant_as_a_rate_is_warned_of():
    for fields in (
        {"hyperparameters": {"learning_rate_multiplier": 2e-5}},
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"learning_rate_multiplier": 2e-5}}}},
    ):
        [note] = to_submission(read(**fields)).notes
        assert "learning_rate_multiplier 2e-05 times the base rate of 0.0002 is a learning rate of 4e-09" in note
    assert to_submission(read(hyperparameters={"learning_rate_multiplier": 5e-4})).notes == ()


def test_an_empty_suffix_is_refused_by_openais_rules_and_none_by_nebius():
    with pytest.raises(InvalidRequestError, match="1 to 64 characters") as caught:
        to_submission(read(suffix=""))
    assert caught.value.param == "suffix"
    assert to_submission(read(mount=NEBIUS, suffix="")).suffix == ""


def test_a_request_without_a_seed_has_the_one_that_its_vendor_shows():
    assert spec().optimization.seed == 42
    assert spec(mount=NEBIUS).optimization.seed == 0
    assert spec(mount=NEBIUS, seed=7).optimization.seed == 7


def test_keys_that_nobody_knows_are_noted_by_nebius_rules_and_refused_by_openais():
    fields = {
        "colour": "red",
        "hyperparameters": {"lora": True, "speed": 3},
        "integrations": [{"type": "wandb", "wandb": {"project": "p", "mood": "good"}}],
        "extra_body": {"depth": 1},
    }
    [note] = to_submission(read(**fields)).notes
    assert note == (
        "Keys that are not known here and have no effect: "
        "'hyperparameters.speed', 'integrations.0.wandb.mood', 'colour', 'extra_body.depth'."
    )
    with pytest.raises(InvalidRequestError, match="colour is not a field"):
        read(colour="red")


def test_a_fault_beside_an_unknown_key_is_still_told():
    with pytest.raises(NebiusRequestError) as caught:
        read(colour="red", hyperparameters={"lora": "yes"})
    assert caught.value.param == "hyperparameters.lora"


def test_extra_body_does_not_hide_fields_of_the_request():
    with pytest.raises(InvalidRequestError) as caught:
        to_submission(read(extra_body={"seed": 5}))
    assert caught.value.param == "extra_body.seed"


def test_equal_requests_have_equal_specs():
    assert spec(suffix="a", metadata={"k": "v"}) == spec(suffix="b")


def test_weights_to_begin_with_are_part_of_the_spec():
    start = StartSpec(kind="hub", id="owner/name")
    inputs = Resolved(model=ModelSpec(base="b", dtype="float32"), start=start, train=TRAIN, validation=None, rows=10)
    asked = to_spec(read(hyperparameters={"dtype": "float32"}), inputs)
    assert (asked.init_from, asked.model.base, asked.model.dtype) == (start, "b", "float32")


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
        ("learning_rate", 0),
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
    with pytest.raises(InvalidRequestError) as caught:
        read(hyperparameters={name: value})
    assert caught.value.param == f"hyperparameters.{name}"


def test_metadata_and_tags_become_labels():
    request = read(metadata={"team": "a"}, tags=["mine"])
    assert to_submission(request).labels == {"team": "a", "mine": "true"}


SECRET = "canary-0815"
MLFLOW = {"tracking_uri": "https://m", "username": "u", "password": "p", "certificate_file": "c"}


def test_a_certificate_beside_the_id_of_one_counts_and_the_job_says_so():
    mlflow = {**MLFLOW, "certificate_file_id": "file-1"}
    submission = to_submission(read(integrations=[{"type": "mlflow", "mlflow": mlflow}]))
    assert submission.notes == ("certificate_file_id has no effect: the certificate in certificate_file is used.",)


@pytest.mark.parametrize(
    "fields",
    [
        {"integrations": [{"type": "wandb", "wandb": {"project": "p", "api_key": SECRET}}]},
        {"integrations": [{"type": "hf", "hf": {"output_repo_name": "o/n", "api_token": SECRET}}]},
        {"integrations": [{"type": "mlflow", "mlflow": {**MLFLOW, "password": SECRET, "certificate_file": SECRET}}]},
        {"from_checkpoint": {"repo": "o/n", "token": SECRET}},
        {"extra_body": {"token": SECRET}},
        {"tags": [], "token": SECRET},
    ],
)
def test_credentials_do_not_stand_in_what_is_stored(fields):
    request = read(**fields)
    assert SECRET not in to_submission(request).model_dump_json()


@pytest.mark.parametrize(
    "fields",
    [
        {"integrations": [{"type": "wand", "wandb": {"project": "p", "api_key": SECRET}}]},
        {"integrations": [{"type": "mlflow", "wandb": {"project": "p", "api_key": SECRET}}]},
        {"integrations": {"api_key": SECRET}},
        {"from_checkpoint": {"type": "ft", "token": SECRET}},
        {"from_checkpoint": {"repo": "o/n", "token": [SECRET]}},
        {"integrations": [{"type": "wandb", "wandb": {"project": "p", "api_key": {"a": SECRET}}}]},
    ],
)
def test_a_refusal_never_repeats_a_credential(fields):
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    assert SECRET not in caught.value.info.model_dump_json()
