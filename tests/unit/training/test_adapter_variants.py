"""rsLoRA, DoRA and PiSSA train as in PEFT, resume exactly, and what is published fits the base model on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import Linear
from torch.nn.functional import cross_entropy

from attempts import LORA, attempt, chat, checkpoint, labelled, losses, of_kind, run, write_rows
from tunesmith.data.rows import read_examples
from tunesmith.methods import sft
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.events import Checked, Note, Succeeded
from tunesmith.spec.job import AdapterSpec, AttemptSpec
from tunesmith.training import pissa
from tunesmith.training.adapters import load_adapter, new_adapter, save_adapter
from tunesmith.training.model import load_model, load_tokenizer
from tunesmith.training.optim import build_optimizer, learning_rate
from tunesmith.training.order import DataOrder
from tunesmith.training.reporting import Reporter
from tunesmith.training.text import Encoder
from tunesmith.training.workplace import Workplace

pytestmark = [
    pytest.mark.usefixtures("signals_kept"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # of plain PEFT
]

CPU = torch.device("cpu")
NF4 = {"bits": 4, "kind": "nf4", "double": True, "int8_threshold": 6.0}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rslora": ({"scaling": "rank_stabilized"}, {"use_rslora": True}),
    "dora": ({"decomposed": True}, {"use_dora": True}),
    "rank-stabilized-dora": (
        {"decomposed": True, "scaling": "rank_stabilized"},
        {"use_dora": True, "use_rslora": True},
    ),
    "pissa": ({"init": "pissa"}, {"init_lora_weights": "pissa"}),
    "rank-stabilized-pissa": (
        {"init": "pissa", "scaling": "rank_stabilized"},
        {"init_lora_weights": "pissa", "use_rslora": True},
    ),
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(14))


def _shape(variant: str, **changes: Any) -> dict[str, Any]:
    return LORA | VARIANTS[variant][0] | changes


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(20)[None] + 5).logits


def _plain_peft(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(load_model(base, torch.float32, CPU), adapter)


# --- as in PEFT ------------------------------------------------------------------------------------------------------


def _peft_losses(order: AttemptSpec, settings: dict[str, Any], steps: int) -> list[float]:
    """Losses of plain PEFT and transformers, row by row with padding-free single rows."""
    spec = order.spec
    assert spec.adapter is not None
    rows = Encoder(load_tokenizer(order.inputs.model), 384).encode(list(read_examples(order.inputs.train)))
    torch.manual_seed(spec.optimization.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.adapter.rank,
        lora_alpha=int(spec.adapter.alpha),
        target_modules="all-linear",
        **settings,
    )
    model = get_peft_model(load_model(order.inputs.model, torch.float32, CPU), config).train()
    optimizer, data = build_optimizer(model, spec.optimization), DataOrder(spec.optimization, len(rows))
    found = []
    for step in range(steps):
        batch = [rows[index] for index in data.batch(step)]
        trained = sum(row.trained_count for row in batch)
        total = 0.0
        for row in batch:
            ids, places = torch.tensor(row.ids[None].astype("int64")), torch.tensor(row.trained.nonzero()[0])
            logits = model(input_ids=ids).logits[0, places - 1]
            loss = cross_entropy(logits, ids[0, places], reduction="sum") / trained
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_([part for part in model.parameters() if part.requires_grad], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(spec.optimization, step, 8)
        optimizer.step()
        optimizer.zero_grad()
        found.append(total)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_eight_losses_in_float32_equal_those_of_plain_peft(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str
) -> None:
    order = attempt(tiny_model, rows, adapter=_shape(variant))
    _, events = run(order, tmp_path / "run")
    found = losses(events)
    assert len(found) == 8
    assert found == pytest.approx(_peft_losses(order, VARIANTS[variant][1], 8), abs=1e-5)
    _, plain = run(attempt(tiny_model, rows), tmp_path / "plain")
    assert losses(plain)[-1] != pytest.approx(found[-1], abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_published_adapter_does_in_plain_peft_what_was_trained(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str, dtype: str
) -> None:
    code, events = run(attempt(tiny_model, rows, adapter=_shape(variant), dtype=dtype), tmp_path / "run")
    assert code == 0
    (done,) = of_kind(events, Succeeded)
    loaded = _logits(_plain_peft(tiny_model, tmp_path / "run/artifact"))
    base = _logits(load_model(tiny_model, torch.float32, CPU))
    assert (loaded - base).abs().max() > 0.1 * done.logit_change > 0
    saved = checkpoint(events, tmp_path / "run", done.step)
    assert torch.equal(_logits(_plain_peft(tiny_model, saved)), loaded)


@pytest.mark.parametrize("variant", VARIANTS)
def test_written_weights_answer_on_the_original_base_as_those_in_memory(
    tiny_model: Path, tmp_path: Path, variant: str
) -> None:
    adapted = new_adapter(load_model(tiny_model, torch.float32, CPU), AdapterSpec(**_shape(variant)), 3)
    base = _logits(load_model(tiny_model, torch.float32, CPU))
    assert torch.allclose(_logits(adapted), base, atol=1e-5)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    trained = _logits(adapted)
    assert not torch.allclose(trained, base, atol=1e-2)
    save_adapter(adapted, tmp_path, tiny_model)
    assert torch.allclose(_logits(_plain_peft(tiny_model, tmp_path)), trained, atol=1e-5)
    with adapted.disable_adapter():
        assert torch.equal(_logits(adapted), base)


# --- PiSSA -----------------------------------------------------------------------------------------------------------


def test_what_is_read_back_is_bit_for_bit_what_was_written(tiny_model: Path, tmp_path: Path) -> None:
    shape = AdapterSpec(**_shape("pissa"))
    one, two = (new_adapter(load_model(tiny_model, torch.float32, CPU), shape, 3) for _ in range(2))
    for part in one.modules():
        if isinstance(part, pissa.FirstParts):  # as another machine's decomposition may give them
            part.a.neg_()
            part.b.neg_()
    for parameter in one.parameters():
        parameter.data += 0.01 * parameter.requires_grad
    save_adapter(one, tmp_path, tiny_model)
    load_adapter(two, tmp_path)
    assert torch.equal(_logits(one), _logits(two))
    again = tmp_path / "again"
    again.mkdir()
    save_adapter(two, again, tiny_model)
    name = "adapter_model.safetensors"
    assert (tmp_path / name).read_bytes() == (again / name).read_bytes()


def test_the_published_adapter_is_plain_lora_of_twice_the_rank(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    run(attempt(tiny_model, rows, adapter=_shape("rank-stabilized-pissa")), tmp_path / "run")
    config = json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())
    assert (config["r"], config["use_rslora"], config["init_lora_weights"]) == (8, False, True)
    assert config["lora_alpha"] / config["r"] == pytest.approx(8 / 4**0.5)


def test_a_rank_beyond_a_weights_principal_parts_is_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    order = attempt(tiny_model, rows, adapter=_shape("pissa", rank=512), purpose="check")
    _, events = run(order, tmp_path / "run")
    error = events[-1].error
    assert (error.code, error.param) == ("invalid_adapter", "adapter.rank")
    assert "512" in error.message


def test_a_stop_is_heard_between_the_layers_whose_parts_are_sought(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    polls = {}
    for variant in ("rslora", "pissa"):
        order = attempt(tiny_model, rows, adapter=_shape(variant))
        directory = RunDirectory(tmp_path / variant)
        directory.write_spec(order)
        heard: list[None] = []
        reporter = Reporter(EventWriter(directory))
        sft.build(order, Workplace(CPU, directory, reporter, lambda heard=heard: heard.append(None)))  # type: ignore[misc]
        polls[variant] = len(heard)
    layers = [part for part in load_model(tiny_model, torch.float32, CPU).modules() if isinstance(part, Linear)]
    assert polls["pissa"] - polls["rslora"] == len(layers) - 1  # all but the head


def test_pissa_with_apart_magnitudes_is_refused_by_the_spec() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        AdapterSpec(**_shape("pissa", decomposed=True))


# --- exact resume, and every other setting ---------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["rslora", "dora", "pissa"])
@pytest.mark.parametrize("changes", [{}, {"quantization": NF4}, {"dtype": "bfloat16"}], ids=["f32", "nf4", "bf16"])
def test_a_resumed_training_ends_with_the_same_bytes(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str, changes: Any
) -> None:
    changes = changes | {"adapter": _shape(variant, dropout=0.3), "save_steps": 1}
    code, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    assert code == 0
    folder = checkpoint(whole, tmp_path / "whole", 3)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(whole)[3:]
    weights = [tmp_path / name / "artifact/adapter_model.safetensors" for name in ("whole", "resumed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("variant", ["dora", "pissa"])
def test_computing_activations_again_changes_no_loss(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str
) -> None:
    found = []
    for setting in (True, False):
        order = attempt(tiny_model, rows, gradient_checkpointing=setting, adapter=_shape(variant, dropout=0.2))
        found.append(losses(run(order, tmp_path / str(setting))[1]))
    assert found[0] == found[1]


@pytest.mark.parametrize("variant", ["rslora", "pissa"])
def test_eight_bit_weights_carry_variants_that_leave_them_alone(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str
) -> None:
    order = attempt(tiny_model, rows, adapter=_shape(variant), quantization=NF4 | {"bits": 8}, epochs=4.0)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events)[-1] < losses(events)[0]


def test_magnitudes_over_eight_bit_weights_are_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    eight = NF4 | {"bits": 8}
    _, events = run(
        attempt(tiny_model, rows, adapter=_shape("dora"), quantization=eight, purpose="check"), tmp_path / "new"
    )
    assert (events[-1].error.code, events[-1].error.param) == ("unsupported", "adapter.decomposed")
    run(attempt(tiny_model, rows, adapter=_shape("dora"), max_steps=2), tmp_path / "first")
    order = attempt(tiny_model, rows, continue_from=tmp_path / "first/artifact", quantization=eight, purpose="check")
    _, events = run(order, tmp_path / "continued")
    assert (events[-1].error.code, events[-1].error.param) == ("unsupported", "init_from")


# --- continuing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["rslora", "dora", "rank-stabilized-dora"])
def test_a_variant_made_by_peft_is_continued_as_what_it_is(
    tiny_model: Path, tmp_path: Path, rows: Path, variant: str
) -> None:
    settings = VARIANTS[variant][1]
    torch.manual_seed(5)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **settings)
    adapted = get_peft_model(load_model(tiny_model, torch.float32, CPU), config)
    for parameter in adapted.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter) * parameter.requires_grad
    adapted.save_pretrained(tmp_path / "made")
    _, checked = run(
        attempt(tiny_model, rows, continue_from=tmp_path / "made", purpose="check", adapter=_shape(variant)),
        tmp_path / "check",
    )
    assert of_kind(checked, Checked)
    order = attempt(
        tiny_model, rows, continue_from=tmp_path / "made", adapter=_shape(variant), learning_rate=1e-9, warmup_ratio=0.0
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert not of_kind(events, Note)
    written = json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())
    assert all(written[name] == value for name, value in settings.items())
    assert torch.allclose(_logits(_plain_peft(tiny_model, tmp_path / "run/artifact")), _logits(adapted), atol=1e-4)


def test_what_a_continued_adapter_is_not_is_told(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    run(attempt(tiny_model, rows, max_steps=2), tmp_path / "first")
    asked = _shape("rank-stabilized-pissa")
    order = attempt(tiny_model, rows, continue_from=tmp_path / "first/artifact", adapter=asked, max_steps=2)
    _, events = run(order, tmp_path / "run")
    (note,) = of_kind(events, Note)
    assert "scaling standard instead of rank_stabilized" in note.message
    assert "init its own weights instead of pissa" in note.message


def test_the_place_of_a_trained_head_is_no_target(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "labelled.jsonl", labelled(8))
    order = {"kind": "classification", "task": "sequence_classification", "max_steps": 2}
    run(attempt(tiny_model, rows, **order), tmp_path / "first")
    again = attempt(tiny_model, rows, continue_from=tmp_path / "first/artifact", **order)
    code, events = run(again, tmp_path / "again")
    assert code == 0
    assert not of_kind(events, Note)
    other = attempt(tiny_model, rows, continue_from=tmp_path / "first/artifact", adapter=LORA | {"rank": 8}, **order)
    (note,) = of_kind(run(other, tmp_path / "other")[1], Note)
    assert note.message == "The adapter to continue from keeps its own shape: rank 4 instead of 8."


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [["q_proj"], ["self_attn.q_proj", "mlp.up_proj"]])
def test_targets_are_names_of_linear_layers_or_the_ends_of_their_paths(
    tiny_model: Path, tmp_path: Path, rows: Path, targets: list[str]
) -> None:
    shape = LORA | {"targets": targets}
    _, checked = run(attempt(tiny_model, rows, adapter=shape, purpose="check"), tmp_path / "check")
    assert of_kind(checked, Checked)
    code, _ = run(attempt(tiny_model, rows, adapter=shape, max_steps=2), tmp_path / "run")
    assert code == 0
    config = json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == sorted(targets)


@pytest.mark.parametrize(
    ("targets", "words"),
    [(["q_proj", "all-linear", "up_proj"], "beside it: 'q_proj', 'up_proj'"), (["all-linear"] * 2, "it twice")],
)
@pytest.mark.parametrize("purpose", ["check", "train"])
def test_all_layers_beside_names_of_some_are_refused(
    tiny_model: Path, tmp_path: Path, rows: Path, targets: list[str], words: str, purpose: str
) -> None:
    order = attempt(tiny_model, rows, adapter=LORA | {"targets": targets}, purpose=purpose)
    _, events = run(order, tmp_path / "run")
    error = events[-1].error
    assert (error.code, error.param) == ("invalid_adapter", "adapter.targets")
    assert "stands for every linear layer" in error.message
    assert words in error.message


@pytest.mark.parametrize(
    "targets",
    [
        ["nowhere"],
        ["q_proj", "typo_proj"],
        ["embed_tokens"],
        ["lm_head"],
        ["proj"],
        [""],
        [".*_proj"],
    ],
)
@pytest.mark.parametrize("purpose", ["check", "train"])
def test_a_target_that_is_no_linear_layer_is_refused_with_those_that_there_are(
    tiny_model: Path, tmp_path: Path, rows: Path, targets: list[str], purpose: str
) -> None:
    order = attempt(tiny_model, rows, adapter=LORA | {"targets": targets}, purpose=purpose)
    _, events = run(order, tmp_path / "run")
    error = events[-1].error
    assert (error.code, error.param) == ("invalid_adapter", "adapter.targets")
    assert repr(targets[-1]) in error.message
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in (error.hint or "")


def test_the_check_of_targets_reads_no_weights(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    order = attempt(bare, rows, adapter=LORA | {"targets": ["q_proj"]}, purpose="check")
    assert of_kind(run(order, tmp_path / "run")[1], Checked)


def test_a_continued_adapter_that_learnt_nothing_is_no_success(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    run(attempt(tiny_model, rows, max_steps=2), tmp_path / "first")
    start = tmp_path / "first" / "artifact"
    code, events = run(
        attempt(tiny_model, rows, continue_from=start, learning_rate=1e-30, max_steps=2), tmp_path / "second"
    )
    assert (code, events[-1].error.code) == (1, "artifact")
    assert "exactly those that it began with" in events[-1].error.message
