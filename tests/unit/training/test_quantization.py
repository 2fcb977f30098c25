"""Quantized bases: what is quantized, that it trains as with plain libraries, and what its results are worth."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import LORA, attempt, chat, checkpoint, losses, of_kind, run, write_rows
from rows import chat_rows
from tunesmith.data.rows import read_examples
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Evaluated, Failed, Note, Resumed, Succeeded
from tunesmith.spec.job import QuantizationSpec
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.model import load_model, load_tokenizer
from tunesmith.training.quantization import import_bitsandbytes
from tunesmith.training.text import Encoder

pytestmark = pytest.mark.usefixtures("signals_kept")

NF4 = {"bits": 4, "kind": "nf4", "double": True}
FP4 = {"bits": 4, "kind": "fp4", "double": False}
INT8 = {"bits": 8, "int8_threshold": 6.0}
ALL = pytest.mark.parametrize("quantization", [NF4, FP4, INT8], ids=["nf4", "fp4", "int8"])
PLAIN_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(12))


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A model whose linear layers hold most of its weights, with sizes that processors pack specially."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(tiny_model, folder)
    config = AutoConfig.from_pretrained(tiny_model, hidden_size=128, intermediate_size=256, head_dim=32)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def _load(folder: Path, quantization: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    return load_model(folder, dtype, CPU, QuantizationSpec.model_validate(quantization))


@ALL
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_over_a_quantized_base_lowers_the_loss(
    tiny_model: Path, tmp_path: Path, rows: Path, quantization: Any, dtype: str
) -> None:
    order = attempt(
        tiny_model, rows, quantization=quantization, dtype=dtype, epochs=6.0, schedule="constant", validation=rows
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events)[-1] < losses(events)[0] - 1
    assert not of_kind(events, Note)
    assert of_kind(events, Evaluated)[-1].loss < losses(events)[0]
    assert of_kind(events, Succeeded)[0].logit_change > 0


@ALL
def test_only_the_linear_layers_of_the_body_are_quantized(wide_model: Path, quantization: Any) -> None:
    whole = load_model(wide_model, torch.float32, CPU)
    quantized = _load(wide_model, quantization)
    linear = {name for name, part in whole.named_modules() if isinstance(part, torch.nn.Linear)} - {"lm_head"}
    for name, part in quantized.named_modules():
        weight = getattr(part, "weight", None)
        if name in linear:
            expected = weight.numel() * weight.element_size() * (2 if quantization["bits"] == 4 else 1)
            assert expected == whole.get_submodule(name).weight.numel()
        elif weight is not None:
            assert torch.equal(weight, whole.get_submodule(name).weight)
    assert type(quantized.get_output_embeddings()) is torch.nn.Linear


@pytest.mark.parametrize(("quantization", "share"), [(NF4, 0.30), (INT8, 0.45)], ids=["nf4", "int8"])
def test_a_quantized_base_takes_less_memory(wide_model: Path, quantization: Any, share: float) -> None:
    def size(model: Any) -> int:
        return sum(part.numel() * part.element_size() for part in (*model.parameters(), *model.buffers()))

    assert size(_load(wide_model, quantization)) < share * size(load_model(wide_model, torch.float32, CPU))


@ALL
def test_evaluating_leaves_weights_and_gradients_as_they_are(wide_model: Path, quantization: Any) -> None:
    model = _load(wide_model, quantization)
    layer = model.model.layers[0].mlp.up_proj

    def gradient() -> torch.Tensor:
        inputs = torch.linspace(-1, 1, 3 * 128).reshape(1, 3, 128).requires_grad_()
        model.train()
        return torch.autograd.grad(layer(inputs).square().sum(), inputs)[0]

    before, weight = gradient(), layer.weight.detach().clone()
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None])
    assert torch.equal(layer.weight, weight)
    assert torch.equal(gradient(), before)
    assert before.abs().max() > 0


@ALL
def test_rows_are_still_run_together_and_kept_apart(wide_model: Path, quantization: Any) -> None:
    language_model = LanguageModel(_load(wide_model, quantization), CPU, torch.float32)
    language_model.settle()
    assert language_model.layout == "concatenated"
    layers = [part for part in language_model.core.modules() if hasattr(part, "state")]
    assert {layer.state.threshold for layer in layers} == ({6.0} if quantization["bits"] == 8 else set())


@ALL
@PLAIN_PEFT
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_losses_equal_those_of_transformers_and_peft(
    tiny_model: Path, tmp_path: Path, quantization: Any, dtype: str
) -> None:
    train = tmp_path / "train.jsonl"
    train.write_bytes(chat_rows(12))
    order = attempt(
        tiny_model, train, quantization=quantization, dtype=dtype, batch_size=12, epochs=10.0, schedule="constant"
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events) == pytest.approx(_plain_losses(order), abs=1e-2)


def _plain_losses(order: Any) -> list[float]:
    """A bare loop over what transformers and PEFT offer for quantized models; a batch is all rows."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    spec, wanted = order.spec, order.spec.model.quantization
    dtype = torch.bfloat16 if spec.model.dtype == "bfloat16" else torch.float32
    import_bitsandbytes()
    config = (
        BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=wanted.int8_threshold)
        if wanted.bits == 8
        else BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=wanted.kind,
            bnb_4bit_use_double_quant=wanted.double,
            bnb_4bit_compute_dtype=dtype,
        )
    )
    model = AutoModelForCausalLM.from_pretrained(
        order.inputs.model, quantization_config=config, dtype=dtype, device_map={"": "cpu"}
    )
    torch.manual_seed(spec.optimization.seed)
    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=spec.adapter.rank, lora_alpha=8, target_modules="all-linear")
    ).train()
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec.optimization.learning_rate, weight_decay=0.0)
    rows = Encoder(load_tokenizer(order.inputs.model), 384).encode(list(read_examples(order.inputs.train)))
    steps = int(spec.optimization.epochs)
    found = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = spec.optimization.learning_rate * (0.0 if step == 0 else 1.0)
        total = torch.zeros(())
        for row in rows:
            ids = torch.tensor(row.ids[None], dtype=torch.int64)
            labels = torch.where(torch.tensor(row.trained[None]), ids, -100)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                total = total + adapted(input_ids=ids, labels=labels).loss * row.trained_count
        loss = total / sum(row.trained_count for row in rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@ALL
def test_resuming_over_a_quantized_base_is_bit_identical(
    tiny_model: Path, tmp_path: Path, rows: Path, quantization: Any
) -> None:
    changes: Any = {
        "quantization": quantization,
        "adapter": LORA | {"dropout": 0.3},
        "save_steps": 1,
        "validation": rows,
    }
    _, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", 4)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert of_kind(resumed, Resumed)
    assert losses(resumed) == losses(whole)[4:]
    last = of_kind(whole, Succeeded)[0].step
    for name in ("adapter_model.safetensors", "trainer/optimizer.safetensors", "trainer/state.json"):
        ends = [
            checkpoint(events, tmp_path / run_, last) / name
            for events, run_ in ((whole, "whole"), (resumed, "resumed"))
        ]
        assert ends[0].read_bytes() == ends[1].read_bytes()


@ALL
@PLAIN_PEFT
def test_the_adapter_loads_over_the_unquantized_base_and_the_card_says_what_it_was_trained_over(
    tiny_model: Path, tmp_path: Path, rows: Path, quantization: Any
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    order = attempt(tiny_model, rows, quantization=quantization, epochs=6.0)
    code, _ = run(order, tmp_path / "run")
    assert code == 0
    artifact = tmp_path / "run/artifact"
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        before = base(ids).logits
        after = PeftModel.from_pretrained(base, artifact)(ids).logits
    assert (after - before).abs().max() > 0.1
    card = (artifact / "README.md").read_text()
    said = {4: f"4 bits ({quantization.get('kind')})", 8: "8 bits"}[quantization["bits"]]
    assert f"quantized to {said} by bitsandbytes" in card
    config = json.loads((artifact / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model)


def test_training_without_effect_is_no_success_over_a_quantized_base_either(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    order = attempt(tiny_model, rows, quantization=NF4, learning_rate=1e-30)
    code, events = run(order, tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "artifact"


def test_tuning_quantized_weights_themselves_is_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    order = attempt(tiny_model, rows, quantization=NF4, adapter=None, purpose="check")
    code, events = run(order, tmp_path / "run")
    assert code == 1
    error = of_kind(events, Failed)[0].error
    assert (error.code, error.param) == ("unsupported", "model.quantization")
    assert "frozen" in error.message


def test_a_base_that_is_stored_quantized_is_refused_with_what_to_do(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    code, events = run(attempt(folder, rows, purpose="check"), tmp_path / "run")
    assert code == 1
    assert events[-1].error.code == "model_load"
    assert "bitsandbytes" in events[-1].error.message


_PROGRAM = """\
import sys
from pathlib import Path
from tunesmith.worker import main
code = main(Path(sys.argv[1]))
assert code == 0
print(sys.modules.get("bitsandbytes") is not None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "imported"), [(None, "False"), (NF4, "True"), (INT8, "True")])
def test_bitsandbytes_is_imported_only_when_asked_for_and_says_nothing(
    tiny_model: Path, tmp_path: Path, rows: Path, quantization: Any, imported: str
) -> None:
    order = attempt(tiny_model, rows, quantization=quantization, max_steps=1, warmup_ratio=0.0, validation=rows)
    RunDirectory(tmp_path / "run").write_spec(order)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{imported}\n"
    assert done.stderr == ""


_FORK = """\
import os, sys
from pathlib import Path
from tunesmith import forkserver
from tunesmith.worker import main
forkserver._import_libraries()
assert sys.modules["bitsandbytes"] is None
child = os.fork()
if not child:
    os._exit(main(Path(sys.argv[1])))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("quantization", [NF4, INT8], ids=["nf4", "int8"])
def test_the_fork_server_leaves_bitsandbytes_to_the_workers_that_need_it(
    tiny_model: Path, tmp_path: Path, rows: Path, quantization: Any
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.write_spec(attempt(tiny_model, rows, quantization=quantization, optimizer="adamw_8bit"))
    done = subprocess.run(
        [sys.executable, "-c", _FORK, str(directory.path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert directory.read_events(0)[0][-1].kind == "succeeded"
