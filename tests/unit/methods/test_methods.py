"""Every method honours the contract of the plug-in folder."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from attempts import LORA, attempt, chat, judged, labelled, of_kind, preferences, run, write_rows
from tunesmith.plugins import load_plugins
from tunesmith.spec.events import Checked, Evaluated, Succeeded
from tunesmith.spec.job import Frozen

METHODS = load_plugins("tunesmith.methods")
ROWS = {
    "classification": labelled,
    "dpo": preferences,
    "kto": judged,
    "orpo": preferences,
    "reward": preferences,
    "sft": chat,
}
ON_TEXT = [name for name, method in METHODS.items() if "text" in method.MODALITIES]
SCORING = ("classification", "reward")


def order(name, model, rows, **changes):
    task = "sequence_classification" if name in SCORING else "causal_lm"
    return attempt(model, rows, method={"kind": name, "parameters": {}}, task=task, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_are_a_frozen_model_that_refuses_unknown_fields(name):
    parameters = METHODS[name].Parameters
    assert issubclass(parameters, Frozen)
    assert parameters.model_validate_json(parameters().model_dump_json()) == parameters()
    with pytest.raises(ValidationError):
        parameters(nonsense=1)


@pytest.mark.parametrize("name", METHODS)
def test_importing_a_method_imports_no_torch(name):
    program = f"import sys, tunesmith.methods.{name}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("name", ON_TEXT)
def test_a_method_checks_trains_scores_and_exports(name, adapter, tiny_model, tmp_path, signals_kept):
    train = write_rows(tmp_path / "train.jsonl", ROWS[name](8))
    _, checked = run(order(name, tiny_model, train, purpose="check"), tmp_path / "check")
    assert of_kind(checked, Checked)
    changes = {"warmup_ratio": 0.0, "epochs": 6.0, "validation": train, "adapter": adapter}
    code, events = run(order(name, tiny_model, train, **changes), tmp_path / "train")
    assert code == 0
    scored = of_kind(events, Evaluated)
    assert len(scored) == 6
    assert scored[-1].loss < scored[0].loss
    [done] = of_kind(events, Succeeded)
    assert done.logit_change > 0


@pytest.mark.parametrize("name", [name for name in ON_TEXT if name != "sft"])
def test_rows_of_another_shape_are_refused_at_the_check_with_their_line(name, tiny_model, tmp_path, signals_kept):
    rows = write_rows(tmp_path / "train.jsonl", chat(2))
    code, events = run(order(name, tiny_model, rows, purpose="check"), tmp_path / "run")
    assert code == 1
    error = events[-1].error
    assert error.code == "invalid_dataset"
    assert error.message == f"Line 1 is a conversation, which the method `{name}` does not train."
    assert "rows without pictures" in error.hint


@pytest.mark.parametrize("label", [-1, 1.0, True, "pos"])
def test_a_label_that_is_no_class_is_named_with_its_line(label, tiny_model, tmp_path, signals_kept):
    rows = write_rows(tmp_path / "train.jsonl", [{"text": "Refund, please.", "label": label}] * 2)
    code, events = run(order("classification", tiny_model, rows, purpose="check"), tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "invalid_dataset"
    asked = "`label` must be the number of a class, an integer from 0 to 9,999"
    assert events[-1].error.message == f"Line 1: {asked}, got {label!r}."


@pytest.mark.parametrize("name", [name for name in ON_TEXT if name != "sft"])
def test_packing_is_refused_where_rows_are_compared_or_judged(name, tiny_model, tmp_path, signals_kept):
    rows = write_rows(tmp_path / "train.jsonl", ROWS[name](4))
    code, events = run(order(name, tiny_model, rows, purpose="check", packing=True), tmp_path / "run")
    assert code == 1
    assert (events[-1].error.code, events[-1].error.param) == ("unsupported", "data.packing")


@pytest.mark.parametrize("name", ON_TEXT)
def test_a_method_that_cannot_train_the_asked_task_says_which_it_can(name, tiny_model, tmp_path, signals_kept):
    rows = write_rows(tmp_path / "train.jsonl", ROWS[name](4))
    wrong, right = "sequence_classification", "causal_lm"
    if name in SCORING:
        wrong, right = right, wrong
    method = {"kind": name, "parameters": {}}
    _, events = run(attempt(tiny_model, rows, method=method, task=wrong, purpose="check"), tmp_path / "run")
    assert events[-1].error.param == "model.task"
    assert f"only `{right}`" in events[-1].error.message


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("dpo", {"beta": 0}),
        ("dpo", {"beta": 2.1}),
        ("dpo", {"label_smoothing": 0.5}),
        ("dpo", {"loss": "ipo", "label_smoothing": 0.1}),
        ("orpo", {"beta": 0}),
        ("kto", {"desirable_weight": 0}),
        ("kto", {"undesirable_weight": -1}),
        ("reward", {"center_coefficient": -0.1}),
        ("classification", {"labels": 1}),
        ("text_to_image", {"caption_dropout": 1.1}),
        ("text_to_image", {"ema_decay": 1.0}),
        ("text_to_image", {"timestep_sampling": "logit"}),
        ("text_to_image", {"noise_schedule": "ddpm"}),
        ("text_to_image", {"sample_width": 0}),
    ],
)
def test_parameters_out_of_range_are_refused(name, parameters):
    with pytest.raises(ValidationError):
        METHODS[name].Parameters.model_validate(parameters)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What comes after 3?", "completion": " 4"},
        {"prompt": [{"role": "user", "content": "3?"}], "completion": [{"role": "assistant", "content": "4"}]},
        {"text": "After 3 comes 4."},
    ],
    ids=["plain", "turns", "text"],
)
def test_supervised_tuning_reads_every_format(row, tiny_model, tmp_path, signals_kept):
    code, events = run(attempt(tiny_model, write_rows(tmp_path / "train.jsonl", [row] * 4)), tmp_path / "run")
    assert code == 0
    assert of_kind(events, Succeeded)


def test_rows_of_one_class_are_refused_at_the_check(tiny_model, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [row | {"label": 2} for row in labelled(6)])
    changes = {"purpose": "check", "classes": [2]}
    code, events = run(order("classification", tiny_model, rows, **changes), tmp_path / "check")
    assert code == 1
    error = events[-1].error
    assert (error.code, error.message) == (
        "invalid_dataset", "All rows have the class 2, so there is nothing to tell apart."
    )  # fmt: skip
    told = order("classification", tiny_model, rows, **changes)
    method = told.spec.method.model_copy(update={"parameters": {"labels": 3}})
    told = told.model_copy(update={"spec": told.spec.model_copy(update={"method": method})})
    _, events = run(told, tmp_path / "told")
    assert of_kind(events, Checked)
