import copy

import pytest
from pydantic import ValidationError

from tunesmith.dialects.simplismart.translate import to_spec, to_submission
from tunesmith.dialects.simplismart.wire import CreateJob
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
from tunesmith.spec.job import DataSource, ResourcesSpec

TRAIN = DataSource(kind="s3", id="s3://bucket/rows.jsonl", sha256=None, region="us-west-2", secret="5" * 32)

# The page's own example.
PAGE = {
    "org": "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f",
    "experiment_name": "launch-simplismart-causal_lm-lora",
    "dataset_config": {
        "preprocessing": {
            "lazy_tokenize": True,
            "streaming": False,
            "prompt": {"system": None, "max_length": 4096, "template": None},
        },
        "split": {"type": "random", "ratios": [0.9, 0.1]},
    },
    "model_details": {
        "base_model": "meta-llama/Llama-3.2-1B-Instruct",
        "ownership": "public",
        "source_type": "hf",
        "model_type": "llm",
        "quantization": {"quant_bits": 4},
    },
    "train_config": {
        "type": "sft",
        "torch_dtype": "bfloat16",
        "task_type": "causal_lm",
        "train_type": "lora",
        "tuner_backend": "simplismart",
        "hyperparameters": {
            "num_epochs": 1,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 8,
            "gradient_checkpointing": True,
            "save_steps": 500,
            "save_total_limit": 2,
            "eval_steps": 500,
            "logging_steps": 5,
            "learning_rate": 0.0001,
            "dataloader_num_workers": 1,
        },
        "adapter_config": {"r": 16, "alpha": 16, "dropout": 0.1, "targets": ["all-linear"]},
        "distributed": {"type": "ddp"},
    },
    "dataset_details": {
        "dataset_name": "dataset-name",
        "dataset_path": "s3://training-dev-datasets/ds/sharegpt_ds_half.jsonl",
        "dataset_description": "",
        "dataset_type": "jsonl",
        "dataset_format": "sharegpt",
        "source_type": "s3",
        "ownership": "private",
        "secret_id": "<your-secret-key>",
        "region": "us-west-2",
    },
    "infra_config": {"gpu_type": "h100", "gpu_count": 2, "infra_type": "simplismart", "node_count": 2},
}

LEAST = {
    "org": "o",
    "experiment_name": "e",
    "dataset_config": {},
    "model_details": {"base_model": "m"},
    "train_config": {},
    "dataset_details": {"dataset_name": "d", "dataset_path": "d", "source_type": "local"},
    "infra_config": {},
}


def request(base=LEAST, **changes):
    """A request whose values at dotted paths (with `__` for the dots) are replaced."""
    wanted = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = wanted
        for name in parents:
            target = target.setdefault(name, {})
        target[last] = value
    return CreateJob(**wanted)


def spec(base=LEAST, **changes):
    return to_spec(request(base, **changes), train=TRAIN, hub_secret=None)


def submission(base=LEAST, *, has_model=False, **changes):
    return to_submission(request(base, **changes), has_model=has_model)


def test_the_example_of_the_page_is_carried_over_number_by_number():
    result = spec(PAGE)
    assert (result.model.base, result.model.dtype) == ("meta-llama/Llama-3.2-1B-Instruct", "bfloat16")
    assert (result.model.source, result.model.quantization.bits) == ("any", 4)
    assert result.data.train == TRAIN
    assert (result.data.max_length, result.data.reading.format, result.data.reading.system) == (4096, "sharegpt", None)
    assert (result.data.split.by, result.data.split.ratios) == ("random", (0.9, 0.1))
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.dropout) == (16, 16, 0.1)
    assert result.adapter.targets == ("all-linear",)
    assert (result.optimization.epochs, result.optimization.learning_rate) == (1, 1e-4)
    assert result.optimization.gradient_checkpointing is True
    assert (result.cadence.save_steps, result.cadence.eval_steps, result.cadence.log_steps) == (500, 500, 5)
    assert result.cadence.keep_checkpoints == 2
    assert result.resources == ResourcesSpec(gpus_per_node=2, nodes=2, gpu_type="h100", distribution="ddp")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("standard", False, "random")),
        ({"use_rslora": True, "init_weights": "pissa"}, ("rank_stabilized", False, "pissa")),
        ({"use_dora": True, "init_weights": True}, ("standard", True, "random")),
    ],
)
def test_ms_swifts_variants_of_an_adapter_are_taken_over(asked, expected):
    result = spec(train_config__adapter_config=asked).adapter
    assert (result.scaling, result.decomposed, result.init) == expected


def test_dora_and_pissa_together_are_refused():
    with pytest.raises(InvalidRequestError, match="exclude each other"):
        spec(train_config__adapter_config={"use_dora": True, "init_weights": "pissa"})


