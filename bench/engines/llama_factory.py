"""One run of LLaMA-Factory through its own entry point. Runs in its own environment."""

import json
import time
from pathlib import Path
from typing import Any

from case import ALPHA, RANK, RATE, SEED, Order, read_order, write_result


def main() -> None:
    """Train."""
    import torch
    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    order = read_order()
    ends: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

        def on_log(self, _arguments: Any, _state: Any, _control: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    run_exp(_arguments(order, _registered(order), cuda=torch.cuda.is_available()), callbacks=[Clock()])
    write_result(order, losses=losses, ends=ends, tokens=[])


def _registered(order: Order) -> Path:
    """A folder with the rows and the index that names their columns."""
    folder = Path(order.work) / "data"
    folder.mkdir()
    # Its empty template does not teach where to stop: the end-of-text token stands in the rows.
    end = json.loads((Path(order.model) / "tokenizer_config.json").read_text())["eos_token"]
    rows = [json.loads(line) for line in Path(order.rows).read_text().splitlines()]
    ended = [{**row, "completion": row["completion"] + end} for row in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ended))
    columns = {"prompt": "prompt", "response": "completion"}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "columns": columns}}))
    return folder


def _arguments(order: Order, data: Path, *, cuda: bool) -> dict[str, Any]:
    case = order.case
    return {
        "model_name_or_path": order.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "dataset": "rows",
        "dataset_dir": str(data),
        # The completion follows the prompt.
        "template": "empty",
        "cutoff_len": case.length,
        "packing": False,
        "output_dir": str(Path(order.work) / "out"),
        "per_device_train_batch_size": case.batch,
        "gradient_accumulation_steps": 1,
        "disable_gradient_checkpointing": True,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_steps": order.steps,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": SEED,
        "data_seed": SEED,
        "bf16": case.dtype == "bfloat16",
        "use_cpu": not cuda,
        "disable_tqdm": True,
        "preprocessing_num_workers": 1,
        "overwrite_cache": True,
    }


if __name__ == "__main__":
    main()
