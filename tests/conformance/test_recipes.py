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
from tunesmith.spec.job import AdapterSpec, DataSource, MethodSpec, ModelSpec, QuantizationSpec
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
