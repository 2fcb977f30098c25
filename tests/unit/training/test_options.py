"""Settings that change speed, memory or reports, and not what is learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import LORA, attempt, chat, checkpoint, losses, of_kind, run, write_rows
from tunesmith.spec.errors import UnsupportedError
from tunesmith.spec.events import Metrics, Resumed, Succeeded
from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.model import load_model
from tunesmith.training.optim import build_optimizer
from tunesmith.training.text import Encoder

pytestmark = pytest.mark.usefixtures("signals_kept")

DROPOUT = LORA | {"dropout": 0.3}
NF4 = {"bits": 4}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(14))


def _artifact(folder: Path) -> bytes:
    (weights,) = (folder / "artifact").glob("*.safetensors")
    return weights.read_bytes()


# --- gradient checkpointing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": DROPOUT},
        {"adapter": DROPOUT, "dtype": "bfloat16", "packing": True, "max_length": 96},
        {"adapter": None},
        {"adapter": DROPOUT, "quantization": NF4},
    ],
    ids=["lora", "packed", "full", "quantized"],
)
def test_computing_activations_again_changes_no_bit_of_the_result(
    tiny_model: Path, tmp_path: Path, rows: Path, changes: Any
) -> None:
    found = []
    for setting in (True, False, None):
        folder = tmp_path / str(setting)
        code, events = run(attempt(tiny_model, rows, gradient_checkpointing=setting, **changes), folder)
        assert code == 0
        found.append((losses(events), _artifact(folder)))
    assert found[0] == found[1] == found[2]


def test_fewer_activations_are_kept_when_they_are_computed_again(tiny_model: Path) -> None:
    def kept(again: bool) -> int:
        language_model = LanguageModel(
            load_model(tiny_model, torch.float32, torch.device("cpu")), torch.device("cpu"), torch.float32
        )
        language_model.settle()
        if again:
            language_model.recompute_activations()
        language_model.core.train()
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            language_model.sums(language_model.batch(language_model._probe_rows()))
        return sum(sizes.values())

    assert kept(True) < 0.5 * kept(False)


def test_an_architecture_without_layers_to_compute_again_is_refused() -> None:
    import transformers

    config = transformers.CTRLConfig(vocab_size=50, n_positions=32, n_embd=16, dff=16, n_layer=1, n_head=2)
    language_model = LanguageModel(transformers.CTRLLMHeadModel(config), torch.device("cpu"), torch.float32)
    with pytest.raises(UnsupportedError, match="ctrl") as caught:
        language_model.recompute_activations()
    assert caught.value.param == "optimization.gradient_checkpointing"


# --- eight bits for the optimizer ------------------------------------------------------------------------------------


def _optimization(name: str) -> OptimizationSpec:
    return OptimizationSpec.model_validate(
        {
            "optimizer": name,
            "learning_rate": 0.01,
            "schedule": "constant",
            "warmup_ratio": 0.0,
            "weight_decay": 0.1,
            "max_grad_norm": None,
            "epochs": 1.0,
            "max_steps": None,
            "batch_size": 4,
            "micro_batch_size": None,
            "seed": 3,
        }
    )


def test_moments_in_eight_bits_take_a_quarter_of_the_room_and_walk_nearly_the_same_way() -> None:
    ends, sizes = [], []
    for name in ("adamw", "adamw_8bit"):
        torch.manual_seed(0)
        layer = torch.nn.Linear(128, 96, bias=False)
        inputs, wanted = torch.randn(40, 128), torch.randn(40, 96)
        optimizer = build_optimizer(layer, _optimization(name))
        for _ in range(20):
            (layer(inputs) - wanted).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(layer.weight.detach())
        (state,) = optimizer.state.values()
        sizes.append(
            sum(part.numel() * part.element_size() for part in state.values() if isinstance(part, torch.Tensor))
        )
    start = torch.nn.Linear(128, 96, bias=False)
    assert (ends[0] - ends[1]).abs().mean() < 0.1 * (ends[0] - start.weight).abs().mean()
    assert sizes[1] < 0.3 * sizes[0]


@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
def test_resuming_with_moments_in_eight_bits_is_bit_identical(
    tiny_model: Path, tmp_path: Path, rows: Path, adapter: Any
) -> None:
    # Of a model this small, only some weights have the 4,096 numbers from which on eight bits are used.
    changes: Any = {"optimizer": "adamw_8bit", "save_steps": 1, "adapter": adapter and adapter | {"rank": 64}}
    code, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    assert code == 0
    assert losses(whole)[-1] < losses(whole)[0]
    folder = checkpoint(whole, tmp_path / "whole", 3)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert of_kind(resumed, Resumed)
    assert losses(resumed) == losses(whole)[3:]
    last = of_kind(whole, Succeeded)[0].step
    for name in ("trainer/optimizer.safetensors", "trainer/state.json"):
        one, two = (checkpoint(whole, tmp_path / "whole", last), checkpoint(resumed, tmp_path / "resumed", last))
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert _artifact(tmp_path / "whole") == _artifact(tmp_path / "resumed")
    from safetensors.torch import load_file

    stored = load_file(folder / "trainer/optimizer.safetensors").values()
    assert torch.uint8 in {tensor.dtype for tensor in stored}


@pytest.mark.parametrize("name", ["adam", "adafactor", "sgd"])
@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
def test_resuming_is_bit_identical_under_every_optimizer(
    tiny_model: Path, tmp_path: Path, rows: Path, name: str, adapter: Any
) -> None:
    changes: Any = {
        "optimizer": name,
        "schedule": "wsd",
        "decay_ratio": 0.5,
        "save_steps": 1,
        "adapter": adapter,
        "learning_rate": 0.5 if name == "sgd" else 0.01,
    }
    code, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    assert code == 0
    assert losses(whole)[-1] < losses(whole)[0]
    folder = checkpoint(whole, tmp_path / "whole", 3)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(whole)[3:]
    assert _artifact(tmp_path / "whole") == _artifact(tmp_path / "resumed")


# --- metrics every so many steps -------------------------------------------------------------------------------------


def _trained_tokens(tiny_model: Path, rows: Path) -> list[int]:
    from tunesmith.data.rows import read_examples
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.order import DataOrder

    encoded = Encoder(load_tokenizer(tiny_model), 384).encode(list(read_examples(rows)))
    order = DataOrder(attempt(tiny_model, rows).spec.optimization, len(encoded))
    return [sum(encoded[row].trained_count for row in order.batch(step)) for step in range(8)]


def test_metrics_of_a_window_are_those_of_its_steps(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    _, each = run(attempt(tiny_model, rows), tmp_path / "each")
    _, some = run(attempt(tiny_model, rows, log_steps=3), tmp_path / "some")
    steps = of_kind(each, Metrics)
    weights = _trained_tokens(tiny_model, rows)
    assert len(set(weights)) > 1
    assert [event.step for event in of_kind(some, Metrics)] == [3, 6, 8]
    for window, (start, end) in zip(of_kind(some, Metrics), ((0, 3), (3, 6), (6, 8)), strict=True):
        inside, counts = steps[start:end], weights[start:end]
        for name in ("loss", "token_accuracy"):
            sums = [getattr(event, name) * count for event, count in zip(inside, counts, strict=True)]
            assert getattr(window, name) == pytest.approx(sum(sums) / sum(counts), rel=1e-9)
        assert window.grad_norm == pytest.approx(sum(event.grad_norm for event in inside) / len(inside), rel=1e-9)
        assert (window.learning_rate, window.epoch, window.tokens_total) == (
            inside[-1].learning_rate,
            inside[-1].epoch,
            inside[-1].tokens_total,
        )


@pytest.mark.parametrize("step", [3, 4])
def test_a_window_survives_a_resume(tiny_model: Path, tmp_path: Path, rows: Path, step: int) -> None:
    changes: Any = {"log_steps": 3, "save_steps": 1, "validation": rows, "eval_steps": 2}
    _, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", step)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(whole)[1:]
    assert [event.step for event in of_kind(resumed, Metrics)] == [6, 8]


def test_a_loss_that_is_not_finite_is_seen_at_its_step_between_reports(
    tiny_model: Path, tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training.text_task import TextTask

    def forward(self: Any, batch: Any, real: Any = TextTask.forward) -> Any:
        sums = real(self, batch)
        return replace(sums, loss=sums.loss * float("nan"))

    monkeypatch.setattr(TextTask, "forward", forward)
    code, events = run(attempt(tiny_model, rows, log_steps=5), tmp_path / "run")
    assert code == 1
    assert "step 1 " in events[-1].error.message