@pytest.mark.parametrize(
    ("asked", "field", "expected"),
    [
        ({"optim": "adamw_torch"}, "optimizer", "adamw"),
        ({"optim": "adamw_bnb_8bit"}, "optimizer", "adamw_8bit"),
        ({"optim": "adafactor"}, "optimizer", "adafactor"),
        ({"lr_scheduler_type": "inverse_sqrt"}, "schedule", "inverse_sqrt"),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_ratio": 0.2}, "warmup_ratio", 0.2),
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.2}, "warmup_ratio", 0),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha", 5),
        ({"max_steps": 7}, "epochs", 10_000),
    ],
)
def test_ms_swifts_further_hyperparameters_are_taken_over(asked, field, expected):
    assert getattr(spec(train_config__hyperparameters=asked).optimization, field) == expected


def test_what_is_left_out_has_ms_swifts_values():
    result = spec()
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.dropout) == (8, 32, 0.05)
    assert (result.optimization.epochs, result.optimization.weight_decay) == (3, 0.1)
    assert (result.optimization.schedule, result.optimization.warmup_ratio) == ("cosine", 0)
    assert (result.optimization.max_grad_norm, result.optimization.seed) == (1, 42)
    assert (result.cadence.save_steps, result.cadence.eval_steps) == (500, 500)
    assert result.cadence.keep_checkpoints is None
    assert (result.data.split, result.data.reading.format) == (None, None)
    assert result.model.quantization is None


@pytest.mark.parametrize(
    ("at_once", "accumulated", "gpus", "nodes", "expected"),
    [
        (8, None, 2, 2, 32),
        (1, None, 1, 1, 16),
        (3, None, 1, 1, 18),
        (32, None, 1, 1, 32),
        (2, 5, 1, 1, 10),
        (1, 2, 4, 2, 16),
    ],
)
def test_a_step_has_the_rows_of_all_asked_devices_and_sixteen_or_more_unless_accumulation_is_given(
    at_once, accumulated, gpus, nodes, expected
):
    changes = {"train_config__hyperparameters__per_device_train_batch_size": at_once}
    if accumulated:
        changes["train_config__hyperparameters__gradient_accumulation_steps"] = accumulated
    result = spec(infra_config__gpu_count=gpus, infra_config__node_count=nodes, **changes)
    assert result.optimization.batch_size == expected


@pytest.mark.parametrize(("kind", "rate"), [("lora", 1e-4), ("qlora", 1e-4), ("full", 1e-5)])
def test_the_rate_that_is_left_out_depends_on_what_is_trained(kind, rate):
    assert spec(train_config__train_type=kind).optimization.learning_rate == rate


@pytest.mark.parametrize(
    ("kind", "bits", "expected"),
    [
        ("lora", 16, None),
        ("lora", 8, 8),
        ("lora", None, None),
        ("qlora", None, 4),
        ("qlora", 8, 8),
        ("full", None, None),
    ],
)
def test_qlora_is_lora_on_four_bits_and_sixteen_bits_are_no_quantization(kind, bits, expected):
    quantization = spec(
        train_config__train_type=kind, model_details__quantization={"quant_bits": bits}
    ).model.quantization
    assert (quantization.bits if quantization else None) == expected


def test_full_training_has_no_adapter():
    assert spec(train_config__train_type="full").adapter is None


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("sharegpt", "sharegpt"),
        ("alpaca", "alpaca"),
        ("instruction", "query_response"),
        ("openai", "messages"),
        ("messages", "messages"),
    ],
)
def test_every_format_has_a_reader(named, expected):
    assert spec(dataset_details__dataset_format=named).data.reading.format == expected


def test_classification_and_preferences_have_rows_of_their_own_whatever_holds_the_turns():
    classified = spec(train_config__task_type="seq_cls", dataset_details__dataset_format="openai")
    assert (classified.model.task, classified.data.reading.format) == ("sequence_classification", "classification")
    compared = spec(train_config__type="dpo", dataset_details__dataset_format="openai")
    assert (compared.method.kind, compared.method.parameters) == ("dpo", {"beta": 0.1})
    assert compared.data.reading.format == "preference"


@pytest.mark.parametrize("named", ["sharegpt", "alpaca", "instruction"])
@pytest.mark.parametrize(("field", "value", "key"), [("task_type", "seq_cls", "label"), ("type", "dpo", "rejected")])
def test_a_format_that_such_rows_cannot_have_is_refused(named, field, value, key):
    with pytest.raises(InvalidRequestError, match=key) as caught:
        spec(dataset_details__dataset_format=named, **{f"train_config__{field}": value})
    assert caught.value.param == "dataset_details.dataset_format"


def test_the_format_of_other_kinds_of_training_is_honoured():
    assert spec(train_config__type="grpo", dataset_details__dataset_format="alpaca").data.reading.format == "alpaca"


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_other_kinds_of_training_are_passed_on_for_admission_to_judge(kind):
    assert spec(train_config__type=kind).method.kind == kind


