"""Every recipe plug-in holds every value of a job, or says that it does not."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from stored_jobs import job_spec
from tunesmith.recipes import recipe, tools
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.job import (
    AdapterSpec,
    CadenceSpec,
    DataSource,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    QuantizationSpec,
    SelectionSpec,
)
from tunesmith.spec.reading import Reading

METHODS = {
    "sft": {"train_on": "last"},
    "dpo": {"beta": 0.31, "loss": "sigmoid", "label_smoothing": 0.07},
    "orpo": {"beta": 0.31},
    "kto": {"beta": 0.31, "desirable_weight": 1.9},
    "reward": {"center_coefficient": 0.013},
}
LORA = AdapterSpec(rank=12, alpha=24, dropout=0.05, targets=("q_proj", "v_proj"))


def rich(kind="sft", **changes):
    """A job with a value of its own in every field that a tool could hold."""
    spec = job_spec(
        model=ModelSpec(base="owner/base ü", dtype="bfloat16", source="hub", revision="a" * 40,
                        quantization=QuantizationSpec(bits=4, kind="fp4", double=False)),
        adapter=LORA,
        method=MethodSpec(kind=kind, parameters=METHODS.get(kind, {})),
    )  # fmt: skip
    data = spec.data.model_copy(
        update={
            "validation": DataSource(kind="file", id="v", sha256="1" * 64),
            "max_length": 777,
            "packing": kind == "sft",
        }
    )
    optimization = spec.optimization.model_copy(
        update={"learning_rate": 0.000123, "schedule": "cosine", "warmup_ratio": 0.037, "weight_decay": 0.019,
                "max_grad_norm": 0.71, "epochs": 2.5, "max_steps": 321, "batch_size": 12, "micro_batch_size": 5,
                "seed": 4711, "gradient_checkpointing": True}
    )  # fmt: skip
    cadence = spec.cadence.model_copy(
        update={"eval_steps": 17, "save_steps": 19, "keep_checkpoints": 23, "log_steps": 29}
    )
    return spec.model_copy(update={"data": data, "optimization": optimization, "cadence": cadence, **changes})


def values(tool, text):
    """The settings of a recipe by their names."""
    if tool in ("axolotl", "llamafactory"):
        return yaml.safe_load(text)
    if tool == "ms-swift":
        words = shlex.split(text.replace("\\\n", " "), comments=True)
        return {words[i][2:]: words[i + 1] for i in range(2, len(words)) if words[i].startswith("--")}
    found = {}
    for call in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]:
        found |= {each.arg: each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)}
    return found


@pytest.fixture(params=tools())
def tool(request):
    return request.param


@pytest.mark.parametrize("kind", METHODS)
def test_every_number_of_a_job_stands_in_its_recipe(tool, kind):
    text = recipe(rich(kind), tool).text
    settings = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for number in ("0.000123", "0.037", "0.019", "0.71", "2.5", "321", "4711", "777", "12", "24", "0.05", "17", "19",
                   "23", "29"):  # fmt: skip
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", settings), number
    for word in ("owner/base", "a" * 40, "fp4", "cosine", "q_proj", "v_proj"):
        assert word in settings, word


@pytest.mark.parametrize("kind", METHODS)
def test_every_parameter_of_a_method_stands_in_its_recipe_or_is_named_as_missing(tool, kind):
    text = recipe(rich(kind), tool).text
    for name, value in METHODS[kind].items():
        if not isinstance(value, str):
            assert str(value) in text or f"method.parameters.{name}" in text, name


@pytest.mark.parametrize(("batch", "micro"), [(1, None), (12, 5), (12, 12), (7, 2), (96, None), (65_536, 100)])
def test_the_batch_of_a_step_is_that_of_the_job(tool, batch, micro):
    spec = rich()
    optimization = spec.optimization.model_copy(update={"batch_size": batch, "micro_batch_size": micro})
    found = values(tool, recipe(spec.model_copy(update={"optimization": optimization}), tool).text)
    size = found.get("micro_batch_size") or found["per_device_train_batch_size"]
    assert int(size) * int(found["gradient_accumulation_steps"]) == batch
    assert int(size) <= (micro or 8)


def test_a_warm_up_before_a_constant_rate_is_kept(tool):
    spec = rich()
    optimization = spec.optimization.model_copy(update={"schedule": "constant"})
    text = recipe(spec.model_copy(update={"optimization": optimization}), tool).text
    assert "constant_with_warmup" in text


def test_rows_are_named_by_their_digest_and_never_by_their_address(tool):
    spec = rich()
    source = DataSource(kind="http", id="https://secret.example/rows?token=x", sha256="2" * 64, secret="s" * 32)
    data = spec.data.model_copy(update={"train": source})
    text = recipe(spec.model_copy(update={"data": data}), tool).text
    assert "2" * 64 in text
    assert "secret.example" not in text
    assert "s" * 32 not in text


def test_what_no_tool_can_be_told_is_named_in_a_comment(tool):
    spec = rich()
    data = spec.data.model_copy(update={"reading": Reading(system="Be\nbrief."), "sample_ratio": 0.5})
    text = recipe(spec.model_copy(update={"data": data}), tool).text
    assert "# Not expressed here: data.reading.system" in text
    assert "# Not expressed here: data.sample_ratio = 0.5." in text


def test_gradients_that_are_not_clipped_stay_so(tool):
    spec = rich()
    optimization = spec.optimization.model_copy(update={"max_grad_norm": None})
    found = values(tool, recipe(spec.model_copy(update={"optimization": optimization}), tool).text)
    assert float(found["max_grad_norm"]) == 1e9


def test_a_job_without_an_adapter_trains_all_weights(tool):
    model = ModelSpec(base="m", dtype="float32")
    text = recipe(rich(adapter=None, model=model), tool).text
    assert "lora" not in text.lower()


def test_a_method_without_a_counterpart_is_refused(tool):
    with pytest.raises(UnsupportedError, match="no counterpart of the method 'unheard-of'") as error:
        recipe(rich("unheard-of"), tool)
    assert error.value.param == "format"


def test_a_name_that_is_no_plain_word_stays_one_word_in_a_shell():
    model = ModelSpec(base="a b; rm -rf $HOME", dtype="float32")
    found = values("ms-swift", recipe(rich(model=model), "ms-swift").text)
    assert found["model"] == model.base


def test_a_comment_cannot_end_before_its_line(tool):
    spec = rich()
    reading = Reading(system="first\nrm -rf everything")
    text = recipe(spec.model_copy(update={"data": spec.data.model_copy(update={"reading": reading})}), tool).text
    assert not any(line.startswith("rm") for line in text.splitlines())


def optimized(spec, **changes):
    """The job with other fields of its optimization, checked."""
    fields = spec.optimization.model_dump() | changes
    return spec.model_copy(update={"optimization": OptimizationSpec.model_validate(fields)})


def plain(kind="sft", **changes):
    """The job over a base that is not quantized."""
    return rich(kind, model=ModelSpec(base="m", dtype="bfloat16"), **changes)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("adamw", "adamw_torch_fused"), ("adamw_8bit", "adamw_8bit"), ("adam", "adamw_torch_fused"),
     ("adafactor", "adafactor"), ("sgd", "sgd")],
)  # fmt: skip
def test_every_optimizer_has_its_name_in_transformers(tool, name, theirs):
    found = values(tool, recipe(optimized(rich(), optimizer=name), tool).text)
    assert found.get("optim", found.get("optimizer")) == theirs


def test_the_decay_of_adam_is_named_as_missing_where_there_is_one(tool):
    assert "through Adam's gradient" in recipe(optimized(rich(), optimizer="adam"), tool).text
    assert "through Adam's gradient" not in recipe(optimized(rich(), optimizer="adam", weight_decay=0), tool).text


@pytest.mark.parametrize("name", ["linear", "cosine", "inverse_sqrt"])
def test_schedules_that_transformers_knows_keep_their_names(tool, name):
    found = values(tool, recipe(optimized(rich(), schedule=name), tool).text)
    assert found.get("lr_scheduler_type", found.get("lr_scheduler")) == name


def test_a_decay_at_the_end_has_its_length_in_steps_where_these_are_known(tool):
    spec = optimized(rich(), schedule="wsd", decay_ratio=0.21, max_steps=321, warmup_ratio=0.037)
    text = recipe(spec, tool).text
    settings = "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "warmup_stable_decay" in settings
    found = re.search(r"lr_scheduler_kwargs\W+(\w+)\W+(\d+)\W+(\w+)\W+(\d+)", settings)
    assert found.groups() == ("num_stable_steps", str(321 - 12 - 68), "num_decay_steps", "68")
    assert "decay_ratio" not in text


def test_a_decay_of_unknown_length_is_computed_or_asked_for(tool):
    text = recipe(optimized(rich(), schedule="wsd", decay_ratio=0.21, max_steps=None), tool).text
    if tool == "trl":
        assert "math.ceil(0.21 * steps)" in text
    else:
        assert "# lr_scheduler_kwargs: add num_decay_steps, which are 0.21 of all steps" in text


VARIANTS = {
    "axolotl": ("peft_use_rslora", "peft_use_dora", "peft_init_lora_weights"),
    "llamafactory": ("use_rslora", "use_dora", "pissa_init"),
    "ms-swift": ("use_rslora", "use_dora", "init_weights"),
    "trl": ("use_rslora", "use_dora", "init_lora_weights"),
}


def test_variants_of_lora_are_told_by_each_tools_word(tool):
    scaled, decomposed, begun = VARIANTS[tool]
    for change, key in (({"scaling": "rank_stabilized"}, scaled), ({"decomposed": True}, decomposed),
                        ({"init": "pissa"}, begun)):  # fmt: skip
        text = recipe(plain(adapter=LORA.model_copy(update=change)), tool).text
        assert values(tool, text)[key] in (True, "true", "pissa")
        assert "Not expressed here: adapter." not in text
    assert not {scaled, decomposed, begun} & set(values(tool, recipe(plain(), tool).text))


@pytest.mark.parametrize("spec", [plain("dpo"), plain("kto"), rich("sft")], ids=["dpo", "kto", "quantized"])
def test_principal_parts_are_named_as_missing_where_peft_cannot_take_them(tool, spec):
    text = recipe(spec.model_copy(update={"adapter": LORA.model_copy(update={"init": "pissa"})}), tool).text
    assert "# Not expressed here: adapter.init = 'pissa'." in text
    assert VARIANTS[tool][2] not in values(tool, text)


@pytest.mark.parametrize("kind", METHODS)
def test_noise_on_embeddings_is_told_where_a_tool_has_it(tool, kind):
    text = recipe(optimized(rich(kind), neftune_noise_alpha=5.5), tool).text
    if tool == "axolotl" and kind in ("dpo", "orpo", "kto"):
        assert "# Not expressed here: optimization.neftune_noise_alpha = 5.5." in text
    else:
        assert float(values(tool, text)["neftune_noise_alpha"]) == 5.5


def chosen(kind="sft", eval_steps=17, **selection):
    """A job that goes by its best evaluation."""
    cadence = CadenceSpec(eval_steps=eval_steps, save_steps=19, keep_checkpoints=3)
    return rich(kind, cadence=cadence, selection=SelectionSpec(**selection))


PATIENCE = {"axolotl": "early_stopping_patience", "llamafactory": "early_stopping_steps",
            "ms-swift": "early_stop_interval"}  # fmt: skip


def test_the_best_evaluation_and_the_patience_are_told(tool):
    text = recipe(chosen(patience=4, result="best"), tool).text
    found = values(tool, text)
    assert found["metric_for_best_model"] == "loss"
    assert found["load_best_model_at_end"] in (True, "true")
    assert found["greater_is_better"] in (False, "false")
    assert str(found["save_steps"]) == str(found["eval_steps"]) == "17"
    assert "# Saved at each evaluation, instead of by cadence.save_steps = 19." in text
    if tool == "trl":
        assert "callbacks=[EarlyStoppingCallback(4, 0.0)]" in text
    else:
        assert str(found[PATIENCE[tool]]) == "4"
    assert "Not expressed here: selection" not in text


def test_the_least_improvement_is_told_or_named_as_missing(tool):
    text = recipe(chosen(patience=4, min_improvement=0.25), tool).text
    assert ("EarlyStoppingCallback(4, 0.25)" if tool == "trl" else "selection.min_improvement = 0.25") in text


def test_a_figure_that_other_tools_do_not_have_is_named_as_missing(tool):
    text = recipe(chosen(patience=4, metric="accuracy", best="highest"), tool).text
    for part in ("metric = 'accuracy'", "best = 'highest'", "patience = 4"):
        assert f"# Not expressed here: selection.{part}." in text
    found = values(tool, text)
    assert "metric_for_best_model" not in found
    assert str(found["save_steps"]) == "19"


@pytest.mark.parametrize(("kind", "eval_steps"), [("dpo", 17), ("orpo", 17), ("kto", 17), ("sft", "epoch")])
def test_axolotl_goes_by_an_evaluation_only_in_trainings_by_steps_without_preferences(kind, eval_steps):
    text = recipe(chosen(kind, eval_steps, patience=4), "axolotl").text
    assert "# Not expressed here: selection.patience = 4." in text
    assert values("axolotl", text)["save_steps"] == 19


def test_llama_factory_does_not_take_back_the_best_reward_model():
    text = recipe(chosen("reward", patience=4, result="best"), "llamafactory").text
    assert "# Not expressed here: selection.result = 'best'." in text
    assert "load_best_model_at_end" not in values("llamafactory", text)


def test_what_stands_in_a_recipe_is_not_named_as_missing(tool):
    spec = rich(data=rich().data.model_copy(update={"max_samples": 88}))
    spec = spec.model_copy(update={"cadence": spec.cadence.model_copy(update={"evaluate_first": True})})
    text = recipe(spec, tool).text
    settings = "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert ("88" in settings) != ("data.max_samples = 88" in text)
    assert "cadence.evaluate_first" not in text
    assert ("eval_on_start" in settings) == (tool != "axolotl")  # which always does


@pytest.mark.slow
@pytest.mark.usefixtures("signals_kept")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [{"init": "pissa"}, {"decomposed": True, "scaling": "rank_stabilized"},
     {"schedule": "wsd", "decay_ratio": 0.5, "optimizer": "sgd"}, {"optimizer": "adafactor"},
     {"optimizer": "adam", "weight_decay": 0.0}],
    ids=str,
)  # fmt: skip
def test_the_script_for_trl_trains_variants_alike(tiny_model, tmp_path, monkeypatch, changes):
    from attempts import attempt, chat, losses, run, write_rows

    rows = write_rows(tmp_path / "train.jsonl", chat(24))
    variant = {name: changes[name] for name in ("init", "decomposed", "scaling") if name in changes}
    order = attempt(tiny_model, rows, base=str(tiny_model), epochs=2.0, over_long="truncate", batch_size=8)
    spec = order.spec.model_copy(update={"adapter": order.spec.adapter.model_copy(update=variant)})
    spec = optimized(spec, **{name: value for name, value in changes.items() if name not in variant})
    order = order.model_copy(update={"spec": spec})
    code, events = run(order, tmp_path / "run")
    assert code == 0
    monkeypatch.chdir(tmp_path)
    script = recipe(order.spec, "trl").text.replace("report_to=", "use_cpu=True, disable_tqdm=True, report_to=")
    names = {}
    exec(compile(script, "train_trl.py", "exec"), names)
    log = names["trainer"].state.log_history
    assert [each["loss"] for each in log if "loss" in each] == pytest.approx(losses(events), abs=1e-3)
    if "init" in changes:
        from safetensors.torch import load_file

        ours = load_file(tmp_path / "run/artifact/adapter_model.safetensors")
        theirs = load_file(tmp_path / "output/adapter_model.safetensors")
        assert {name: each.shape for name, each in ours.items()} == {name: each.shape for name, each in theirs.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", [{}, {"init": "pissa"}], ids=str)
def test_the_script_for_trl_ends_early_and_takes_back_the_best(tiny_model, tmp_path, monkeypatch, variant):
    from attempts import attempt, chat, write_rows

    rows = write_rows(tmp_path / "train.jsonl", chat(24))
    write_rows(tmp_path / "validation.jsonl", chat(4))
    spec = attempt(tiny_model, rows, base=str(tiny_model), over_long="truncate", batch_size=4).spec
    spec = optimized(spec, learning_rate=1e-7, epochs=9.0).model_copy(
        update={
            "adapter": spec.adapter.model_copy(update=variant),
            "data": spec.data.model_copy(update={"validation": DataSource(kind="file", id="v", sha256="1" * 64)}),
            "cadence": CadenceSpec(eval_steps=2, save_steps=5, keep_checkpoints=2, evaluate_first=True),
            "selection": SelectionSpec(patience=2, min_improvement=0.01, result="best"),
        }
    )
    monkeypatch.chdir(tmp_path)
    script = recipe(spec, "trl").text.replace("report_to=", "use_cpu=True, disable_tqdm=True, report_to=")
    names = {}
    exec(compile(script, "train_trl.py", "exec"), names)
    state = names["trainer"].state
    # At step 2 any figure is the first; at 4 and 6 there is no improvement.
    assert (state.global_step, state.best_global_step in (2, 4, 6)) == (6, True)


@pytest.mark.slow
@pytest.mark.usefixtures("signals_kept")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_the_script_for_trl_gives_the_same_losses(tiny_model, tmp_path, monkeypatch, adapted):
    from attempts import attempt, chat, losses, run, write_rows

    rows = write_rows(tmp_path / "train.jsonl", chat(24))
    for row in map(json.loads, rows.read_text().splitlines()):
        assert [turn["role"] for turn in row["messages"]].count("assistant") == 1
    changes = {"base": str(tiny_model), "max_steps": 4, "epochs": 9.0, "over_long": "truncate", "batch_size": 8}
    order = attempt(tiny_model, rows, **changes, **({} if adapted else {"adapter": None}))
    code, events = run(order, tmp_path / "run")
    assert code == 0

    monkeypatch.chdir(tmp_path)
    script = recipe(order.spec, "trl").text
    script = script.replace("report_to=", "use_cpu=True, disable_tqdm=True, report_to=")
    Path("train_trl.py").write_text(script)
    names = {}
    exec(compile(script, "train_trl.py", "exec"), names)
    log = names["trainer"].state.log_history
    assert [each["loss"] for each in log if "loss" in each] == pytest.approx(losses(events), abs=1e-4)
