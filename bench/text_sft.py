"""Supervised fine-tuning of SmolLM2-135M with LoRA: our engine against TRL's SFTTrainer, step by step on the same data.

Both train the same packed rows of 512 tokens, two a step, in the same order, from the same initial adapter, in turn
(A, B, A, B) and each in a process of its own. A speed only counts if the losses agree. TRL has its best flags for this
job: packing, no gradient checkpointing, no reports. Prints medians of whole steps and ratios.
"""

import argparse
import itertools
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEED = 42
RATE = 2e-4
LENGTH = 512
ROWS_A_STEP = 2
WARM_UP_STEPS = 3
# Largest difference of a step's loss: absolute in float32, a share of the loss in bfloat16, where both engines round
# every product to 8 bits in an order of their own.
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2}


def main() -> None:
    """Run both engines in turn for each number format, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"], choices=list(TOLERANCE))
    parser.add_argument("--model", type=Path, help="folder of the model; converted from its package if not given")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--child", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child = train_ours if arguments.child == "ours" else train_trl
        child(arguments.model, arguments.work, arguments.dtypes[0], arguments.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or _converted()
        report = {
            dtype: _compare(model, Path(folder), dtype, arguments.steps, arguments.rounds) for dtype in arguments.dtypes
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if not all(result["losses_agree"] for result in report.values()):
        sys.exit("The losses differ, so the speeds do not count.")


def _converted() -> Path:
    sys.path.insert(0, str(ROOT / "examples" / "support_triage"))
    from base_model import convert

    folder: Path = convert(Path.home() / ".cache" / "tunesmith" / "SmolLM2-135M-Instruct")
    return folder


def _compare(model: Path, folder: Path, dtype: str, steps: int, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "trl": []}
    for number in range(rounds):
        for engine, results in runs.items():
            work = folder / f"{dtype}-{engine}-{number}"
            work.mkdir()
            results.append(_run(engine, model, work, dtype, steps))
            print(f"{dtype} round {number + 1} {engine:5} {_speed(results[-1]):7.0f} tokens/s", flush=True)
    worst = max(
        abs(ours - theirs) / (theirs if dtype == "bfloat16" else 1)
        for ours, theirs in zip(runs["ours"][0]["losses"], runs["trl"][0]["losses"], strict=True)
    )
    figures: dict[str, Any] = {"largest_loss_difference": worst, "losses_agree": worst <= TOLERANCE[dtype]}
    for engine, results in runs.items():
        figures[engine] = {
            "tokens_per_second": statistics.median(_speed(result) for result in results),
            "seconds_to_first_step": statistics.median(result["first_step"] for result in results),
            "peak_memory_megabytes": statistics.median(result["memory"] for result in results) / 1e6,
        }
    figures["ratios"] = {name: figures["ours"][name] / figures["trl"][name] for name in figures["ours"]}
    _print(dtype, figures)
    return figures


def _run(engine: str, model: Path, work: Path, dtype: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", engine, "--model", str(model), "--work", str(work)]
    began = time.time()
    with (work / "log").open("wb") as log:
        subprocess.run([*command, "--dtypes", dtype, "--steps", str(steps)], check=True, stdout=log, stderr=log)
    result: dict[str, Any] = json.loads((work / "result.json").read_text())
    result["first_step"] = result["ends"][0] - began
    return result


def _speed(result: dict[str, Any]) -> float:
    """Tokens a second of the median step, without the first ones."""
    ends, tokens = result["ends"], result["tokens"]
    speeds = [tokens[step] / (ends[step] - ends[step - 1]) for step in range(WARM_UP_STEPS, len(ends))]
    return statistics.median(speeds)


def _print(dtype: str, figures: dict[str, Any]) -> None:
    print(f"\n{dtype}: largest difference of a step's loss {figures['largest_loss_difference']:.2e}")
    print(f"{'':24}{'ours':>10}{'TRL':>10}{'ratio':>8}")
    for name, ratio in figures["ratios"].items():
        print(f"{name:24}{figures['ours'][name]:10.1f}{figures['trl'][name]:10.1f}{ratio:8.2f}")
    print(flush=True)


def texts() -> list[str]:
    """Short texts that ship with the project, some two hundred tokens each."""
    rows = [json.loads(line) for line in (ROOT / "examples/support_triage/train.jsonl").read_text().splitlines()]
    return ["\n".join(message["content"] for message in row["messages"]) for row in rows]


def train_ours(model: Path, work: Path, dtype: str, steps: int) -> None:
    """One run of our worker, as a server would start it."""
    from tunesmith.rundir import RunDirectory
    from tunesmith.spec.events import Failed, Metrics
    from tunesmith.worker import main as work_on

    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts()))
    run = RunDirectory(work / "run")
    run.write_spec(_attempt(model, data, dtype, steps))
    code = work_on(run.path)
    reported, _ = run.read_events(0)
    failures = [event.error.sentence() for event in reported if isinstance(event, Failed)]
    assert code == 0, failures
    metrics = [event for event in reported if isinstance(event, Metrics)]
    totals = [0, *(event.tokens_total for event in metrics)]
    _write_result(
        work,
        losses=[event.loss for event in metrics],
        ends=[event.at.timestamp() for event in metrics],
        tokens=[after - before for before, after in itertools.pairwise(totals)],
    )


def _attempt(model: Path, data: Path, dtype: str, steps: int) -> Any:
    from tunesmith.spec import job

    source = job.DataSource(kind="file", id="bench", sha256="0" * 64)
    return job.AttemptSpec(
        job_id="bench",
        attempt=1,
        purpose="train",
        inputs=job.Inputs(model=model, train=data, validation=None, adapter=None),
        spec=job.JobSpec(
            model=job.ModelSpec(base="SmolLM2-135M-Instruct", dtype=dtype),
            init_from=None,
            data=job.DataSpec(
                train=source, validation=None, max_length=LENGTH, over_long="truncate", packing=True, max_samples=None
            ),
            method=job.MethodSpec(kind="sft"),
            adapter=job.AdapterSpec(rank=16, alpha=32, dropout=0, targets=("all-linear",)),
            optimization=job.OptimizationSpec(
                learning_rate=RATE,
                schedule="constant",
                warmup_ratio=0,
                weight_decay=0,
                max_grad_norm=1.0,
                epochs=100,
                max_steps=steps,
                batch_size=ROWS_A_STEP,
                micro_batch_size=None,
                seed=SEED,
            ),
            cadence=job.CadenceSpec(eval_steps="epoch", save_steps=10**6, keep_checkpoints=1),
        ),
    )


def train_trl(model: Path, work: Path, dtype: str, steps: int) -> None:
    """One run of TRL's SFTTrainer."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.time())

    base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    torch.manual_seed(SEED)
    adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=get_peft_model(base, adapter),
        args=SFTConfig(
            output_dir=str(work / "out"),
            use_cpu=not torch.cuda.is_available(),
            bf16=dtype == "bfloat16",
            per_device_train_batch_size=ROWS_A_STEP,
            gradient_accumulation_steps=1,
            gradient_checkpointing=False,
            packing=True,
            max_length=LENGTH,
            max_steps=steps,
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
        ),
        train_dataset=Dataset.from_dict({"text": texts()}),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    totals = [0, *(entry["num_tokens"] for entry in logs)]
    _write_result(
        work,
        losses=[entry["loss"] for entry in logs],
        ends=ends,
        tokens=[after - before for before, after in itertools.pairwise(totals)],
    )


def _write_result(work: Path, *, losses: list[float], ends: list[float], tokens: list[float]) -> None:
    assert all(math.isfinite(loss) for loss in losses)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"losses": losses, "ends": ends, "tokens": tokens, "memory": memory}
    (work / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
