"""What the engine cannot do is refused by the check, with the path in the spec."""

import json
from pathlib import Path
from typing import Any

import pytest

from attempts import LORA, attempt, chat, labelled, of_kind, run, write_rows
from tunesmith.spec.events import Checked, Note, Succeeded

pytestmark = pytest.mark.usefixtures("signals_kept")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(8))


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"modality": "image"}, "model.modality", "only `text` and `vision_language`"),
        ({"task": "sequence_classification"}, "model.task", "only `causal_lm`"),
        ({"resources": {"gpus_per_node": 2, "nodes": 1}}, "resources.gpus_per_node", "2 GPUs"),
        ({"resources": {"gpus_per_node": 1, "nodes": 3}}, "resources.nodes", "3 GPUs"),
        ({"resources": {"gpus_per_node": 1, "nodes": 1, "distribution": "ddp"}}, "resources.distribution", "'ddp'"),
        (
            {"images": {"sources": ["a"], "trigger_word": "x", "captioning": "filename", "resolution": [512]}},
            "data.images",
            "Pictures",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_path(
    tiny_model: Path, tmp_path: Path, rows: Path, changes: Any, param: str, words: str
) -> None:
    code, events = run(attempt(tiny_model, rows, purpose="check", **changes), tmp_path / "run")
    assert code == 1
    error = events[-1].error
    assert (error.code, error.param) == ("unsupported", param)
    assert words in error.message


@pytest.mark.parametrize("changes", [{"resources": {"gpus_per_node": 1, "nodes": 1}}, {"quantization": {"bits": 8}}])
def test_what_can_be_honoured_passes_the_check(tiny_model: Path, tmp_path: Path, rows: Path, changes: Any) -> None:
    _, events = run(attempt(tiny_model, rows, purpose="check", **changes), tmp_path / "run")
    assert of_kind(events, Checked)


@pytest.mark.parametrize("kind", ["sft", "dpo", "orpo", "kto"])
def test_a_classifier_is_not_trained_to_write(tiny_model: Path, tmp_path: Path, rows: Path, kind: str) -> None:
    texts = write_rows(tmp_path / "labelled.jsonl", labelled(8))
    score = {"kind": "classification", "task": "sequence_classification"}
    run(attempt(tiny_model, texts, adapter=None, max_steps=1, **score), tmp_path / "first")
    classifier = tmp_path / "first/artifact"
    _, events = run(attempt(classifier, rows, kind=kind, purpose="check"), tmp_path / "run")
    error = events[-1].error
    assert (error.code, error.param) == ("unsupported", "model.base")
    assert "LlamaForSequenceClassification" in error.message
    _, events = run(attempt(classifier, texts, purpose="check", **score), tmp_path / "score")
    assert of_kind(events, Checked)


# --- adapters to continue from ---------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path, rows: Path) -> Path:
    code, _ = run(attempt(tiny_model, rows, max_steps=2), tmp_path / "first")
    assert code == 0
    return tmp_path / "first/artifact"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "LOHA"}, "'LOHA'"),
        ({"peft_type": None}, "None"),
        ({"use_qalora": True}, "`use_qalora` is True"),
        ({"modules_to_save": ["lm_head"]}, "trained whole: lm_head"),
        ({"bias": "all"}, "`bias` is 'all'"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
    ],
)
def test_an_adapter_that_cannot_be_trained_exactly_is_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path, adapter: Path, config: dict[str, Any], words: str
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    code, events = run(attempt(tiny_model, rows, continue_from=adapter, purpose="check"), tmp_path / "run")
    assert code == 1
    assert (events[-1].error.code, events[-1].error.param) == ("invalid_adapter", "init_from")
    assert words in events[-1].error.message


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b'"LORA"'])
def test_a_broken_adapter_config_is_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path, adapter: Path, content: bytes
) -> None:
    (adapter / "adapter_config.json").write_bytes(content)
    _, events = run(attempt(tiny_model, rows, continue_from=adapter, purpose="check"), tmp_path / "run")
    assert events[-1].error.code == "invalid_adapter"


@pytest.mark.parametrize("config", [{"r": "x"}, {"r": 8}, {"target_modules": "("}, {"rank_pattern": 3}])
def test_an_adapter_whose_config_does_not_fit_is_refused(
    tiny_model: Path, tmp_path: Path, rows: Path, adapter: Path, config: dict[str, Any]
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    code, events = run(attempt(tiny_model, rows, continue_from=adapter), tmp_path / "run")
    assert code == 1
    assert (events[-1].error.code, events[-1].error.param) == ("invalid_adapter", "init_from")


def test_an_adapter_with_pickled_weights_only_is_refused_at_the_check(
    tiny_model: Path, tmp_path: Path, rows: Path, adapter: Path
) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    _, events = run(attempt(tiny_model, rows, continue_from=adapter, purpose="check"), tmp_path / "run")
    assert "lacks adapter_model.safetensors" in events[-1].error.message


def test_a_checkpoint_can_be_continued_from_and_keeps_its_own_shape_with_a_note(
    tiny_model: Path, tmp_path: Path, rows: Path
) -> None:
    _, events = run(attempt(tiny_model, rows, max_steps=2, save_steps=1), tmp_path / "first")
    other = LORA | {"rank": 16, "alpha": 16.0, "targets": ["q_proj"]}
    order = attempt(
        tiny_model, rows, adapter=other, continue_from=tmp_path / "first/checkpoints/step-00000001", warmup_ratio=0.0
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert of_kind(events, Succeeded)
    (note,) = of_kind(events, Note)
    assert "rank 4 instead of 16" in note.message
    assert "alpha 8 instead of 16" in note.message
    assert "targets down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj instead of q_proj" in note.message
    assert json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())["r"] == 4


@pytest.mark.parametrize("targets", [["all-linear"], ["q_proj", "v_proj"]])
def test_an_adapter_of_the_shape_asked_for_needs_no_note_and_takes_the_dropout_asked_for(
    tiny_model: Path, tmp_path: Path, rows: Path, targets: list[str]
) -> None:
    shape = LORA | {"targets": targets}
    run(attempt(tiny_model, rows, adapter=shape, max_steps=2), tmp_path / "first")
    order = attempt(tiny_model, rows, adapter=shape | {"dropout": 0.5}, continue_from=tmp_path / "first/artifact")
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert not of_kind(events, Note)
    assert json.loads((tmp_path / "run/artifact/adapter_config.json").read_text())["lora_dropout"] == 0.5
