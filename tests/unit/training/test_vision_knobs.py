"""What a job may ask for, on a model that reads pictures: each is done there as it is for text."""

import json
from pathlib import Path
from typing import Any

import pytest

from attempts import LORA, losses, of_kind, run
from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.events import Evaluated, Failed, Note, Prepared, Sampled, Succeeded, WorkerEvent
from vision import mixed_rows, shows, vision_attempt

pytestmark = [
    pytest.mark.slow, pytest.mark.usefixtures("signals_kept"), pytest.mark.filterwarnings("ignore"),
]  # fmt: skip
ALL_PARTS = {"kind": "sft", "parameters": {"parts": ["language", "projector", "vision"]}}


def trained(model: Path, folder: Path, count: int = 12, **changes: Any) -> list[WorkerEvent]:
    """The events of a training that succeeds."""
    folder.mkdir()
    code, events = run(vision_attempt(model, folder, mixed_rows(count), **changes), folder / "run")
    assert code == 0, of_kind(events, Failed)
    return events


def config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run/artifact/adapter_config.json").read_text())
    return found


@pytest.mark.parametrize("method", [{"kind": "sft", "parameters": {}}, ALL_PARTS], ids=["language", "all-parts"])
@pytest.mark.parametrize(
    "adapter",
    [{"decomposed": True}, {"init": "pissa"}, {"scaling": "rank_stabilized"}],
    ids=lambda each: next(iter(each)),
)
def test_every_variant_of_an_adapter_is_trained(
    tiny_vision_model: Path, tmp_path: Path, adapter: dict[str, Any], method: dict[str, Any]
) -> None:
    events = trained(tiny_vision_model, tmp_path / "a", adapter=LORA | adapter, method=method, max_steps=3)
    assert of_kind(events, Succeeded)[0].logit_change > 0
    assert (config(tmp_path / "a")["exclude_modules"] is None) == (method is ALL_PARTS)
    assert config(tmp_path / "a")["use_dora"] == ("decomposed" in adapter)


@pytest.mark.parametrize("bits", [4, 8])
def test_an_adapter_is_trained_over_fewer_bits(tiny_vision_model: Path, tmp_path: Path, bits: int) -> None:
    events = trained(tiny_vision_model, tmp_path / "a", quantization={"bits": bits}, method=ALL_PARTS, max_steps=3)
    assert of_kind(events, Succeeded)[0].logit_change > 0


def test_noise_changes_the_losses_and_is_the_same_every_time(tiny_vision_model: Path, tmp_path: Path) -> None:
    plain = losses(trained(tiny_vision_model, tmp_path / "a", max_steps=3))
    first, second = (
        losses(trained(tiny_vision_model, tmp_path / name, max_steps=3, neftune_noise_alpha=5.0)) for name in "bc"
    )
    assert first == second != plain


@pytest.mark.parametrize(
    "changes", [{"micro_batch_size": 1}, {"gradient_checkpointing": True}], ids=["rows-alone", "checkpointing"]
)
def test_what_saves_memory_leaves_the_losses_as_they_are(
    tiny_vision_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    plain, other = (
        losses(trained(tiny_vision_model, tmp_path / name, adapter=None, method=ALL_PARTS, max_steps=4, **more))
        for name, more in (("a", {}), ("b", changes))
    )
    assert other == pytest.approx(plain, abs=2e-4)


def test_packed_rows_do_not_see_each_other(tiny_vision_model: Path, tmp_path: Path) -> None:
    one = trained(tiny_vision_model, tmp_path / "a", packing=True, batch_size=64, max_steps=1)
    two = trained(tiny_vision_model, tmp_path / "b", packing=False, batch_size=64, max_steps=1)
    assert of_kind(one, Prepared)[0].sequences < of_kind(one, Prepared)[0].rows == 12
    assert losses(one) == pytest.approx(losses(two), abs=1e-5)


def test_the_best_evaluation_is_taken_and_the_model_is_sampled(tiny_vision_model: Path, tmp_path: Path) -> None:
    events = trained(
        tiny_vision_model, tmp_path / "a", validation=mixed_rows(6), evaluate_first=True, eval_steps=2, epochs=4.0,
        result="best", learning_rate=0.3,
        sampling={"prompts": ["What comes after 2?"], "every": 4, "max_new_tokens": 4},
    )  # fmt: skip
    evaluated = of_kind(events, Evaluated)
    best = min(evaluated[1:], key=lambda each: each.loss)
    assert evaluated[0].step == 0
    [succeeded] = of_kind(events, Succeeded)
    assert (succeeded.weights_of or succeeded.step) == best.step
    assert {each.step for each in of_kind(events, Sampled)} >= {0, 4}


def test_a_training_ends_early_without_improvement(tiny_vision_model: Path, tmp_path: Path) -> None:
    events = trained(
        tiny_vision_model, tmp_path / "a", validation=mixed_rows(6), eval_steps=1, epochs=9.0, patience=1,
        min_improvement=10.0,
    )  # fmt: skip
    assert of_kind(events, Succeeded)[0].step < 27


def test_a_share_of_the_rows_is_held_out_with_its_pictures(tiny_vision_model: Path, tmp_path: Path) -> None:
    split = {"by": "random", "ratios": [0.5, 0.5], "column": None}
    events = trained(tiny_vision_model, tmp_path / "a", 24, split=split, max_steps=2)
    [prepared] = of_kind(events, Prepared)
    assert prepared.rows + prepared.validation_rows == 24
    assert of_kind(events, Evaluated)


def test_prepared_rows_are_kept_and_found_again(tiny_vision_model: Path, tmp_path: Path) -> None:
    order = vision_attempt(tiny_vision_model, tmp_path, mixed_rows(12), max_steps=2)
    order = order.model_copy(update={"inputs": order.inputs.model_copy(update={"rows": tmp_path / "kept"})})
    (_, first), (_, second) = (run(order, tmp_path / name) for name in "ab")
    assert len(list((tmp_path / "kept").rglob("rows.safetensors"))) == 1
    assert losses(first) == losses(second)


def test_an_adapter_that_is_continued_keeps_its_parts_and_says_so(tiny_vision_model: Path, tmp_path: Path) -> None:
    trained(tiny_vision_model, tmp_path / "a", max_steps=2)
    events = trained(
        tiny_vision_model, tmp_path / "b", max_steps=2, continue_from=tmp_path / "a/run/artifact", method=ALL_PARTS
    )
    assert "`parts` has no effect" in " ".join(note.message for note in of_kind(events, Note))
    assert config(tmp_path / "b")["exclude_modules"] == config(tmp_path / "a")["exclude_modules"]


def test_a_part_in_which_an_adapter_would_train_nothing_is_refused(tiny_vision_model: Path, tmp_path: Path) -> None:
    from tunesmith.methods import sft

    adapter = LORA | {"targets": ["down_proj"]}  # of what writes alone
    order = vision_attempt(tiny_vision_model, tmp_path, [shows("red")], adapter=adapter, method=ALL_PARTS)
    with pytest.raises(TunesmithError) as refused:
        sft.check(order, lambda: None)
    assert (refused.value.code, refused.value.param) == ("invalid_adapter", "method.parameters.parts")


def test_a_check_without_the_pictures_finds_what_speaks_against_the_model_alone(
    tiny_vision_model: Path, tmp_path: Path
) -> None:
    from tunesmith.methods import sft

    order = vision_attempt(tiny_vision_model, tmp_path, [shows("red")])
    order = order.model_copy(update={"inputs": order.inputs.model_copy(update={"pictures": None})})
    assert sft.check(order, lambda: None) is None
