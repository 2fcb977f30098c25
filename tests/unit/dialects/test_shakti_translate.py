import copy

import pytest
from pydantic import ValidationError

from tunesmith.dialects.shakti.columns import to_reading
from tunesmith.dialects.shakti.translate import to_spec, to_submission
from tunesmith.dialects.shakti.wire import CreateJob, TrainingConfig
from tunesmith.spec.errors import InvalidRequestError, UnsupportedError
from tunesmith.spec.job import DataSource

FILE = DataSource(kind="file", id="a" * 32, sha256="0" * 64)

# The page's own example.
PAGE = {
    "model_type": "vlm",
    "base_model": "AIDC-AI/Ovis1.6-Llama3.2-3B",
    "adapter": {"lora_r": 16},
    "quantization": {
        "bits": 4,
        "llm_int8_threshold": 6,
        "llm_int8_has_fp16_weight": False,
        "bnb_4bit_compute_dtype": "float16",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_quant_type": "nf4",
    },
    "trainer": {
        "type": "finetune",
        "learning_rate": 0.0001,
        "batch_size": 1,
        "epochs": 1,
        "gradient_accumulation_steps": 16,
        "logging_steps": 1,
    },
    "image_column": "url",
    "output_column": "caption",
    "prompt": {"template": "Could you please interpret the image and write a detailed caption?"},
}

TEXT = {"model_type": "llm", "base_model": "m", "input_column": "q", "output_column": "a"}


def config(base=TEXT, **changes):
    """A configuration whose values at dotted paths (with `__` for the dots) are replaced; `...` takes one away."""
    wanted = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = wanted
        for name in parents:
            target = target.setdefault(name, {})
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return TrainingConfig(**wanted)


def spec(base=TEXT, columns=("q", "a"), **changes):
    asked = config(base, **changes)
    return to_spec(asked, train=FILE, reading=to_reading(asked), columns=columns)


def notes(base=TEXT, columns=("q", "a"), **changes):
    form = CreateJob.model_construct(
        training_config_json=config(base, **changes), experiment_name="e", org="o", csv_file=None
    )
    return to_submission(form, spec(base, columns, **changes)).notes


def test_the_example_of_the_page_is_carried_over_number_by_number():
    result = spec(PAGE, columns=("url", "caption"))
    assert (result.model.base, result.model.modality) == ("AIDC-AI/Ovis1.6-Llama3.2-3B", "vision_language")
    quantization = result.model.quantization
    assert (quantization.bits, quantization.kind, quantization.double) == (4, "nf4", True)
    assert (quantization.int8_threshold, result.model.dtype) == (6, "bfloat16")
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.dropout) == (16, 32, 0.05)
    assert result.adapter.targets == ("q_proj", "v_proj")
    assert (result.method.kind, result.optimization.learning_rate) == ("sft", 1e-4)
    assert (result.optimization.batch_size, result.optimization.epochs) == (16, 1)
    assert result.cadence.log_steps == 1
    assert result.data.reading.columns == {"image": "url", "completion": "caption"}
    assert result.data.reading.template == PAGE["prompt"]["template"]
    assert result.data.split is None


def test_what_is_left_out_has_safe_values():
    result = spec()
    assert (result.adapter, result.model.quantization, result.model.dtype) == (None, None, "bfloat16")
    assert (result.optimization.learning_rate, result.optimization.epochs) == (1e-4, 1)
    assert (result.optimization.batch_size, result.optimization.schedule) == (1, "constant")
    assert (result.optimization.max_grad_norm, result.cadence.log_steps) == (0.5, 10)
    assert (result.data.sample_ratio, result.data.over_long) == (1, "truncate")


@pytest.mark.parametrize(
    "adapter",
    [
        {"type": "lora", "r": 4, "alpha": 12, "dropout": 0.2, "target_modules": ["k_proj"]},
        {"lora_r": 4, "lora_alpha": 12, "lora_dropout": 0.2, "target_modules": ["k_proj"]},
    ],
)
def test_an_adapter_may_be_written_in_ludwigs_words_or_pefts(adapter):
    result = spec(adapter=adapter).adapter
    assert (result.rank, result.alpha, result.dropout, result.targets) == (4, 12, 0.2, ("k_proj",))


def test_an_empty_block_brings_ludwigs_values():
    result = spec(adapter={}, quantization={})
    assert (result.adapter.rank, result.adapter.alpha) == (8, 16)
    assert (result.model.quantization.bits, result.model.quantization.kind) == (4, "nf4")


