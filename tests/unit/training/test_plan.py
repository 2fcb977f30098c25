"""Plans of real jobs on the tiny model, and of models that exist as a configuration only."""

import json

import pytest
import torch
from transformers import AutoConfig

from attempts import LORA, attempt, chat, checkpoint, judged, labelled, of_kind, preferences, run, write_rows
from tunesmith.spec.events import Checked, Failed, Metrics, Prepared
from tunesmith.training.plan import changed_spec
from tunesmith.training.plan_model import planned_model

CPU = {"name": "cpu", "memory": 24 * 10**9}
HUGE = {
    "hidden_size": 8_192,
    "intermediate_size": 28_672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
}

pytestmark = pytest.mark.usefixtures("signals_kept")


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "train.jsonl", chat(40))


@pytest.fixture(scope="module")
def huge_model(tiny_model, tmp_path_factory):
    """A configuration of 70 thousand million parameters with the tiny model's tokenizer, and no weights."""
    folder = tmp_path_factory.mktemp("huge")
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            folder.joinpath(file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | HUGE))
    return folder


def planned(order, folder):
    events = run(order, folder)[1]
    assert of_kind(events, Checked), events
    [checked] = of_kind(events, Checked)
    return checked.plan


METHODS = [
    ("sft", chat, {}),
    ("sft", chat, {"packing": True}),
    ("sft", chat, {"max_length": 48, "epochs": 1.5}),
    ("sft", chat, {"max_samples": 7, "max_steps": 3}),
    ("sft", chat, {"adapter": None}),
    ("sft", chat, {"adapter": LORA | {"init": "pissa"}}),
    ("sft", chat, {"dtype": "bfloat16"}),
    ("dpo", preferences, {}),
    ("orpo", preferences, {}),
    ("kto", judged, {}),
    ("reward", preferences, {"task": "sequence_classification"}),
    ("classification", labelled, {"task": "sequence_classification"}),
]


@pytest.mark.parametrize(("method", "make", "changes"), METHODS)
def test_a_plan_is_what_the_training_then_prepares(tiny_model, tmp_path, method, make, changes):
    rows = write_rows(tmp_path / "rows.jsonl", make(40))
    order = {"kind": method, "rows": 40, "device": CPU, **changes}
    plan = planned(attempt(tiny_model, rows, purpose="plan", **order), tmp_path / "plan")
    _, events = run(attempt(tiny_model, rows, **order), tmp_path / "train")
    [prepared] = of_kind(events, Prepared)
    assert plan.rows.sampled is False
    for name, value in (
        ("rows", prepared.rows),
        ("tokens", prepared.tokens),
        ("trained_tokens", prepared.trained_tokens),
        ("sequences", prepared.sequences),
        ("steps", prepared.total_steps),
    ):
        count = getattr(plan.rows, name)
        assert (count.low, count.high) == (value, value), name
    assert (plan.rows.dropped, plan.rows.dropped_lines) == (prepared.dropped, prepared.dropped_lines)
    assert plan.rows.job_tokens.low <= of_kind(events, Metrics)[-1].tokens_total <= plan.rows.job_tokens.high
    assert plan.fits == "yes"
    assert plan.memory.low < plan.memory.high
    artifact = tmp_path / "train" / "artifact"
    weights = sum(file.stat().st_size for file in artifact.glob("*.safetensors"))
    assert plan.disk.artifact == pytest.approx(weights, rel=0.2, abs=4_000)
    saved = checkpoint(events, tmp_path / "train", prepared.total_steps).glob("*.safetensors")
    held = sum(file.stat().st_size for file in saved) + 8 * plan.trained_parameters
    assert plan.disk.checkpoint == pytest.approx(held, rel=0.2)


