"""TRL is the oracle: the same rows, seed and settings give the same losses in the same order."""

from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import attempt, chat, losses, run, write_rows
from tunesmith.data.rows import read_examples
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.adapters import new_adapter
from tunesmith.training.model import load_model, load_tokenizer
from tunesmith.training.text import Encoder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_kept"), pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("packing", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("adapted", [True, False], ids=["lora", "full"])
def test_losses_in_float32_equal_those_of_trl(tiny_model: Path, tmp_path: Path, packing: bool, adapted: bool) -> None:
    train = write_rows(tmp_path / "train.jsonl", chat(60))
    changes: dict[str, Any] = {} if adapted else {"adapter": None}
    order = attempt(
        tiny_model, train, packing=packing, max_length=128, max_steps=50, epochs=50.0, weight_decay=0.1, **changes
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events) == pytest.approx(_trl_losses(order, tmp_path / "trl"), abs=1e-4)


@pytest.mark.parametrize("quantization", [None, {"bits": 4}], ids=["plain", "nf4"])
def test_losses_in_bfloat16_are_close_to_those_of_trl(
    tiny_model: Path, tmp_path: Path, quantization: dict[str, Any] | None
) -> None:
    train = write_rows(tmp_path / "train.jsonl", chat(60))
    changes: dict[str, Any] = {"dtype": "bfloat16", "quantization": quantization}
    order = attempt(tiny_model, train, max_length=128, max_steps=50, epochs=50.0, **changes)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    assert losses(events) == pytest.approx(_trl_losses(order, tmp_path / "trl"), abs=1e-2)


def _trl_losses(order: AttemptSpec, folder: Path) -> list[float]:
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    spec, inputs = order.spec, order.inputs
    tokenizer = load_tokenizer(inputs.model)
    rows = Encoder(tokenizer, 384).encode(list(read_examples(inputs.train)))
    data = Dataset.from_list(
        [
            {
                "input_ids": row.ids.tolist(),
                "labels": [token if kept else -100 for token, kept in zip(row.ids.tolist(), row.trained, strict=True)],
            }
            for row in rows
        ]
    )
    half = spec.model.dtype == "bfloat16"
    dtype = torch.bfloat16 if half else torch.float32
    model = load_model(inputs.model, dtype, torch.device("cpu"), spec.model.quantization)
    if spec.adapter is not None:
        model = new_adapter(model, spec.adapter, spec.optimization.seed)
    config = SFTConfig(
        output_dir=str(folder),
        max_length=spec.data.max_length,
        packing=spec.data.packing,
        packing_strategy="bfd",
        per_device_train_batch_size=spec.optimization.batch_size,
        learning_rate=spec.optimization.learning_rate,
        lr_scheduler_type=spec.optimization.schedule,
        warmup_steps=spec.optimization.warmup_ratio,
        weight_decay=spec.optimization.weight_decay,
        max_grad_norm=1.0,
        max_steps=spec.optimization.max_steps or -1,
        seed=spec.optimization.seed,
        bf16=half,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