def test_columns_may_be_named_as_features_too():
    features = {"input_features": [{"name": "q", "type": "text"}], "output_features": [{"name": "x", "column": "a"}]}
    assert spec(input_column=..., output_column=..., **features).data.reading == spec().data.reading


def test_several_inputs_need_a_template_that_names_them():
    several = {"input_column": ..., "input_features": [{"name": "q"}, {"name": "context"}]}
    with pytest.raises(InvalidRequestError, match="2 columns") as caught:
        spec(**several)
    assert caught.value.param == "training_config_json.input_features"
    reading = spec(**several, prompt__template="{context} Answer: {q}").data.reading
    assert (reading.template, reading.columns) == ("{context} Answer: {q}", {"completion": "a"})


def test_ludwigs_word_for_the_input_stands_for_the_input_column():
    assert spec(prompt__template="Say: {__sample__}").data.reading.template == "Say: {q}"


def test_without_any_column_the_rows_tell():
    reading = spec(input_column=..., output_column=...).data.reading
    assert (reading.columns, reading.template) == ({}, None)


def test_the_split_column_shares_the_rows_out_unless_it_is_text():
    assert spec(columns=("q", "a", "split")).data.split.column == "split"
    assert spec(columns=("split", "a"), input_column="split").data.split is None
    assert spec(columns=("split", "a"), input_column=..., prompt__template="{split}").data.split is None


@pytest.mark.parametrize(
    ("question", "answer", "whole", "expected"),
    [
        (100, 50, None, 150),
        (100, None, None, 1_048_576),
        (None, None, None, 1_048_576),
        (100, 50, 120, 120),
        (1, 1, None, 8),
    ],
)
def test_the_caps_of_question_and_answer_bound_the_row(question, answer, whole, expected):
    features = {
        "input_features": [{"name": "q", "preprocessing": {"max_sequence_length": question}}],
        "output_features": [{"name": "a", "preprocessing": {"max_sequence_length": answer}}],
        "preprocessing": {"global_max_sequence_length": whole},
    }
    assert spec(**features).data.max_length == expected


def test_steps_take_the_place_of_epochs():
    result = spec(trainer={"train_steps": 7, "epochs": 2})
    assert (result.optimization.max_steps, result.optimization.epochs) == (7, 10_000)
    assert any("train_steps" in note for note in notes(trainer={"train_steps": 7, "epochs": 2}))


def test_a_schedule_is_taken_over():
    result = spec(trainer__learning_rate_scheduler={"warmup_fraction": 0.1, "decay": "linear"})
    assert (result.optimization.schedule, result.optimization.warmup_ratio) == ("linear", 0.1)


def test_ludwigs_variants_of_an_adapter_are_taken_over():
    assert (spec(adapter={}).adapter.scaling, spec(adapter={}).adapter.decomposed) == ("standard", False)
    result = spec(adapter={"use_rslora": True, "use_dora": True}).adapter
    assert (result.scaling, result.decomposed) == ("rank_stabilized", True)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamw_8bit", "sgd"])
def test_an_optimizer_is_taken_over(name):
    assert (spec().optimization.optimizer, spec().optimization.weight_decay) == ("adam", 0)
    result = spec(trainer__optimizer={"type": name, "weight_decay": 0.1}).optimization
    assert (result.optimizer, result.weight_decay) == (name, 0.1)


def test_an_optimizer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValidationError, match="'adam', 'adamw', 'adamw_8bit' or 'sgd'"):
        spec(trainer__optimizer={"type": "lbfgs"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer": {"dpo_beta": 0.3, "dpo_loss_type": "ipo"}}, "without effect: dpo_beta, dpo_loss_type."),
        ({"trainer": {"type": "kto", "dpo_beta": 0.3}}, "'kto' leaves these without effect: dpo_beta."),
        ({"adapter": {}, "quantization": {"llm_int8_threshold": 4.0}}, "no effect on 4 bits"),
        ({"adapter": {}, "quantization": {"bits": 8, "bnb_4bit_quant_type": "fp4"}}, "no effect on 8 bits"),
    ],
)
def test_settings_of_something_else_are_noted(changes, words):
    assert any(words in note for note in notes(**changes))


@pytest.mark.parametrize("kind", ["dpo", "kto", "orpo", "grpo"])
def test_other_kinds_of_training_are_passed_on_for_admission_to_judge(kind):
    assert spec(trainer={"type": kind}).method.kind == kind


