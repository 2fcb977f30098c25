"""The engine's promises on a CUDA device."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from attempts import LORA, attempt, chat, checkpoint, losses, of_kind, run, write_rows
from tunesmith.spec.events import Healed, Metrics, Resumed, Sampled, Started, Succeeded
from tunesmith.training import attention
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.model import load_model
from tunesmith.training.text import TokenRow

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("signals_kept"),
]


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "train.jsonl", chat(12))


@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
def test_a_training_succeeds_and_lowers_the_loss(tiny_model, tmp_path, rows, adapter, dtype, packing):
    order = attempt(tiny_model, rows, adapter=adapter, dtype=dtype, packing=packing, epochs=10.0, validation=rows)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert of_kind(events, Started)[0].device == torch.cuda.get_device_name(0)
    assert losses(events)[-1] < losses(events)[0]
    assert [event.step for event in of_kind(events, Metrics)] == list(range(1, len(losses(events)) + 1))
    assert of_kind(events, Succeeded)


def test_losses_equal_those_of_the_processor(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training import model

    _, on_gpu = run(attempt(tiny_model, rows), tmp_path / "gpu")
    monkeypatch.setattr(model, "pick_device", lambda: torch.device("cpu"))
    _, on_cpu = run(attempt(tiny_model, rows), tmp_path / "cpu")
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), abs=1e-3)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_variable_length_kernel_equals_attention_row_by_row(window, dtype):
    device = torch.device("cuda")
    lengths = (9, 30, 4)
    query = torch.randn(1, 4, sum(lengths), 16, device=device, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(1, 2, sum(lengths), 16, device=device, dtype=dtype, requires_grad=True) for _ in range(2))
    with attention.attending_within(lengths, device):
        fast, _ = attention.attend(torch.nn.Module(), query, key, value, None, sliding_window=window)
        parts = (query.float(), key.float(), value.float())
        plain, _ = attention.attend(torch.nn.Module(), *parts, None, sliding_window=window)
    torch.testing.assert_close(fast.float(), plain, atol=2e-2, rtol=2e-2)
    gradients = [
        torch.autograd.grad(output.float().square().sum(), query, retain_graph=True)[0] for output in (fast, plain)
    ]
    torch.testing.assert_close(*(gradient.float() for gradient in gradients), atol=5e-2, rtol=5e-2)


def test_rows_are_kept_apart(tiny_model):
    import numpy as np

    language_model = LanguageModel(
        load_model(tiny_model, torch.bfloat16, torch.device("cuda")), torch.device("cuda"), torch.bfloat16
    )
    language_model.settle()
    assert language_model.layout == "concatenated"
    rows = [TokenRow(1, np.arange(length, dtype=np.int32), np.arange(length) > 0) for length in (9, 14)]
    other = TokenRow(1, rows[0].ids + 5, rows[0].trained)
    with torch.no_grad():
        kept, changed = (language_model.logits(language_model.batch([first, rows[1]])) for first in (rows[0], other))
    assert torch.equal(kept[9:], changed[9:])


def test_resuming_goes_on_where_it_stopped(tiny_model, tmp_path, rows):
    _, whole = run(attempt(tiny_model, rows, save_steps=1), tmp_path / "whole")
    order = attempt(tiny_model, rows, save_steps=1, resume_from=[checkpoint(whole, tmp_path / "whole", 3)])
    _, resumed = run(order, tmp_path / "resumed")
    assert of_kind(resumed, Resumed)
    assert losses(resumed) == pytest.approx(losses(whole)[3:], abs=1e-4)


def test_a_loss_that_is_not_finite_stops_the_job_within_three_steps(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training.text_task import TextTask

    calls = []

    def forward(self, batch, real=TextTask.forward):
        sums = real(self, batch)
        calls.append(batch)
        return replace(sums, loss=sums.loss * math.nan) if len(calls) == 2 else sums

    monkeypatch.setattr(TextTask, "forward", forward)
    code, events = run(attempt(tiny_model, rows, save_steps=1), tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "non_finite"
    assert len(calls) <= 4


QUANTIZATIONS = pytest.mark.parametrize(
    "quantization",
    [{"bits": 4, "kind": "nf4"}, {"bits": 4, "kind": "fp4", "double": False}, {"bits": 8}],
    ids=["nf4", "fp4", "int8"],
)


@QUANTIZATIONS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed-again"])
def test_an_adapter_over_a_quantized_base_lowers_the_loss(tiny_model, tmp_path, rows, quantization, dtype, again):
    order = attempt(
        tiny_model,
        rows,
        quantization=quantization,
        dtype=dtype,
        gradient_checkpointing=again,
        epochs=6.0,
        validation=rows,
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events)[-1] < losses(events)[0] - 1
    assert of_kind(events, Succeeded)


@QUANTIZATIONS
def test_rows_over_a_quantized_base_are_run_together(tiny_model, quantization):
    from tunesmith.spec.job import QuantizationSpec

    device = torch.device("cuda")
    core = load_model(tiny_model, torch.bfloat16, device, QuantizationSpec.model_validate(quantization))
    assert {parameter.device.type for parameter in core.parameters()} == {"cuda"}
    language_model = LanguageModel(core, device, torch.bfloat16)
    language_model.settle()
    assert language_model.layout == "concatenated"


def test_losses_over_a_four_bit_base_equal_those_of_the_processor(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training import model

    _, on_gpu = run(attempt(tiny_model, rows, quantization={"bits": 4}), tmp_path / "gpu")
    monkeypatch.setattr(model, "pick_device", lambda: torch.device("cpu"))
    _, on_cpu = run(attempt(tiny_model, rows, quantization={"bits": 4}), tmp_path / "cpu")
    assert losses(on_gpu) == pytest.approx(losses(on_cpu), abs=1e-2)


@pytest.mark.parametrize("adapter", [LORA | {"rank": 64}, None], ids=["lora", "full"])
def test_moments_in_eight_bits_survive_a_resume(tiny_model, tmp_path, rows, adapter):
    changes = {"optimizer": "adamw_8bit", "adapter": adapter, "save_steps": 1}
    _, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    order = attempt(tiny_model, rows, resume_from=[checkpoint(whole, tmp_path / "whole", 3)], **changes)
    code, resumed = run(order, tmp_path / "resumed")
    assert code == 0
    assert of_kind(resumed, Resumed)
    assert losses(resumed) == pytest.approx(losses(whole)[3:], abs=1e-3)


def test_fewer_bytes_are_allocated_when_activations_are_computed_again(tiny_model, tmp_path):
    long = write_rows(tmp_path / "long.jsonl", [{"text": "Please reset my password. " * 120}] * 8)
    peaks = []
    for again in (True, False):
        torch.cuda.reset_peak_memory_stats()
        order = attempt(tiny_model, long, gradient_checkpointing=again, max_length=4096, epochs=1.0, warmup_ratio=0.0)
        code, _ = run(order, tmp_path / str(again))
        assert code == 0
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[0] < peaks[1]


def test_the_parent_of_warm_workers_leaves_the_gpu_alone_with_bitsandbytes_installed():
    program = (
        "from tunesmith import forkserver; forkserver._import_libraries(); import torch, sys; "
        "sys.exit(torch.cuda.is_initialized())"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_step_that_does_not_fit_is_done_again_in_smaller_portions(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training.text_task import TextTask

    changes = {"adapter": LORA | {"dropout": 0.3}, "dtype": "float32"}
    _, small = run(attempt(tiny_model, rows, micro_batch_size=2, **changes), tmp_path / "small")
    real = TextTask.forward

    def greedy(self, batch):
        if len(batch.lengths) > 2:
            torch.empty(2**46, dtype=torch.uint8, device=self.device)  # more than any GPU has
        return real(self, batch)

    monkeypatch.setattr(TextTask, "forward", greedy)
    order = attempt(tiny_model, rows, micro_batch_size=4, on_out_of_memory="shrink", **changes)
    code, events = run(order, tmp_path / "healed")
    assert code == 0
    [healed] = of_kind(events, Healed)
    assert (healed.phase, healed.after.micro_batch_size) == ("forward", 2)
    assert losses(events) == pytest.approx(losses(small), abs=1e-5)


def test_a_shortage_names_the_memory_of_the_gpu(tiny_model, tmp_path, rows, monkeypatch):
    from tunesmith.training.text_task import TextTask

    def greedy(self, batch):
        torch.empty(2**46, dtype=torch.uint8, device=self.device)

    monkeypatch.setattr(TextTask, "forward", greedy)
    code, events = run(attempt(tiny_model, rows), tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "out_of_memory"
    assert "for the forward pass of step 1" in events[-1].error.message
    assert "The GPU has " in events[-1].error.message


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_asking_the_model_changes_nothing_of_its_training(tiny_model, tmp_path, rows, dtype):
    changes = {"adapter": LORA | {"dropout": 0.3}, "dtype": dtype}
    sampling = {"prompts": ["What comes after 7?"], "every": 1, "max_new_tokens": 8, "temperature": 1.0}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    code, asked = run(attempt(tiny_model, rows, sampling=sampling, **changes), tmp_path / "asked")
    assert code == 0
    assert len(of_kind(asked, Sampled)) == len(losses(asked)) + 1
    assert losses(asked) == pytest.approx(losses(plain), abs=1e-5)
