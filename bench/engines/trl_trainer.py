"""One run of TRL's SFTTrainer."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

from case import ALPHA, RANK, RATE, SEED, Order, write_result


def train(order: Order, **flags: Any) -> None:
    """Train with these flags of `SFTConfig` beside those that make it the same training."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    case, ends = order.case, []
    dtype = getattr(torch, case.dtype)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    on = {"quantization_config": quantization, "device_map": {"": 0 if torch.cuda.is_available() else "cpu"}}
    base = AutoModelForCausalLM.from_pretrained(order.model, dtype=dtype, **(on if case.quantized else {}))
    torch.manual_seed(SEED)
    adapter = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=get_peft_model(base, adapter),
        args=SFTConfig(
            output_dir=str(Path(order.work) / "out"),
            use_cpu=not torch.cuda.is_available(),
            bf16=case.dtype == "bfloat16",
            per_device_train_batch_size=case.batch,
            packing=case.rows == "packed",
            max_length=case.length,
            max_steps=order.steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            seed=SEED,
            data_seed=SEED,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **flags,
        ),
        train_dataset=Dataset.from_list([json.loads(line) for line in Path(order.rows).read_text().splitlines()]),
        processing_class=AutoTokenizer.from_pretrained(order.model),
        callbacks=[Clock()],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    totals = [0, *(entry["num_tokens"] for entry in logs)]
    tokens = [after - before for before, after in itertools.pairwise(totals)]
    write_result(order, losses=[entry["loss"] for entry in logs], ends=ends, tokens=tokens)