def test_preferences_have_two_answers():
    result = spec(trainer={"type": "dpo", "dpo_beta": 0.3, "dpo_loss_type": "ipo"})
    assert result.method.parameters == {"beta": 0.3, "loss": "ipo"}
    assert result.data.reading.columns == {"prompt": "q", "chosen": "a", "rejected": "rejected"}


@pytest.mark.parametrize(
    ("changes", "param", "kind"),
    [
        ({"trainer": {"type": "none"}}, "trainer.type", UnsupportedError),
        (
            {"quantization": {"llm_int8_has_fp16_weight": True}},
            "quantization.llm_int8_has_fp16_weight",
            UnsupportedError,
        ),
        ({"image_column": "url"}, "image_column", InvalidRequestError),
        ({"model_type": "vlm"}, "image_column", InvalidRequestError),
        ({"model_type": "vlm", "image_column": "url", "output_column": ...}, "output_column", InvalidRequestError),
        ({"output_column": ...}, "output_column", InvalidRequestError),
        ({"output_features": [{"name": "b"}]}, "output_column", InvalidRequestError),
        ({"output_features": [{"name": "a"}, {"name": "b"}]}, "output_features", InvalidRequestError),
        ({"prompt__template": "{q"}, "prompt.template", InvalidRequestError),
        ({"prompt__template": "{q.x}"}, "prompt.template", InvalidRequestError),
        ({"prompt__template": "{__sample__}", "input_column": ...}, "prompt.template", InvalidRequestError),
        (
            {"trainer": {"batch_size": 65_536, "gradient_accumulation_steps": 2}},
            "trainer.batch_size",
            InvalidRequestError,
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, param, kind):
    with pytest.raises(kind) as caught:
        spec(**changes)
    assert caught.value.param == f"training_config_json.{param}"


@pytest.mark.parametrize("kind", ["ecd", "clip"])
def test_other_kinds_of_models_are_refused_with_the_reason_before_anything_else(kind):
    with pytest.raises(UnsupportedError, match="this server trains no models"):
        TrainingConfig(model_type=kind, combiner={"type": "concat"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", "VLM"),
        ("adapter__r", 0),
        ("adapter__bias_type", "all"),
        ("adapter__rank", 8),
        ("adapter__target_modules", []),
        ("quantization__bits", 2),
        ("quantization__bnb_4bit_quant_type", "int4"),
        ("trainer__learning_rate", "auto"),
        ("trainer__learning_rate", 1.5),
        ("trainer__epochs", 0),
        ("trainer__type", "rlhf"),
        ("trainer__learning_rate_scheduler", {"decay": "exponential"}),
        ("trainer__gradient_clipping", {"clipvalue": 1}),
        ("preprocessing__sample_ratio", 0),
        ("input_features", [{"name": "q", "type": "image"}]),
        ("combiner", {}),
    ],
)
def test_bad_fields_are_refused_by_their_path(path, value):
    with pytest.raises(ValidationError) as caught:
        config(**{path: value})
    where = [str(part) for part in caught.value.errors()[0]["loc"]]
    assert where[: len(path.split("__"))] == path.split("__")


def test_the_pages_only_field_that_is_carried_out_in_another_way_is_noted():
    [note] = notes(PAGE)
    assert "bnb_4bit_compute_dtype 'float16' is carried out as bfloat16" in note


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"trainer": {"eval_batch_size": 2}}, "eval_batch_size"),
        ({"trainer": {"early_stop": 5}}, "early_stop"),
        ({"trainer": {"checkpoints_per_epoch": 4}}, "checkpoints_per_epoch"),
        ({"backend": {"type": "local"}}, "this server"),
        (
            {
                "input_features": [{"name": "q", "preprocessing": {"max_sequence_length": 9}}],
                "output_features": [{"name": "a"}],
            },
            "max_sequence_length",
        ),
    ],
)
def test_what_has_no_effect_is_noted(changes, word):
    [note] = notes(**changes)
    assert word in note


def test_what_asks_for_nothing_is_not_noted():
    assert notes(trainer={"early_stop": -1, "checkpoints_per_epoch": 1}) == ()


@pytest.mark.parametrize(("early_stop", "patience"), [(5, 5), (1, 1), (0, None), (-1, None), (None, None)])
def test_early_stop_is_the_patience_where_a_column_keeps_rows_for_validation(early_stop, patience):
    changes = {"columns": ("q", "a", "split"), "trainer": {"early_stop": early_stop}}
    assert spec(**changes).selection.patience == patience
    assert notes(**changes) == ()


def test_early_stop_without_rows_for_validation_is_not_asked_of_the_engine():
    assert spec(trainer={"early_stop": 5}).selection.patience is None