def test_a_check_reads_the_first_rows_only_and_its_ranges_hold_the_truth(tiny_model, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", chat(2_500))
    whole = planned(attempt(tiny_model, rows, purpose="plan", rows=2_500, device=CPU), tmp_path / "plan")
    plan = planned(attempt(tiny_model, rows, purpose="check", rows=2_500, device=CPU), tmp_path / "check")
    assert plan.rows.sampled
    assert plan.rows.read < 2_500
    for name in ("rows", "tokens", "trained_tokens", "sequences", "steps", "job_tokens"):
        estimate, truth = getattr(plan.rows, name), getattr(whole.rows, name).low
        assert estimate.low <= truth <= estimate.high, name


PARTS = [
    ({"sample_ratio": 0.5}, 20),
    ({"sample_ratio": 0.5, "max_samples": 8}, 8),
    ({"sample_ratio": 0.01}, 1),
    ({"max_samples": 8}, 8),
    ({"max_samples": 80}, 40),
    ({"split": {"by": "random", "ratios": [0.7, 0.3]}}, 28),
    ({"split": {"by": "sequential", "ratios": [0.7, 0.3]}, "sample_ratio": 0.5}, 14),
    ({"split": {"by": "random", "ratios": [0.7, 0.3]}, "sample_ratio": 0.5, "max_samples": 3}, 3),
]


@pytest.mark.parametrize(("changes", "count"), PARTS, ids=str)
def test_how_many_rows_take_part_is_known_where_none_is_left_out(tiny_model, tmp_path, rows, changes, count):
    order = {"rows": 40, "device": CPU, "batch_size": 3, **changes}
    plan = planned(attempt(tiny_model, rows, purpose="plan", **order), tmp_path / "plan")
    _, events = run(attempt(tiny_model, rows, **order), tmp_path / "train")
    [prepared] = of_kind(events, Prepared)
    assert prepared.rows == plan.rows.rows.low == plan.rows.rows.high == count
    assert prepared.total_steps == plan.rows.steps.low == plan.rows.steps.high
    _holds(plan.rows, events)


LEFT_OUT = [
    ({}, 40),
    ({"sample_ratio": 0.5}, 20),
    ({"sample_ratio": 0.7, "packing": True}, 28),
    ({"max_samples": 9, "sample_ratio": 0.5}, 9),
    ({"sample_ratio": 0.9, "max_steps": 2}, 36),
    ({"sample_ratio": 0.9, "epochs": 0.3}, 36),
    ({"split": {"by": "column", "column": "part"}}, 40),
    ({"split": {"by": "column", "column": "part"}, "max_samples": 5}, 5),
]


@pytest.mark.parametrize(("changes", "most"), LEFT_OUT, ids=str)
def test_ranges_hold_the_truth_and_nothing_above_the_rows_that_there_are(tiny_model, tmp_path, changes, most):
    parts = ["train", "train", "validation", "train", "test"]
    rows = [row | {"part": parts[number % 5]} for number, row in enumerate(chat(40))]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    order = {"rows": 40, "device": CPU, "max_length": 56, **changes}
    plan = planned(attempt(tiny_model, file, purpose="plan", **order), tmp_path / "plan").rows
    _, events = run(attempt(tiny_model, file, **order), tmp_path / "train")
    assert plan.dropped
    assert plan.rows.high <= most
    assert plan.tokens.high <= 56 * plan.rows.high
    assert plan.trained_tokens.high <= plan.tokens.high
    _holds(plan, events)


def _holds(plan, events):
    """See that the ranges hold what a training did."""
    [prepared] = of_kind(events, Prepared)
    for name, value in (
        ("rows", prepared.rows),
        ("tokens", prepared.tokens),
        ("trained_tokens", prepared.trained_tokens),
        ("sequences", prepared.sequences),
        ("steps", prepared.total_steps),
        ("job_tokens", of_kind(events, Metrics)[-1].tokens_total),
    ):
        count = getattr(plan, name)
        assert count.low <= value <= count.high, (name, count, value)


def test_what_a_check_does_not_read_is_bounded_by_the_rows_of_the_file(tiny_model, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", chat(2_500))
    plan = planned(attempt(tiny_model, rows, purpose="check", rows=2_500, device=CPU), tmp_path / "check").rows
    assert plan.read < 2_500 == plan.rows.high
    assert plan.steps.high == 2 * 625
    assert plan.rows.low >= plan.read


def test_tokens_of_a_job_that_ends_within_an_epoch_are_a_range(tiny_model, tmp_path, rows):
    order = {"rows": 40, "device": CPU, "purpose": "plan"}
    whole = planned(attempt(tiny_model, rows, **order), tmp_path / "whole").rows
    part = planned(attempt(tiny_model, rows, epochs=0.5, **order), tmp_path / "part").rows
    assert whole.job_tokens.low == whole.job_tokens.high == 2 * whole.tokens.low
    assert not part.sampled
    assert part.job_tokens.low < part.tokens.low / 2 < part.job_tokens.high < part.tokens.low


def test_parameters_are_counted_without_weights(huge_model, rows):
    full = planned_model(huge_model, attempt(huge_model, rows, adapter=None, dtype="bfloat16").spec, None, on_gpu=False)
    lora = planned_model(huge_model, attempt(huge_model, rows, dtype="bfloat16").spec, None, on_gpu=False)
    vocabulary = AutoConfig.from_pretrained(huge_model).vocab_size
    layer = 2 * 8_192**2 + 2 * 8_192 * 1_024 + 3 * 8_192 * 28_672 + 2 * 8_192
    linear = 80 * (2 * (8_192 + 8_192) + 2 * (8_192 + 1_024) + 3 * (8_192 + 28_672))
    body = 80 * layer + 8_192 + vocabulary * 8_192
    assert full.footprint.parameters in (body, body + vocabulary * 8_192)
    assert full.footprint.trained == full.footprint.parameters
    assert lora.footprint.trained == LORA["rank"] * linear


PISSA = LORA | {"init": "pissa"}


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"adapter": None}, {}, {"adapter": PISSA}])
def test_what_is_counted_without_weights_is_what_a_loaded_model_keeps(tiny_model, rows, changes):
    from tunesmith.training.adapters import new_adapter
    from tunesmith.training.language_model import LanguageModel
    from tunesmith.training.memory_probe import footprint_of, kept_by
    from tunesmith.training.model import load_model

    spec = attempt(tiny_model, rows, **changes).spec
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    core = load_model(tiny_model, dtype if spec.adapter else torch.float32, torch.device("cpu"))
    if spec.adapter is not None:
        new_adapter(core, spec.adapter, 0)
    language_model = LanguageModel(core, torch.device("cpu"), dtype)
    language_model.settle()
    loaded = footprint_of(language_model, kept_by(language_model), spec.optimization, on_gpu=False)
    ahead = planned_model(tiny_model, spec, None, on_gpu=False).footprint
    assert ahead.weights == loaded.weights == sum(each.nbytes for each in (*core.parameters(), *core.buffers()))
    assert ahead.trained == loaded.trained
    assert ahead.per_token == pytest.approx(loaded.per_token, rel=0.1)
    assert ahead.head == loaded.head


