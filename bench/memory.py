"""Plans against measured peaks: what a plan says a training takes, and what its worker then took.

Each case is planned, and then trained for a few steps in a process of its own, whose peak is that of its `metrics`
events: resident memory on a CPU with the libraries included, memory of the allocator on a GPU without them. Prints both
and whether the peak lies in the range. The range must hold for the cases on SmolLM2-135M, not for a model so small that
the libraries are all of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LORA = {"rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": ("all-linear",)}
STEPS = 2

# Name, model, and what differs from a LoRA in bfloat16 with some rows of 512 tokens a step.
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("tiny, LoRA float32", "tiny", {"dtype": "float32"}),
    ("LoRA bfloat16", "smollm2", {}),
    ("LoRA bfloat16, checkpointing", "smollm2", {"gradient_checkpointing": True}),
    ("LoRA bfloat16, 4-bit", "smollm2", {"quantization": {"bits": 4}}),
    ("LoRA bfloat16, dropout", "smollm2", {"adapter": {**LORA, "dropout": 0.1}}),
    ("LoRA bfloat16, one row of 2048", "smollm2", {"length": 2048, "batch_size": 1}),
    ("LoRA float32", "smollm2", {"dtype": "float32"}),
    ("full bfloat16", "smollm2", {"adapter": None}),
    ("full float32", "smollm2", {"adapter": None, "dtype": "float32"}),
    ("full float32, checkpointing", "smollm2", {"adapter": None, "dtype": "float32", "gradient_checkpointing": True}),
    ("full bfloat16, 8-bit moments", "smollm2", {"adapter": None, "optimizer": "adamw_8bit"}),
)


def main() -> None:
    """Plan and train each case, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M; converted from its package if not given")
    parser.add_argument("--only", help="cases whose names contain this")
    parser.add_argument("--rows", type=int, default=2, help="rows of a step, in cases that do not say")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.exit(_work(arguments.child))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        models = {"smollm2": arguments.model or _converted(), "tiny": _tiny(Path(folder))}
        print(f"{'case':36}{'predicted, MB':>16}{'measured':>10}  in range")
        for number, (name, model, changes) in enumerate(CASES):
            if arguments.only is None or arguments.only in name:
                results.append(
                    _case(Path(folder) / str(number), name, models[model], {"batch_size": arguments.rows, **changes})
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    outside = [result["case"] for result in results if not result["in_range"] and "tiny" not in result["case"]]
    if outside:
        sys.exit(f"Outside of the range: {', '.join(outside)}.")


def _case(folder: Path, name: str, model: Path, changes: dict[str, Any]) -> dict[str, Any]:
    from tunesmith.spec.events import Checked, Metrics

    folder.mkdir()
    [plan] = [event.plan for event in _run(folder, "plan", model, changes) if isinstance(event, Checked)]
    peaks = [event.memory_bytes for event in _run(folder, "train", model, changes) if isinstance(event, Metrics)]
    assert plan.memory is not None
    # A GPU's allocator knows nothing of the context and the libraries' own memory.
    without = plan.memory.parts.overhead if _is_on_gpu() else 0
    low, high, peak = max(0, plan.memory.low - without), plan.memory.high - without, max(peaks)
    span = f"{low / 1e6:.0f} to {high / 1e6:.0f}"
    print(f"{name:36}{span:>16}{peak / 1e6:10.0f}  {'yes' if low <= peak <= high else 'no'}", flush=True)
    return {"case": name, "low": low, "high": high, "peak": peak, "in_range": low <= peak <= high}


def _run(folder: Path, purpose: str, model: Path, changes: dict[str, Any]) -> list[Any]:
    from tunesmith.rundir import RunDirectory
    from tunesmith.spec.events import Failed

    run = RunDirectory(folder / purpose)
    run.write_spec(_attempt(folder, purpose, model, **changes))
    with (folder / f"{purpose}.log").open("wb") as log:
        subprocess.run([sys.executable, __file__, "--child", str(run.path)], check=False, stdout=log, stderr=log)
    reported, _ = run.read_events(0)
    failures = [event.error.sentence() for event in reported if isinstance(event, Failed)]
    assert not failures, failures
    return reported


def _work(run: Path) -> int:
    from tunesmith.worker import main as work_on

    return work_on(run)


def _attempt(  # noqa: PLR0913 - an argument a difference
    folder: Path,
    purpose: str,
    model: Path,
    *,
    batch_size: int,
    length: int = 512,
    dtype: str = "bfloat16",
    adapter: dict[str, Any] | None = LORA,
    quantization: dict[str, Any] | None = None,
    gradient_checkpointing: bool = False,
    optimizer: str = "adamw",
) -> Any:
    from tunesmith.spec import job

    rows = folder / "rows.jsonl"
    text = " ".join(f"Line {number} of a text that goes on." for number in range(length // 4))
    rows.write_text((json.dumps({"text": text}) + "\n") * (STEPS * batch_size))
    source = job.DataSource(kind="file", id="bench", sha256="0" * 64)
    return job.AttemptSpec.model_validate(
        {
            "job_id": "bench",
            "attempt": 1,
            "purpose": purpose,
            "inputs": {"model": model, "train": rows, "validation": None, "adapter": None},
            "rows": STEPS * batch_size,
            "spec": {
                "model": {"base": "bench", "dtype": dtype, "quantization": quantization},
                "init_from": None,
                "data": {
                    "train": source,
                    "validation": None,
                    "max_length": length,
                    "over_long": "truncate",
                    "packing": False,
                    "max_samples": None,
                },
                "method": {"kind": "sft"},
                "adapter": adapter,
                "optimization": {
                    "optimizer": optimizer,
                    "learning_rate": 1e-5,
                    "schedule": "constant",
                    "warmup_ratio": 0,
                    "weight_decay": 0,
                    "max_grad_norm": 1,
                    "epochs": 1,
                    "max_steps": None,
                    "batch_size": batch_size,
                    "micro_batch_size": batch_size,
                    "gradient_checkpointing": gradient_checkpointing,
                    "seed": 42,
                },
                "cadence": {"eval_steps": 10**6, "save_steps": 10**6, "keep_checkpoints": 1},
            },
        }
    )


def _is_on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _converted() -> Path:
    sys.path.insert(0, str(ROOT / "examples" / "support_triage"))
    from base_model import convert

    folder: Path = convert(Path.home() / ".cache" / "tunesmith" / "SmolLM2-135M-Instruct")
    return folder


def _tiny(folder: Path) -> Path:
    model = folder / "tiny"
    subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_model", "text", str(model)], check=True)
    return model


if __name__ == "__main__":
    main()