@pytest.mark.parametrize(
    ("changes", "param", "kind"),
    [
        ({"model_details__source_type": "s3"}, "model_details.source_type", UnsupportedError),
        ({"train_config__task_type": "seq2seq"}, "train_config.task_type", UnsupportedError),
        (
            {"dataset_config__preprocessing__streaming": True},
            "dataset_config.preprocessing.streaming",
            InvalidRequestError,
        ),
        (
            {"train_config__hyperparameters__beta": 0.1},
            "train_config.hyperparameters.beta",
            InvalidRequestError,
        ),
        (
            {"train_config__train_type": "qlora", "model_details__quantization": {"quant_bits": 16}},
            "model_details.quantization.quant_bits",
            InvalidRequestError,
        ),
        ({"dataset_config__split": {"ratios": [0.9, 0.2]}}, "dataset_config.split.ratios", InvalidRequestError),
        ({"dataset_config__split": {"ratios": [1.5, -0.5]}}, "dataset_config.split.ratios", InvalidRequestError),
        ({"dataset_config__split": {"ratios": []}}, "dataset_config.split.ratios", InvalidRequestError),
        (
            {"train_config__hyperparameters__per_device_train_batch_size": 65_536, "infra_config__gpu_count": 2},
            "train_config.hyperparameters.per_device_train_batch_size",
            InvalidRequestError,
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, param, kind):
    with pytest.raises(kind) as caught:
        spec(**changes)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train_config__type", "SFT"),
        ("train_config__torch_dtype", "fp8"),
        ("train_config__train_type", "dora"),
        ("train_config__distributed", {"type": "horovod"}),
        ("train_config__hyperparameters__learning_rate", 0),
        ("train_config__hyperparameters__learning_rate", "1e-4"),
        ("train_config__hyperparameters__num_epochs", -1),
        ("train_config__hyperparameters__num_epoch", 1),
        ("train_config__hyperparameters__save_total_limit", 0),
        ("train_config__adapter_config", {"r": 0}),
        ("train_config__adapter_config", {"r": None}),
        ("train_config__adapter_config", {"targets": []}),
        ("model_details__quantization", {"quant_bits": 2}),
        ("model_details__model_type", "clip"),
        ("dataset_details__source_type", "ftp"),
        ("dataset_details__dataset_format", "chatml"),
        ("dataset_config__split", {"type": "stratified", "ratios": [1]}),
        ("infra_config__gpu_type", "tpu"),
        ("infra_config__gpu_count", 0),
        ("infra_config__node_count", 10**6),
        ("experiment_name", "e" * 129),
    ],
)
def test_bad_fields_are_refused_by_their_path(path, value):
    with pytest.raises(ValidationError) as caught:
        request(**{path: value})
    where = [str(part) for part in caught.value.errors()[0]["loc"]]
    assert where[: len(path.split("__"))] == path.split("__")


def test_the_pages_fields_without_effect_are_noted_one_by_one():
    notes = submission(PAGE).notes
    fields = (
        "lazy_tokenize", "per_device_eval_batch_size", "dataloader_num_workers", "tuner_backend", "infra_type",
        "save_total_limit", "dataset_name",
    )  # fmt: skip
    assert len(notes) == len(fields)
    for field in fields:
        assert any(field in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"train_config__torch_dtype": "float16"}, "bfloat16"),
        (
            {"train_config__hyperparameters": {"lr_scheduler_type": "constant", "warmup_ratio": 0.1}},
            "constant_with_warmup",
        ),
        ({"train_config__hyperparameters": {"max_steps": 5, "num_epochs": 1}}, "num_epochs"),
        ({"dataset_config__preprocessing__prompt": {"template": "qwen"}}, "prompt.template"),
        ({"dataset_config__split": {"ratios": [0.8, 0.1, 0.1]}}, "third share"),
        ({"train_config__train_type": "full", "train_config__adapter_config": {}}, "adapter_config"),
        ({"train_config__distributed": {"type": "deepspeed", "stage": 2}}, "stage"),
        ({"dataset_details__region": "us-west-2"}, "region"),
        ({"dataset_details__dataset_name": "other"}, "dataset_name"),
        ({"train_config__hyperparameters__save_total_limit": 2}, "save_total_limit"),
        ({"has_model": True}, "model_details.base_model"),
        ({"dataset_details__secret_id": "keys"}, "dataset_details.secret_id"),
        ({"model_details__source_type": "local", "model_details__secret_id": "token"}, "model_details.secret_id"),
        (
            {
                "dataset_config__preprocessing__streaming": True,
                "train_config__hyperparameters__max_steps": 5,
            },
            "streaming",
        ),
    ],
)
def test_what_is_carried_out_in_another_way_is_noted(changes, word):
    [note] = submission(**changes).notes
    assert word in note


def test_the_description_of_the_rows_is_a_label():
    assert submission(dataset_details__dataset_description="Half of it.").labels == {
        "dataset_description": "Half of it."
    }
    assert submission(PAGE).labels == {}


def test_a_model_that_is_asked_for_by_its_place_is_not_noted():
    assert submission(model_details__source_type="local", has_model=True).notes == ()


def test_the_echo_is_what_was_sent_and_no_more():
    sent = submission(PAGE)
    assert sent.request == PAGE
    assert sent.name == PAGE["experiment_name"]