def test_a_model_that_cannot_fit_is_refused_with_what_would(huge_model, tmp_path, rows):
    order = attempt(huge_model, rows, purpose="check", rows=40, dtype="bfloat16", device=CPU)
    code, events = run(order, tmp_path / "run")
    [failed] = of_kind(events, Failed)
    assert code == 1
    assert failed.error.code == "does_not_fit"
    assert failed.error.param == "model.base"
    assert "24.0 GB" in failed.error.message


def test_a_shortage_that_rounding_would_hide_is_told_in_bytes(tiny_model, tmp_path, rows):
    least = attempt(tiny_model, rows, purpose="plan", rows=40, device={"name": "cpu", "memory": 1})
    plan = planned(least, tmp_path / "plan")  # by the smallest passes that there are
    short = {"rows": 40, "device": {"name": "cpu", "memory": plan.memory.low - 1}}
    [failed] = of_kind(run(attempt(tiny_model, rows, purpose="check", **short), tmp_path / "check")[1], Failed)
    assert f"at least {plan.memory.low:,} bytes of memory" in failed.error.message
    assert f"(cpu) has {plan.memory.low - 1:,} bytes." in failed.error.message


def test_every_alternative_fits_by_a_plan_of_its_own(huge_model, tmp_path, rows):
    device = {"name": "NVIDIA H200", "memory": 140 * 10**9}
    order = attempt(huge_model, rows, purpose="plan", rows=40, adapter=None, dtype="bfloat16", device=device)
    plan = planned(order, tmp_path / "plan")
    assert plan.fits == "no"
    assert plan.alternatives
    for number, way in enumerate(plan.alternatives):
        spec = changed_spec(order.spec, way.settings)
        again = order.model_copy(update={"spec": type(spec).model_validate(spec.model_dump(mode="json"))})
        found = planned(again, tmp_path / str(number))
        assert found.fits == "yes"
        assert found.memory.high == way.memory.high <= device["memory"]


def test_nothing_is_proposed_to_a_job_that_fits(tiny_model, tmp_path, rows):
    plan = planned(attempt(tiny_model, rows, purpose="plan", rows=40, device=CPU), tmp_path / "plan")
    assert (plan.fits, plan.alternatives) == ("yes", ())


def test_a_micro_batch_that_was_asked_for_is_planned_with(tiny_model, tmp_path, rows):
    order = {"purpose": "plan", "rows": 40, "device": CPU, "batch_size": 16}
    small = planned(attempt(tiny_model, rows, micro_batch_size=1, **order), tmp_path / "1")
    large = planned(attempt(tiny_model, rows, micro_batch_size=16, **order), tmp_path / "16")
    assert small.memory.micro_batch_tokens == small.rows.longest_sequence
    assert large.memory.micro_batch_tokens == 16 * large.rows.longest_sequence
    assert large.memory.high > small.memory.high


