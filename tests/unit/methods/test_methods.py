"""Every method honours the contract of the plug-in folder."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from attempts import attempt, chat, losses, of_kind, run, write_rows
from tunesmith.plugins import load_plugins
from tunesmith.spec.events import Checked, Succeeded
from tunesmith.spec.job import Frozen

METHODS = load_plugins("tunesmith.methods")


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


@pytest.mark.parametrize("name", METHODS)
def test_a_method_checks_trains_and_exports(name, tiny_model, tmp_path, signals_kept):
    train = write_rows(tmp_path / "train.jsonl", chat(8))
    method = {"kind": name, "parameters": {}}
    _, checked = run(attempt(tiny_model, train, method=method, purpose="check"), tmp_path / "check")
    assert of_kind(checked, Checked)
    code, events = run(attempt(tiny_model, train, method=method, warmup_ratio=0.0), tmp_path / "train")
    assert code == 0
    assert losses(events)[-1] < losses(events)[0]
    assert of_kind(events, Succeeded)


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
