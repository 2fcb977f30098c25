"""A resumed training ends with the same bytes as one that was never interrupted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import LORA, attempt, chat, checkpoint, losses, of_kind, run, write_rows
from tunesmith.spec.events import CheckpointSaved, Note, Portion, Resumed, Succeeded

pytestmark = pytest.mark.usefixtures("signals_kept")

DROPOUT = LORA | {"dropout": 0.3}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(14))


def _weights(folder: Path) -> dict[str, bytes]:
    names = ["adapter_model.safetensors", "model.safetensors", "trainer/optimizer.safetensors", "trainer/state.json"]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def _both(order_of: Any, tmp_path: Path, step: int, spoil: Any = None) -> tuple[Any, Any]:
    """Run whole, then resume a copy of the checkpoint of `step`. Returns losses from there on, and final bytes."""
    _, whole = run(order_of(), tmp_path / "whole")
    source = tmp_path / f"copy-{step}"
    shutil.copytree(checkpoint(whole, tmp_path / "whole", step), source)
    if spoil is not None:
        spoil(source)
    code, resumed = run(order_of(resume_from=[source]), tmp_path / "resumed")
    assert code == 0
    last = of_kind(whole, Succeeded)[0].step
    return (
        (losses(whole)[step:], _weights(checkpoint(whole, tmp_path / "whole", last))),
        (losses(resumed), _weights(checkpoint(resumed, tmp_path / "resumed", last))),
    )


@pytest.mark.parametrize("step", [1, 3, 4, 5, 7], ids=lambda step: f"step-{step}")
def test_resuming_a_lora_training_at_any_step_is_bit_identical(
    tiny_model: Path, tmp_path: Path, rows: Path, step: int
) -> None:
    def order(**changes: Any) -> Any:
        return attempt(
            tiny_model, rows, adapter=DROPOUT, save_steps=1, micro_batch_size=2, schedule="cosine", **changes
        )

    whole, resumed = _both(order, tmp_path, step)
    assert resumed == whole


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resuming_is_bit_identical_for_every_kind_of_training(
    tiny_model: Path, tmp_path: Path, rows: Path, packing: bool, adapter: Any, dtype: str
) -> None:
    def order(**changes: Any) -> Any:
        return attempt(
            tiny_model,
            rows,
            adapter=adapter,
            packing=packing,
            batch_size=2,
            max_length=96,
            dtype=dtype,
            save_steps=1,
            **changes,
        )

    whole, resumed = _both(order, tmp_path, 3)
    assert resumed == whole


MANY_ROWS = {"batch_size": 100, "epochs": 4.0, "save_steps": 1}
NO_MEMORY = {"name": "cpu", "memory": 1}


@pytest.fixture
def many_rows(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "many.jsonl", [{"text": f"Row {each} more " + "w " * (each % 50)} for each in range(100)]
    )


def _portion(folder: Path) -> Portion:
    return Portion.model_validate(json.loads((folder / "trainer/state.json").read_text())["progress"]["portion"])


def test_a_resumed_training_puts_as_much_through_the_model_as_before_whatever_memory_there_is(
    tiny_model: Path, tmp_path: Path, many_rows: Path
) -> None:
    _, whole = run(attempt(tiny_model, many_rows, **MANY_ROWS), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", 2)
    order = attempt(tiny_model, many_rows, **MANY_ROWS, resume_from=[folder], device=NO_MEMORY)
    _, resumed = run(order, tmp_path / "resumed")
    assert of_kind(resumed, Resumed)[0].exactness == "exact"
    assert losses(resumed) == losses(whole)[2:]
    assert _portion(checkpoint(resumed, tmp_path / "resumed", 4)).token_budget == _portion(folder).token_budget


def test_on_another_device_a_resumed_training_puts_no_more_through_the_model_than_fits_there(
    tiny_model: Path, tmp_path: Path, many_rows: Path
) -> None:
    _, whole = run(attempt(tiny_model, many_rows, **MANY_ROWS), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", 2)
    _with_fingerprint(folder, "device", "Imaginary GPU")
    order = attempt(tiny_model, many_rows, **MANY_ROWS, resume_from=[folder], device=NO_MEMORY)
    _, resumed = run(order, tmp_path / "resumed")
    assert of_kind(resumed, Resumed)[0].exactness == "approximate"
    assert _portion(checkpoint(resumed, tmp_path / "resumed", 4)).token_budget < _portion(folder).token_budget


def _with_fingerprint(folder: Path, name: str, value: Any) -> None:
    path = folder / "trainer/state.json"
    state = json.loads(path.read_text())
    state["fingerprints"][name] = value
    path.write_text(json.dumps(state))
    _without_manifest_check(folder)


def _without_manifest_check(folder: Path) -> None:
    """List the spoiled files as if they had been written so."""
    from tunesmith.training.checkpoint import _write_manifest

    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    (folder / "manifest.json").unlink()
    _write_manifest(folder, facts)


def _spoil_random(folder: Path) -> None:
    path = folder / "trainer/state.json"
    state = json.loads(path.read_text())
    state["random"]["torch"] = torch.Generator().manual_seed(5).get_state().numpy().tobytes().hex()
    path.write_text(json.dumps(state))
    _without_manifest_check(folder)


def _spoil_position(folder: Path) -> None:
    path = folder / "trainer/state.json"
    state = json.loads(path.read_text())
    state["progress"]["step"] -= 1
    path.write_text(json.dumps(state))
    _without_manifest_check(folder)


def _spoil_tensors(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {key: value * 0 for key, value in load_file(folder / name).items()}
    save_file(tensors, folder / name)
    _without_manifest_check(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        _spoil_random,
        _spoil_position,
        lambda folder: _spoil_tensors(folder, "trainer/optimizer.safetensors"),
        lambda folder: _spoil_tensors(folder, "adapter_model.safetensors"),
    ],
    ids=["random", "position", "optimizer", "weights"],
)
def test_losing_any_part_of_the_state_changes_the_result(
    tiny_model: Path, tmp_path: Path, rows: Path, spoil: Any
) -> None:
    def order(**changes: Any) -> Any:
        return attempt(tiny_model, rows, adapter=DROPOUT, save_steps=1, **changes)

    whole, resumed = _both(order, tmp_path, 3, spoil)
    assert resumed != whole


def test_a_broken_checkpoint_is_passed_over_with_a_note(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    _, whole = run(attempt(tiny_model, rows, save_steps=1), tmp_path / "whole")
    broken, good = checkpoint(whole, tmp_path / "whole", 4), checkpoint(whole, tmp_path / "whole", 2)
    with (broken / "adapter_model.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    code, events = run(attempt(tiny_model, rows, save_steps=1, resume_from=[broken, good]), tmp_path / "resumed")
    assert code == 0
    assert [event.step for event in of_kind(events, Resumed)] == [2]
    assert "step-00000004" in of_kind(events, Note)[0].message
    assert losses(events) == losses(whole)[2:]


def test_without_a_whole_checkpoint_the_training_starts_anew(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    _, whole = run(attempt(tiny_model, rows), tmp_path / "whole")
    code, events = run(attempt(tiny_model, rows, resume_from=[tmp_path / "nowhere"]), tmp_path / "resumed")
    assert code == 0
    [resumed] = of_kind(events, Resumed)
    assert (resumed.step, resumed.exactness) == (0, "restarted")
    assert "nowhere is not whole" in resumed.differences[0]
    assert losses(events) == losses(whole)


def test_a_checkpoint_of_another_training_is_not_resumed(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    _, whole = run(attempt(tiny_model, rows), tmp_path / "whole")
    other = checkpoint(whole, tmp_path / "whole", 4)
    _, events = run(attempt(tiny_model, rows, learning_rate=0.02, resume_from=[other]), tmp_path / "resumed")
    assert [event.exactness for event in of_kind(events, Resumed)] == ["restarted"]
    assert "another" in of_kind(events, Note)[0].message
    _, undisturbed = run(attempt(tiny_model, rows, learning_rate=0.02), tmp_path / "undisturbed")
    assert losses(events) == losses(undisturbed)


def test_resuming_at_the_last_step_only_exports(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    _, whole = run(attempt(tiny_model, rows), tmp_path / "whole")
    last = of_kind(whole, CheckpointSaved)[-1]
    _, events = run(attempt(tiny_model, rows, resume_from=[tmp_path / "whole" / last.path]), tmp_path / "resumed")
    assert losses(events) == []
    exported = [tmp_path / name / "artifact/adapter_model.safetensors" for name in ("whole", "resumed")]
    assert exported[0].read_bytes() == exported[1].read_bytes()