def test_activations_are_computed_again_where_memory_is_short_and_losses_stay(tiny_model, tmp_path, rows):
    plain = run(attempt(tiny_model, rows, max_steps=3), tmp_path / "plain")[1]
    short = attempt(tiny_model, rows, max_steps=3, device={"name": "cpu", "memory": 10**6})
    again = run(short, tmp_path / "again")[1]
    assert [event.loss for event in of_kind(again, Metrics)] == pytest.approx(
        [event.loss for event in of_kind(plain, Metrics)], rel=1e-5
    )
    assert any("computed again" in event.message for event in again if event.kind == "note")


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 64,
}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out", "ignore:The following:RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "entries"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 6, "n_head": 2, "vocab_size": 64}),
        ("gemma2", {**SMALL, "intermediate_size": 64, "head_dim": 16}),
        ("mixtral", {**SMALL, "intermediate_size": 64, "num_local_experts": 4}),
    ],
)
def test_parameters_of_all_layers_are_told_by_the_first_ones(tmp_path, rows, kind, entries):
    from transformers import AutoModelForCausalLM

    from tunesmith.training.adapters import new_adapter

    config = AutoConfig.for_model(kind, **entries)
    config.save_pretrained(tmp_path)
    spec = attempt(tmp_path, rows, dtype="bfloat16").spec
    ahead = planned_model(tmp_path, spec, None, on_gpu=False)
    adapted = new_adapter(AutoModelForCausalLM.from_config(config), spec.adapter, 0)
    assert ahead.is_counted
    assert ahead.footprint.trained == sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    assert ahead.footprint.parameters + ahead.footprint.trained == sum(each.numel() for each in adapted.parameters())


# --- adapters to continue --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def six_layers(tiny_model, tmp_path_factory):
    """A model of more layers than a plan counts on."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("six")
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            folder.joinpath(file.name).write_bytes(file.read_bytes())
    config = AutoConfig.from_pretrained(tiny_model)
    config.num_hidden_layers = 6
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of plain PEFT
@pytest.mark.parametrize(
    "shape",
    [
        {"use_dora": True},
        {"r": 1_040, "target_modules": ["q_proj"]},
        {"use_rslora": True, "rank_pattern": {"layers.4.self_attn.q_proj": 9}},
        {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [5]},
        {"target_modules": r".*layers\.[45]\.self_attn\.(q|v)_proj"},
        {"target_modules": ["model.layers.5.self_attn.o_proj"]},
    ],
    ids=["dora", "high-rank", "ranks-of-their-own", "last-layer", "pattern", "path"],
)
def test_an_adapter_to_continue_is_planned_as_what_it_is(six_layers, tmp_path, rows, shape):
    from peft import LoraConfig, get_peft_model

    from tunesmith.training.adapters import adapter_to_continue
    from tunesmith.training.language_model import LanguageModel
    from tunesmith.training.memory_probe import footprint_of, kept_by
    from tunesmith.training.model import load_model

    device = torch.device("cpu")
    config = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear"} | shape)
    get_peft_model(load_model(six_layers, torch.float32, device), config).save_pretrained(tmp_path / "made")
    order = attempt(six_layers, rows, continue_from=tmp_path / "made", rows=40, device=CPU, purpose="plan")
    plan = planned(order, tmp_path / "plan")
    core = load_model(six_layers, torch.float32, device)
    adapter_to_continue(core, tmp_path / "made", order.spec.adapter)
    language_model = LanguageModel(core, device, torch.float32)
    language_model.settle()
    loaded = footprint_of(language_model, kept_by(language_model), order.spec.optimization, on_gpu=False)
    ahead = planned_model(six_layers, order.spec, tmp_path / "made", on_gpu=False).footprint
    assert plan.trained_parameters == ahead.trained == loaded.trained
    assert ahead.weights == loaded.weights
    assert ahead.per_token >= 0.95 * loaded.per_token


def test_an_adapter_whose_weights_are_broken_is_refused(tiny_model, tmp_path, rows):
    run(attempt(tiny_model, rows, max_steps=1), tmp_path / "first")
    weights = tmp_path / "first/artifact/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    order = attempt(tiny_model, rows, continue_from=weights.parent, rows=40, device=CPU, purpose="plan")
    [failed] = of_kind(run(order, tmp_path / "plan")[1], Failed)
    assert (failed.error.code, failed.error.param) == ("invalid_adapter", "init_from")


def test_a_target_in_a_late_layer_is_planned(six_layers, tmp_path, rows):
    adapter = LORA | {"targets": ["layers.5.self_attn.q_proj"]}
    plan = planned(attempt(six_layers, rows, adapter=adapter, rows=40, device=CPU, purpose="plan"), tmp_path / "plan")
    assert plan.trained_parameters == LORA["rank"] * (32 + 32)
