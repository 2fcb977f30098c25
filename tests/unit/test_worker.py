"""What a worker does with its orders, seen from outside: events, exit code and files."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from attempts import LORA, attempt, chat, checkpoint, losses, of_kind, run, write_rows
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import (
    Checked,
    CheckpointSaved,
    Evaluated,
    Failed,
    Metrics,
    Note,
    Prepared,
    Resumed,
    Started,
    Stopped,
    Succeeded,
)
from tunesmith.training.checkpoint import verify_folder

pytestmark = pytest.mark.usefixtures("signals_kept")


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "train.jsonl", chat(10))


def _failure(order, folder):
    code, events = run(order, folder)
    assert code == 1
    assert isinstance(events[-1], Failed)
    return events[-1].error


def test_a_training_reports_from_start_to_success(tiny_model, tmp_path, rows):
    code, events = run(attempt(tiny_model, rows, validation=rows), tmp_path / "run")
    assert code == 0
    kinds = [event.kind for event in events]
    epoch = ["metrics"] * 3 + ["evaluated", "checkpoint_saved"]
    assert kinds == ["started", "prepared", *epoch, *epoch, "succeeded"]
    prepared = of_kind(events, Prepared)[0]
    assert (prepared.rows, prepared.sequences, prepared.total_steps) == (10, 10, 6)
    assert "⟦After 0 comes 1.<|im_end|>⟧" in prepared.sample
    metrics = of_kind(events, Metrics)
    assert [event.step for event in metrics] == list(range(1, 7))
    assert metrics[-1].epoch == 2.0
    assert metrics[-1].tokens_total == 2 * prepared.tokens
    assert metrics[-1].eta_seconds == 0.0
    assert of_kind(events, Evaluated)[1].loss < of_kind(events, Evaluated)[0].loss
    assert of_kind(events, Succeeded)[0].logit_change > 0


@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_few_rows_can_be_learnt_by_heart(tiny_model, tmp_path, adapter, dtype):
    train = write_rows(tmp_path / "train.jsonl", chat(2))
    order = attempt(tiny_model, train, adapter=adapter, dtype=dtype, epochs=40.0, learning_rate=0.03, save_steps=40)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events)[-1] < 0.5 * losses(events)[0]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`")
def test_the_adapter_loads_in_plain_peft_and_changes_the_answer(tiny_model, tmp_path, rows):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run(attempt(tiny_model, rows, epochs=10.0), tmp_path / "run")
    artifact = tmp_path / "run/artifact"
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    assert tokenizer.chat_template
    ids = torch.tensor([tokenizer("What comes after 3?")["input_ids"]])
    before = base(ids).logits
    after = PeftModel.from_pretrained(base, artifact)(ids).logits
    assert (after - before).abs().max() > 0.01
    assert json.loads((artifact / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_model)
    card = (artifact / "README.md").read_text()
    assert "PeftModel" in card
    assert verify_folder(artifact) == {"step": 30}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_full_model_loads_in_plain_transformers_in_the_format_of_the_job(tiny_model, tmp_path, rows, dtype):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    code, _ = run(attempt(tiny_model, rows, adapter=None, dtype=dtype), tmp_path / "run")
    assert code == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/artifact", dtype="auto")
    assert model.dtype == getattr(torch, dtype)
    assert AutoTokenizer.from_pretrained(tmp_path / "run/artifact").chat_template


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
def test_the_size_of_micro_batches_changes_no_loss(tiny_model, tmp_path, packing):
    train = write_rows(tmp_path / "train.jsonl", chat(40))
    runs = [
        losses(run(attempt(tiny_model, train, packing=packing, micro_batch_size=size), tmp_path / f"run-{size}")[1])
        for size in (1, 3, 4, None)
    ]
    for other in runs[1:]:
        assert other == pytest.approx(runs[0], abs=1e-5)


def test_the_same_orders_give_the_same_bytes(tiny_model, tmp_path, rows):
    order = attempt(tiny_model, rows, adapter=LORA | {"dropout": 0.2})
    results = []
    for name in ("one", "two"):
        run(order, tmp_path / name)
        results.append((tmp_path / name / "artifact/adapter_model.safetensors").read_bytes())
    assert results[0] == results[1]


def test_over_long_rows_are_dropped_and_named(tiny_model, tmp_path, rows):
    _, events = run(attempt(tiny_model, rows, max_length=64), tmp_path / "run")
    prepared = of_kind(events, Prepared)[0]
    assert prepared.dropped == len(prepared.dropped_lines) > 0
    assert prepared.rows == 10 - prepared.dropped


def test_over_long_rows_are_cut_and_named(tiny_model, tmp_path, rows):
    _, events = run(attempt(tiny_model, rows, max_length=64, over_long="truncate"), tmp_path / "run")
    prepared = of_kind(events, Prepared)[0]
    assert prepared.truncated == len(prepared.truncated_lines) > 0
    assert prepared.tokens <= 64 * prepared.rows


def test_over_long_rows_can_be_refused(tiny_model, tmp_path, rows):
    error = _failure(attempt(tiny_model, rows, max_length=64, over_long="refuse"), tmp_path / "run")
    assert error.code == "row_too_long"
    assert "sequence length is too long: " in error.message
    assert "> 64" in error.message


@pytest.mark.parametrize("purpose", ["train", "check"])
@pytest.mark.parametrize("policy", ["drop", "truncate"])
def test_nothing_but_over_long_rows_is_an_error(tiny_model, tmp_path, rows, purpose, policy):
    error = _failure(attempt(tiny_model, rows, max_length=8, over_long=policy, purpose=purpose), tmp_path / "run")
    assert error.code == "nothing_to_train"


def test_a_longer_limit_than_the_model_has_is_lowered_and_said_so(tiny_model, tmp_path, rows):
    _, events = run(attempt(tiny_model, rows, max_length=100_000), tmp_path / "run")
    assert "from 100000 to 4096" in of_kind(events, Note)[0].message


def test_rows_without_trained_tokens_are_counted(tiny_model, tmp_path):
    long = {"messages": [{"role": "user", "content": "well " * 200}, {"role": "assistant", "content": "no"}]}
    train = write_rows(tmp_path / "train.jsonl", [*chat(4), long])
    _, events = run(attempt(tiny_model, train, max_length=128, over_long="truncate"), tmp_path / "run")
    assert "First lines: 5" in of_kind(events, Note)[0].message
    assert of_kind(events, Prepared)[0].rows == 4


def test_only_the_first_rows_are_used_if_so_asked(tiny_model, tmp_path, rows):
    _, events = run(attempt(tiny_model, rows, max_samples=3), tmp_path / "run")
    assert of_kind(events, Prepared)[0].rows == 3


def test_a_check_reads_the_first_rows_and_no_further(tiny_model, tmp_path):
    rows = write_rows(tmp_path / "train.jsonl", chat(2_100))
    with rows.open("a") as file:
        file.write("broken")
    code, events = run(attempt(tiny_model, rows, purpose="check", rows=2_101), tmp_path / "run")
    assert code == 0
    assert [type(event) for event in events] == [Started, Checked]


def test_a_check_needs_no_weights(tiny_model, tmp_path, rows):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    code, _ = run(attempt(folder, rows, purpose="check"), tmp_path / "run")
    assert code == 0
    error = _failure(attempt(folder, rows), tmp_path / "train")
    assert (error.code, "model.safetensors is missing" in error.message) == ("model_load", True)


def test_pickled_weights_are_never_loaded(tiny_model, tmp_path, rows):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled" in _failure(attempt(folder, rows), tmp_path / "run").message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mystery", "auto_map": {"AutoConfig": "x.Y"}}, "mystery"),
        ({"model_type": "clip"}, "causal"),
    ],
)
def test_unknown_architectures_are_refused(tiny_model, tmp_path, rows, change, words):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    config = json.loads((tiny_model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    error = _failure(attempt(folder, rows, purpose="check"), tmp_path / "run")
    assert error.code == "model_load"
    assert words in error.message


def test_incomplete_weights_are_refused(tiny_model, tmp_path, rows):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    tensors = load_file(tiny_model / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "incomplete" in _failure(attempt(folder, rows), tmp_path / "run").message


def test_weights_that_are_not_finite_stop_the_job_with_the_rows(tiny_model, tmp_path, rows):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    tensors = load_file(tiny_model / "model.safetensors")
    tensors["model.norm.weight"] += float("inf")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    error = _failure(attempt(folder, rows), tmp_path / "run")
    assert error.code in ("non_finite", "model_load")


@pytest.mark.parametrize("bad_step", [1, 4])
def test_a_loss_that_is_not_finite_stops_the_job_and_is_not_saved(tiny_model, tmp_path, rows, monkeypatch, bad_step):
    from tunesmith.training.text_task import TextTask

    calls = []

    def forward(self, batch, real=TextTask.forward):
        sums = real(self, batch)
        calls.append(batch)
        return replace(sums, loss=sums.loss * float("nan")) if len(calls) == bad_step else sums

    monkeypatch.setattr(TextTask, "forward", forward)
    folder = tmp_path / "run"
    code, events = run(attempt(tiny_model, rows, save_steps=1), folder)
    assert code == 1
    error = events[-1].error
    assert error.code == "non_finite"
    assert f"step {bad_step} " in error.message
    assert "Lines of its rows: " in error.message
    assert len(of_kind(events, CheckpointSaved)) == bad_step - 1


def test_targets_that_the_model_lacks_are_refused_with_those_it_has(tiny_model, tmp_path, rows):
    error = _failure(attempt(tiny_model, rows, adapter=LORA | {"targets": ["nothing"]}), tmp_path / "run")
    assert error.code == "invalid_adapter"
    assert "q_proj" in error.hint


def test_an_adapter_can_be_trained_further(tiny_model, tmp_path, rows):
    run(attempt(tiny_model, rows), tmp_path / "first")
    artifact = tmp_path / "first/artifact"
    order = attempt(tiny_model, rows, continue_from=artifact, adapter=LORA | {"rank": 8, "alpha": 16.0})
    code, events = run(order, tmp_path / "second")
    assert code == 0
    assert "rank 4 instead of 8, alpha 8 instead of 16" in of_kind(events, Note)[0].message
    assert losses(events)[0] < losses(run(attempt(tiny_model, rows), tmp_path / "third")[1])[0] - 0.1
    names = [load_file(tmp_path / name / "artifact/adapter_model.safetensors").keys() for name in ("first", "second")]
    assert names[0] == names[1]


def test_an_adapter_of_another_model_is_refused(tiny_model, tmp_path, rows):
    run(attempt(tiny_model, rows), tmp_path / "first")
    weights = tmp_path / "first/artifact/adapter_model.safetensors"
    save_file({name: tensor[:, :2].contiguous() for name, tensor in load_file(weights).items()}, weights)
    error = _failure(attempt(tiny_model, rows, continue_from=weights.parent), tmp_path / "second")
    assert error.code == "invalid_adapter"


def test_training_without_effect_is_no_success(tiny_model, tmp_path, rows):
    error = _failure(attempt(tiny_model, rows, learning_rate=1e-30), tmp_path / "run")
    assert error.code == "artifact"
    assert "changed nothing" in error.message
    assert not (tmp_path / "run/artifact").exists()


def test_an_unknown_method_is_refused_with_those_known(tiny_model, tmp_path, rows):
    error = _failure(attempt(tiny_model, rows, method={"kind": "magic", "parameters": {}}), tmp_path / "run")
    assert error.code == "unsupported"
    assert "sft" in error.message


def test_an_unforeseen_error_is_reported_without_its_traceback(tiny_model, tmp_path, rows, monkeypatch, capsys):
    from tunesmith.methods import sft

    monkeypatch.setattr(sft, "check", lambda *_: 1 / 0)
    error = _failure(attempt(tiny_model, rows, purpose="check"), tmp_path / "run")
    assert (error.code, error.message) == ("internal_error", "ZeroDivisionError: division by zero")
    assert "Traceback" in capsys.readouterr().err


def test_too_little_memory_is_named_with_what_helps(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training.text_task import TextTask

    def forward(self, batch):
        raise torch.OutOfMemoryError("Tried to allocate 2 GiB")

    monkeypatch.setattr(TextTask, "forward", forward)
    error = _failure(attempt(tiny_model, rows), tmp_path / "run")
    assert error.code == "out_of_memory"
    assert "micro_batch_size" in error.hint


def _stopping_at(monkeypatch, method, call):
    """Ask for a stop in the middle of a call of the task."""
    from tunesmith.training.text_task import TextTask

    real, calls = getattr(TextTask, method), []

    def spied(self, *arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments)

    monkeypatch.setattr(TextTask, method, spied)


def test_a_stop_saves_at_the_end_of_the_step_and_resuming_loses_nothing(tiny_model, tmp_path, rows, monkeypatch):
    whole = losses(run(attempt(tiny_model, rows), tmp_path / "whole")[1])
    with monkeypatch.context() as patch:
        _stopping_at(patch, "forward", 2)
        code, events = run(attempt(tiny_model, rows), tmp_path / "stopped")
    assert code == 0
    assert (events[-1].kind, events[-1].step) == ("stopped", 2)
    (saved,) = of_kind(events, CheckpointSaved)
    assert (saved.step, saved.offered) == (2, False)
    order = attempt(tiny_model, rows, resume_from=[tmp_path / "stopped" / saved.path])
    _, resumed = run(order, tmp_path / "resumed")
    assert losses(events) + losses(resumed) == whole


def test_a_stop_during_evaluation_is_obeyed_and_the_evaluation_made_up_for(tiny_model, tmp_path, rows, monkeypatch):
    with monkeypatch.context() as patch:
        _stopping_at(patch, "validation_batches", 1)
        code, events = run(attempt(tiny_model, rows, validation=rows), tmp_path / "stopped")
    assert code == 0
    assert isinstance(events[-1], Stopped)
    assert not of_kind(events, Evaluated)
    folder = checkpoint(events, tmp_path / "stopped", 3)
    _, resumed = run(attempt(tiny_model, rows, validation=rows, resume_from=[folder]), tmp_path / "resumed")
    assert [event.step for event in of_kind(resumed, Evaluated)] == [3, 6]
    assert [event.step for event in of_kind(resumed, CheckpointSaved) if event.offered] == [3, 6]


def test_a_stop_before_the_first_step_is_obeyed(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training.text import Encoder

    def encode(self, examples, real=Encoder.encode):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, examples)

    monkeypatch.setattr(Encoder, "encode", encode)
    code, events = run(attempt(tiny_model, rows), tmp_path / "run")
    assert code == 0
    assert [event.kind for event in events if event.kind != "prepared"] == ["started", "stopped"]
    assert events[-1].step == 0


@pytest.mark.slow
def test_the_worker_runs_as_a_program(tiny_model, tmp_path, rows):
    directory = RunDirectory(tmp_path / "run")
    directory.write_spec(attempt(tiny_model, rows, purpose="check"))
    done = subprocess.run([sys.executable, "-m", "tunesmith.worker", str(directory.path)], check=False)
    assert done.returncode == 0
    assert directory.read_events(0)[0][-1].kind == "checked"


@pytest.mark.slow
def test_the_worker_runs_in_a_fork_of_a_process_that_has_computed_nothing(tiny_model, tmp_path, rows):
    directory = RunDirectory(tmp_path / "run")
    directory.write_spec(attempt(tiny_model, rows))
    program = (
        "import os, sys, torch, transformers, peft\n"
        "from pathlib import Path\n"
        "from tunesmith.worker import main\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(main(Path(sys.argv[1])))\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(directory.path)], check=False)
    assert done.returncode == 0
    assert directory.read_events(0)[0][-1].kind == "succeeded"


def test_resuming_says_from_where(tiny_model, tmp_path, rows):
    _, events = run(attempt(tiny_model, rows, save_steps=2), tmp_path / "whole")
    order = attempt(tiny_model, rows, save_steps=2, resume_from=[checkpoint(events, tmp_path / "whole", 4)])
    _, resumed = run(order, tmp_path / "resumed")
    assert [event.step for event in of_kind(resumed, Resumed)] == [4]
    assert of_kind(resumed, Metrics)[0].tokens_total == of_kind(events, Metrics)[4].tokens_total
