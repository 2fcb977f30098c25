"""Memory that does not suffice: told with what it was wanted for, or overcome in smaller portions."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers.optimization import Adafactor

from attempts import LORA, attempt, chat, checkpoint, judged, losses, of_kind, preferences, run, write_rows
from tunesmith.spec.events import CheckpointSaved, Evaluated, Healed, Metrics, Portion, Succeeded
from tunesmith.training.healing import smaller_portion
from tunesmith.training.kto_task import KtoTask
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.shortage import is_shortage
from tunesmith.training.text_task import TextTask
from tunesmith.training.whereabouts import Whereabouts

pytestmark = pytest.mark.usefixtures("signals_kept")

DROPOUT = LORA | {"dropout": 0.3}
_OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "adafactor": Adafactor}
TOO_MUCH = 2**46
"""Bytes that no machine gives."""


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "train.jsonl", chat(14))


def wanting_memory(monkeypatch, task, method, is_too_much):
    """Let a method of a task allocate far too much for some batches, once its own work is done."""
    real = getattr(task, method)

    def greedy(self, batch):
        result = real(self, batch)
        if is_too_much(batch):
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return result

    monkeypatch.setattr(task, method, greedy)


def failure(order, folder):
    code, events = run(order, folder)
    assert code == 1
    assert events[-1].error.code == "out_of_memory"
    return events[-1].error


# --- told ------------------------------------------------------------------------------------------------------------


def test_a_shortage_is_told_with_phase_step_lines_tokens_memory_and_what_needs_less(
    tiny_model, tmp_path, rows, monkeypatch
):
    wanting_memory(monkeypatch, TextTask, "forward", lambda batch: len(batch.lengths) == 2)
    error = failure(attempt(tiny_model, rows, epochs=1.0), tmp_path / "run")
    assert "for the forward pass of step 4" in error.message
    assert "can't allocate memory" in error.message
    assert "tokens went through the model at once, those of the lines " in error.message
    assert "B of memory the training took up to" in error.message
    for way in ("`micro_batch_size` to 1", "`gradient_checkpointing` to true", "4 bits", "`max_length`", "`shrink`"):
        assert way in error.hint


def test_a_shortage_in_the_backward_pass_is_told_as_such(tiny_model, tmp_path, rows, monkeypatch):
    real = LanguageModel.sums

    def greedy(self, batch):
        sums = real(self, batch)
        sums.loss.register_hook(lambda _: torch.empty(TOO_MUCH, dtype=torch.uint8))
        return sums

    monkeypatch.setattr(LanguageModel, "sums", greedy)
    error = failure(attempt(tiny_model, rows, micro_batch_size=1), tmp_path / "run")
    assert "for the backward pass of step 1" in error.message
    assert "`micro_batch_size`" not in error.hint
    assert "`max_length` below" in error.hint


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("validation_batches", "for the evaluation of step 4"),
        ("export", "to write the result"),
        ("save", "to write the result or a checkpoint of step 4"),
        ("verify", "to load the result again"),
    ],
)
def test_a_shortage_beside_the_steps_is_told_with_what_was_done(tiny_model, tmp_path, rows, monkeypatch, method, words):
    monkeypatch.setattr(TextTask, method, lambda *_: torch.empty(TOO_MUCH, dtype=torch.uint8))
    assert words in failure(attempt(tiny_model, rows, validation=rows), tmp_path / "run").message


def test_a_model_that_does_not_fit_is_told_as_such(tiny_model, tmp_path, rows, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *_, **__: torch.empty(TOO_MUCH, dtype=torch.uint8)
    )
    assert "load the model" in failure(attempt(tiny_model, rows), tmp_path / "run").message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=repr,
)
def test_a_shortage_is_known_by_its_many_signs(error):
    assert is_shortage(error)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shape"), OSError(28, "No space")])
def test_other_errors_are_no_shortage(error):
    assert not is_shortage(error)


# --- overcome --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora-with-dropout", "full"])
@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_healed_training_equals_one_with_the_smaller_micro_batch_from_the_start(
    tiny_model, tmp_path, rows, monkeypatch, adapter, method
):
    changes = {"adapter": adapter, "save_steps": 8}
    _, small = run(attempt(tiny_model, rows, micro_batch_size=2, **changes), tmp_path / "small")
    if method == "forward":
        wanting_memory(monkeypatch, TextTask, "forward", lambda batch: len(batch.lengths) > 2)
    else:
        _failing_backward_for_more_than_two_rows(monkeypatch)
    order = attempt(tiny_model, rows, micro_batch_size=4, on_out_of_memory="shrink", **changes)
    code, events = run(order, tmp_path / "healed")
    assert code == 0
    [healed] = of_kind(events, Healed)
    assert (healed.step, healed.phase, healed.again_from) == (1, method, 1)
    assert (healed.before.micro_batch_size, healed.after.micro_batch_size) == (4, 2)
    assert len(healed.lines) == 4
    assert losses(events) == losses(small)
    weights = "adapter_model.safetensors" if adapter else "model.safetensors"
    assert (tmp_path / "healed/artifact" / weights).read_bytes() == (tmp_path / "small/artifact" / weights).read_bytes()


def _failing_backward_for_more_than_two_rows(monkeypatch):
    real = LanguageModel.sums

    def greedy(self, batch):
        sums = real(self, batch)
        if len(batch.lengths) > 2 and sums.loss.requires_grad:
            sums.loss.register_hook(lambda _: torch.empty(TOO_MUCH, dtype=torch.uint8))
        return sums

    monkeypatch.setattr(LanguageModel, "sums", greedy)


def test_what_was_found_out_is_kept_over_a_resume(tiny_model, tmp_path, rows, monkeypatch):
    order = {"micro_batch_size": 4, "on_out_of_memory": "shrink", "adapter": DROPOUT, "save_steps": 1}
    wanting_memory(monkeypatch, TextTask, "forward", lambda batch: len(batch.lengths) > 1)
    _, whole = run(attempt(tiny_model, rows, **order), tmp_path / "whole")
    assert [event.after.micro_batch_size for event in of_kind(whole, Healed)] == [2, 1]
    folder = checkpoint(whole, tmp_path / "whole", 3)
    code, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **order), tmp_path / "resumed")
    assert code == 0
    assert not of_kind(resumed, Healed)
    assert losses(resumed) == losses(whole)[3:]


def test_a_budget_of_tokens_is_halved_from_what_did_not_fit(tiny_model, tmp_path, rows, monkeypatch):
    _, plain = run(attempt(tiny_model, rows), tmp_path / "plain")
    wanting_memory(monkeypatch, TextTask, "forward", lambda batch: batch.tokens > 150)
    code, events = run(attempt(tiny_model, rows, on_out_of_memory="shrink"), tmp_path / "healed")
    assert code == 0
    healed = of_kind(events, Healed)
    assert healed
    for event in healed:
        assert event.after.token_budget == event.tokens // 2
        assert not event.after.recomputing
    assert losses(events) == pytest.approx(losses(plain), abs=1e-5)


def test_single_rows_that_do_not_fit_are_computed_with_less_and_then_given_up(tiny_model, tmp_path, rows, monkeypatch):
    wanting_memory(monkeypatch, TextTask, "forward", lambda _: True)
    order = attempt(tiny_model, rows, micro_batch_size=2, on_out_of_memory="shrink")
    code, events = run(order, tmp_path / "run")
    assert code == 1
    shrunk = [(event.after.micro_batch_size, event.after.recomputing) for event in of_kind(events, Healed)]
    assert shrunk == [(1, False), (1, True)]
    assert events[-1].error.code == "out_of_memory"
    assert "`shrink`" not in events[-1].error.hint


def test_activations_are_kept_where_the_user_wants_that(tiny_model, tmp_path, rows, monkeypatch):
    wanting_memory(monkeypatch, TextTask, "forward", lambda _: True)
    order = attempt(tiny_model, rows, micro_batch_size=2, gradient_checkpointing=False, on_out_of_memory="shrink")
    _, events = run(order, tmp_path / "run")
    assert [event.after.recomputing for event in of_kind(events, Healed)] == [False]


def test_computing_activations_again_heals_too(tiny_model, tmp_path, rows, monkeypatch):
    _, plain = run(attempt(tiny_model, rows, micro_batch_size=1, adapter=DROPOUT), tmp_path / "plain")
    real = TextTask.forward

    def greedy(self, batch):
        if not self.language_model.recomputes and self.model.training:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return real(self, batch)

    monkeypatch.setattr(TextTask, "forward", greedy)
    order = attempt(tiny_model, rows, micro_batch_size=1, adapter=DROPOUT, on_out_of_memory="shrink")
    code, events = run(order, tmp_path / "healed")
    assert code == 0
    assert of_kind(events, Healed)[0].after.recomputing
    assert losses(events) == pytest.approx(losses(plain), abs=1e-5)


def test_an_evaluation_is_healed_without_changing_the_training(tiny_model, tmp_path, rows, monkeypatch):
    _, plain = run(attempt(tiny_model, rows, validation=rows, eval_steps=1), tmp_path / "plain")
    real = TextTask.forward

    def greedy(self, batch):
        if not self.model.training and len(batch.lengths) > 4:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return real(self, batch)

    monkeypatch.setattr(TextTask, "forward", greedy)
    order = attempt(tiny_model, rows, validation=rows, eval_steps=1, on_out_of_memory="shrink")
    code, events = run(order, tmp_path / "healed")
    assert code == 0
    assert {event.phase for event in of_kind(events, Healed)} == {"evaluation"}
    assert losses(events) == pytest.approx(losses(plain), abs=1e-5)


def test_the_evaluation_before_the_first_step_is_healed_too(tiny_model, tmp_path, rows, monkeypatch):
    changes = {"validation": rows, "evaluate_first": True}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    _once_too_much(monkeypatch, TextTask, "forward", 1)
    code, events = run(attempt(tiny_model, rows, on_out_of_memory="shrink", **changes), tmp_path / "healed")
    assert code == 0
    assert [(event.step, event.phase, event.again_from) for event in of_kind(events, Healed)] == [(0, "evaluation", 0)]
    scores = [[(each.step, each.loss) for each in of_kind(some, Evaluated)] for some in (events, plain)]
    assert [step for step, _ in scores[0]] == [0, 4, 8]
    assert dict(scores[0]) == pytest.approx(dict(scores[1]), abs=1e-5)


def _once_too_much(monkeypatch, owner, method, at_call):
    """Let one call allocate far too much, once its own work is done."""
    real, calls = getattr(owner, method), []

    def greedy(*arguments, **named):
        result = real(*arguments, **named)
        calls.append(1)
        if len(calls) == at_call:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return result

    monkeypatch.setattr(owner, method, greedy)


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_shortage_before_the_optimizer_was_called_does_the_step_again(
    tiny_model, tmp_path, rows, monkeypatch, optimizer, step
):
    changes = {"micro_batch_size": 4, "optimizer": optimizer}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    _once_too_much(monkeypatch, torch.nn.utils, "clip_grad_norm_", step)
    code, events = run(attempt(tiny_model, rows, on_out_of_memory="shrink", **changes), tmp_path / "healed")
    assert code == 0
    [healed] = of_kind(events, Healed)
    assert (healed.step, healed.again_from, healed.phase) == (step, step, "optimizer")
    assert losses(events) == pytest.approx(losses(plain), abs=1e-4)


@pytest.mark.parametrize("call", [1, 4])
def test_an_optimizer_that_had_not_begun_does_its_step_again(tiny_model, tmp_path, rows, monkeypatch, call):
    changes = {"adapter": DROPOUT, "micro_batch_size": 4}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    # It makes room for its moments there, once a step for each of its two groups.
    _once_too_much(monkeypatch, torch.optim.AdamW, "_init_group", 2 * call - 1)
    code, events = run(attempt(tiny_model, rows, on_out_of_memory="shrink", **changes), tmp_path / "healed")
    assert code == 0
    [healed] = of_kind(events, Healed)
    assert (healed.step, healed.again_from, healed.phase) == (call, call, "optimizer")
    assert losses(events)[:call] == pytest.approx(losses(plain)[:call], abs=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adafactor"])
def test_weights_that_the_optimizer_has_changed_are_taken_back_from_the_last_checkpoint(
    tiny_model, tmp_path, rows, monkeypatch, optimizer
):
    changes = {"save_steps": 2, "micro_batch_size": 4, "optimizer": optimizer}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    _once_too_much(monkeypatch, _OPTIMIZERS[optimizer], "step", 6)
    code, events = run(attempt(tiny_model, rows, on_out_of_memory="shrink", **changes), tmp_path / "healed")
    assert code == 0
    [healed] = of_kind(events, Healed)
    assert (healed.step, healed.again_from) == (6, 5)
    assert [event.step for event in of_kind(events, Metrics)] == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    latest = {event.step: event.loss for event in of_kind(events, Metrics)}
    assert list(latest.values()) == pytest.approx(losses(plain), abs=1e-5)
    assert [event.step for event in of_kind(events, CheckpointSaved)] == [2, 4, 6, 8]
    assert of_kind(events, Succeeded)


def test_going_back_to_a_checkpoint_keeps_what_was_found_out_since(tiny_model, tmp_path, rows, monkeypatch):
    wanting_memory(monkeypatch, TextTask, "forward", lambda batch: len(batch.lengths) == 2)
    _once_too_much(monkeypatch, torch.optim.AdamW, "step", 6)
    changes = {"save_steps": 2, "micro_batch_size": 4, "batch_size": 4, "on_out_of_memory": "shrink"}
    code, events = run(attempt(tiny_model, rows, **changes), tmp_path / "run")
    assert code == 0
    told = [(event.step, event.again_from, event.phase) for event in of_kind(events, Healed)]
    sizes = [(event.before.micro_batch_size, event.after.micro_batch_size) for event in of_kind(events, Healed)]
    assert told[:2] == [(4, 4, "forward"), (4, 4, "forward")]
    assert sizes[:2] == [(4, 2), (2, 1)]
    assert (told[2], sizes[2]) == ((6, 5, "optimizer"), (1, 1))
    assert of_kind(events, Healed)[2].after.recomputing
    assert of_kind(events, Succeeded)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_without_a_checkpoint_spoilt_weights_fail_the_job(tiny_model, tmp_path, rows, monkeypatch, optimizer):
    _once_too_much(monkeypatch, _OPTIMIZERS[optimizer], "step", 1)
    order = attempt(tiny_model, rows, on_out_of_memory="shrink", micro_batch_size=4, optimizer=optimizer)
    error = failure(order, tmp_path / "run")
    assert "for the optimizer of step 1" in error.message


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_other_methods_are_healed_alike(tiny_model, tmp_path, monkeypatch, kind):
    rows = write_rows(tmp_path / "train.jsonl", {"dpo": preferences, "kto": judged}[kind](12))
    changes = {"method": {"kind": kind, "parameters": {}}, "adapter": DROPOUT}
    _, small = run(attempt(tiny_model, rows, micro_batch_size=2, **changes), tmp_path / "small")
    from tunesmith.training.dpo_task import DpoTask

    task = {"dpo": DpoTask, "kto": KtoTask}[kind]
    wanting_memory(monkeypatch, task, "forward", lambda batch: batch.trained > 2)
    order = attempt(tiny_model, rows, micro_batch_size=4, on_out_of_memory="shrink", **changes)
    code, events = run(order, tmp_path / "healed")
    assert code == 0
    assert len(of_kind(events, Healed)) == 1
    assert losses(events) == losses(small)


@pytest.mark.slow
def test_a_pass_over_all_rows_of_a_kto_step_is_made_smaller_until_it_fits(tiny_model, tmp_path, monkeypatch):
    rows = write_rows(tmp_path / "train.jsonl", judged(12))
    real, steps, in_a_step = LanguageModel.batches, KtoTask.micro_batches, []

    def greedy(self, rows):
        if in_a_step and not self.core.training and len(rows) > 1:
            torch.empty(TOO_MUCH, dtype=torch.uint8)
        return real(self, rows)

    def micro_batches(self, sequences):
        in_a_step.append(1)
        try:
            return steps(self, sequences)
        finally:
            in_a_step.clear()

    monkeypatch.setattr(LanguageModel, "batches", greedy)
    monkeypatch.setattr(KtoTask, "micro_batches", micro_batches)
    order = attempt(
        tiny_model, rows, method={"kind": "kto", "parameters": {}}, micro_batch_size=1, on_out_of_memory="shrink"
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    healed = of_kind(events, Healed)
    assert healed
    assert all(event.lines == () for event in healed)


@pytest.mark.parametrize("budget", [1, 8, 15])
def test_a_budget_below_any_length_limit_is_not_halved(budget):
    portion = Portion(micro_batch_size=None, token_budget=budget, recomputing=True)
    assert smaller_portion(portion, Whereabouts("forward", 1), may_recompute=True) is None


@pytest.mark.slow
def test_a_real_limit_of_the_process_is_kept_to(tiny_model, tmp_path):
    """The worker may allocate only a little more than it has when training begins."""
    rows = write_rows(tmp_path / "train.jsonl", chat(256))
    order = attempt(tiny_model, rows, batch_size=256, micro_batch_size=256, epochs=2.0, on_out_of_memory="shrink")
    from tunesmith.rundir import RunDirectory

    directory = RunDirectory(tmp_path / "run")
    directory.write_spec(order)
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import psutil
        from tunesmith.training.text_task import TextTask
        from tunesmith.worker import main

        real, export = TextTask.micro_batches, TextTask.export

        def limited(self, sequences):
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if soft == resource.RLIM_INFINITY:
                soft = psutil.Process().memory_info().data + 96 * 2**20
                resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
            return real(self, sequences)

        def unlimited(self, folder):
            resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            return export(self, folder)

        TextTask.micro_batches, TextTask.export = limited, unlimited
        sys.exit(main(Path(sys.argv[1])))
    """)
    done = subprocess.run([sys.executable, "-c", script, str(directory.path)], check=False, capture_output=True)
    events = directory.read_events(0)[0]
    assert done.returncode == 0, json.dumps(events[-1].model_dump(mode="json"))
    healed = of_kind(events, Healed)
    assert healed
    size = healed[-1].after.micro_batch_size
    again = attempt(tiny_model, rows, batch_size=256, micro_batch_size=size, epochs=2.0)
    assert losses(events) == losses(run(again, tmp_path / "again")[1])
