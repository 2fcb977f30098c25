"""TRL is the oracle for preferences, too: the same text, seed and settings give the same losses in the same order."""

from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import attempt, losses, of_kind, run, write_rows
from tunesmith.spec.events import Metrics
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.adapters import new_adapter
from tunesmith.training.model import load_classifier, load_model, load_tokenizer
from tunesmith.training.order import planned_batches
from tunesmith.training.score_model import HEAD

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_kept"), pytest.mark.filterwarnings("ignore")]

STEPS = 50


def _pairs(count: int) -> list[Any]:
    return [
        {
            "prompt": f"What comes after {number}?",
            "chosen": f"\nAfter {number} comes {number + 1}." * (1 + number % 3),
            "rejected": "\nI do not know." + " Sorry." * (number % 5),
        }
        for number in range(count)
    ]


def _judged(count: int) -> list[Any]:
    return [
        {
            "prompt": row["prompt"],
            "completion": row["chosen" if number % 3 else "rejected"],
            "label": number % 3 > 0,
        }
        for number, row in enumerate(_pairs(count))
    ]


def _order(model: Path, train: Path, kind: str, adapted: bool, parameters: Any, **changes: Any) -> AttemptSpec:
    return attempt(
        model,
        train,
        method={"kind": kind, "parameters": parameters},
        max_length=128,
        max_steps=STEPS,
        epochs=20.0,
        learning_rate=1e-3,
        weight_decay=0.1,
        **({} if adapted else {"adapter": None}),
        **changes,
    )


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_losses_of_preference_optimisation_equal_those_of_trl(
    tiny_model: Path, tmp_path: Path, loss: str, adapted: bool
) -> None:
    from trl import DPOConfig, DPOTrainer

    train = write_rows(tmp_path / "train.jsonl", _pairs(60))
    order = _order(tiny_model, train, "dpo", adapted, {"beta": 0.3, "loss": loss})
    code, events = run(order, tmp_path / "run")
    assert code == 0
    config = DPOConfig(**_settings(order, tmp_path), beta=0.3, loss_type=loss)
    theirs = _history(DPOTrainer, config, order, _pairs(60))
    assert len(theirs) == STEPS
    assert losses(events) == pytest.approx([entry["loss"] for entry in theirs], abs=1e-4)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected"):
        ours = [event.extra[name] for event in of_kind(events, Metrics)]
        assert ours == pytest.approx([entry[name] for entry in theirs], abs=1e-3), name


@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_losses_of_judged_answers_equal_those_of_trl(tiny_model: Path, tmp_path: Path, adapted: bool) -> None:
    from trl import KTOConfig, KTOTrainer

    rows = _judged(60)
    train = write_rows(tmp_path / "train.jsonl", rows)
    weights = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8}
    order = _order(tiny_model, train, "kto", adapted, weights)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    # TRL takes the rows of a batch as they come, since it fixes beforehand whose answer each prompt is given.
    steps = planned_batches(order.spec.optimization, len(rows))
    taken = [rows[index] for step in steps for index in step]
    config = KTOConfig(**_settings(order, tmp_path), **weights, train_sampling_strategy="sequential")
    theirs = _history(KTOTrainer, config, order, taken)
    assert len(theirs) == STEPS
    assert losses(events) == pytest.approx([entry["loss"] for entry in theirs], abs=1e-4)
    ours = of_kind(events, Metrics)
    for name in ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        pairs = [(event.extra.get(name), entry.get(name)) for event, entry in zip(ours, theirs, strict=True)]
        assert [one for one, _ in pairs] == pytest.approx([two for _, two in pairs], abs=1e-3), name
    assert max(event.extra["kl"] for event in ours) > 0.1


@pytest.mark.parametrize("center", [0.0, 0.01], ids=["plain", "centered"])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_losses_of_a_reward_model_equal_those_of_trl(
    tiny_model: Path, tmp_path: Path, adapted: bool, center: float
) -> None:
    from trl import RewardConfig, RewardTrainer

    train = write_rows(tmp_path / "train.jsonl", _pairs(60))
    order = _order(tiny_model, train, "reward", adapted, {"center_coefficient": center}, task="sequence_classification")
    code, events = run(order, tmp_path / "run")
    assert code == 0
    config = RewardConfig(**_settings(order, tmp_path), center_rewards_coefficient=center or None)
    theirs = _history(RewardTrainer, config, order, _pairs(60))
    assert len(theirs) == STEPS
    assert losses(events) == pytest.approx([entry["loss"] for entry in theirs], abs=1e-4)
    for ours, name in (("rewards/margins", "margin"), ("rewards/accuracies", "accuracy")):
        measured = [event.extra[ours] for event in of_kind(events, Metrics)]
        assert measured == pytest.approx([entry[name] for entry in theirs], abs=1e-3), name


def _settings(order: AttemptSpec, folder: Path) -> dict[str, Any]:
    spec = order.spec
    return {
        "output_dir": str(folder / "trl"),
        "max_length": spec.data.max_length,
        "per_device_train_batch_size": spec.optimization.batch_size,
        "learning_rate": spec.optimization.learning_rate,
        "lr_scheduler_type": spec.optimization.schedule,
        "warmup_steps": spec.optimization.warmup_ratio,
        "weight_decay": spec.optimization.weight_decay,
        "max_grad_norm": 1.0,
        "max_steps": spec.optimization.max_steps,
        "seed": spec.optimization.seed,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def _history(trainer: Any, config: Any, order: AttemptSpec, rows: list[Any]) -> list[dict[str, float]]:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    scoring, seed = order.spec.model.task == "sequence_classification", order.spec.optimization.seed
    place = (torch.float32, torch.device("cpu"))
    model = load_classifier(order.inputs.model, 1, seed, *place) if scoring else load_model(order.inputs.model, *place)
    if order.spec.adapter is not None:
        model = new_adapter(model, order.spec.adapter, seed, HEAD if scoring else None)
    tokenizer = load_tokenizer(order.inputs.model)
    running = trainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    running.train()
    return [entry for entry in running.state.log_history if "loss" in entry]
