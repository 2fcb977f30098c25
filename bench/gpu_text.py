"""The workloads W1 to W4 on one GPU: our engine against TRL's SFTTrainer and against what the device can do at all.

| | model | rows |
| --- | --- | --- |
| W1 | shape of Llama 3.1 8B, bfloat16, LoRA r16 | two of 4,096 tokens a step |
| W2 | shape of Llama 3.2 1B, bfloat16, LoRA r16 | eight of 2,048 tokens a step |
| W3 | as W2 | 54 of 300 tokens on average a step, at most 2,048, the first quarter not trained |
| W4 | as W1 with weights in 4 bits (nf4) | two of 4,096 tokens a step, and four |

Weights are random (zeros would run faster), tokens are random, and both engines read the same files. They take turns,
each in a process of its own. `floor` is the time that the matrix products of a step alone would take at the rate that
this device reaches on products of the same shapes, so 1.0 cannot be reached. On a machine without a GPU the workload
`tiny` shows that the script works.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.case import SEED, Case, Order, short_lengths

WARM_UP_STEPS = 10
_LLAMA = {"vocab_size": 128_256, "max_position_embeddings": 8192, "rope_theta": 500_000.0}
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {
        **_LLAMA,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "1b": {
        **_LLAMA,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "tiny": {
        **_LLAMA,
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
}
"""From the models' published configurations."""


@dataclass(frozen=True)
class Workload:
    """One comparison."""

    shape: str
    case: Case
    short: bool = False
    """Whether rows have the lengths of chats, and prompts that are not trained."""


def _case(name: str, batch: int, length: int, *, quantized: bool = False) -> Case:
    return Case(name, name, "tokens", batch, length, "bfloat16", quantized=quantized, engines=("ours", "trl_best"))


WORKLOADS = {
    "w1": Workload("8b", _case("w1", 2, 4096)),
    "w2": Workload("1b", _case("w2", 8, 2048)),
    "w3": Workload("1b", _case("w3", 54, 2048), short=True),
    "w4-8k": Workload("8b", _case("w4-8k", 2, 4096, quantized=True)),
    "w4-16k": Workload("8b", _case("w4-16k", 4, 4096, quantized=True)),
    "tiny": Workload("tiny", _case("tiny", 4, 256), short=True),
}


def main() -> None:
    """Run the workloads, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["w1", "w2", "w3", "w4-8k", "w4-16k"], choices=WORKLOADS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", type=Path, help="keep the random models in this folder")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as scratch:
        models = arguments.models or Path(scratch) / "models"
        for name in arguments.workloads:
            folder = Path(scratch) / name
            folder.mkdir()
            report[name] = _compare(WORKLOADS[name], models, folder, arguments.steps, arguments.rounds)
            if arguments.json:
                arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def _compare(workload: Workload, models: Path, folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    case = workload.case
    model = _model(workload.shape, models)
    rows = folder / "rows.jsonl"
    count = _write_rows(workload, rows, steps)
    floor = _floor(workload, count // steps)
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in case.engines}
    for number in range(rounds):
        for engine, results in runs.items():
            work = folder / f"{engine}-{number}"
            work.mkdir()
            results.append(_run(Order(case, engine, str(model), str(rows), str(work), steps)))
            shutil.rmtree(work / "run", ignore_errors=True)
            print(f"{case.name} round {number + 1} {engine:10} {results[-1]['speed']:9.0f} tokens/s", flush=True)
    figures: dict[str, Any] = {
        engine: {
            "tokens_per_second": statistics.median(result["speed"] for result in results),
            "device_memory_gigabytes": max(result["device_memory"] for result in results) / 1e9,
            "losses": results[0]["losses"],
        }
        for engine, results in runs.items()
    }
    ours, theirs = (figures[engine]["tokens_per_second"] for engine in case.engines)
    first, other = (figures[engine]["losses"][0] for engine in case.engines)
    figures |= {
        "ratio": ours / theirs,
        "floor_share": ours / floor,
        "first_loss_difference": abs(first - other) / other,
    }
    print(
        f"{case.name}: ours / TRL {figures['ratio']:.2f}, of the floor {figures['floor_share']:.2f} "
        f"({floor:.0f} tokens/s), first losses differ by {figures['first_loss_difference']:.1e}\n",
        flush=True,
    )
    return figures


def _run(order: Order) -> dict[str, Any]:
    work = Path(order.work)
    (work / "order.json").write_text(order.to_json())
    script = Path(__file__).parent / "engines" / f"{order.engine}.py"
    with (work / "log").open("wb") as log:
        command = [sys.executable, str(script), str(work / "order.json")]
        ended = subprocess.run(command, check=False, stdout=log, stderr=log)
    if ended.returncode:
        sys.exit(f"{order.engine} failed:\n{(work / 'log').read_text(errors='replace')[-3000:]}")
    result: dict[str, Any] = json.loads((work / "result.json").read_text())
    warm_up = min(WARM_UP_STEPS, order.steps // 2)
    seconds = result["ends"][-1] - result["ends"][warm_up - 1]
    result["speed"] = sum(_real_tokens(order)[warm_up:]) / seconds
    return result


def _real_tokens(order: Order) -> list[int]:
    """Of each step. Rows of different lengths are drawn anew for each step, so a mean over steps is what counts."""
    lengths = [len(json.loads(line)["input_ids"]) for line in Path(order.rows).read_text().splitlines()]
    return [round(sum(lengths) / order.steps)] * order.steps


def _model(shape: str, models: Path) -> Path:
    """A folder with random weights and a tokenizer that nobody needs, as rows are tokens."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = models / shape
    if (folder / "config.json").is_file():
        return folder
    subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_model", "text", str(folder)], check=True)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = LlamaConfig(**SHAPES[shape], initializer_range=0.02, dtype=torch.bfloat16)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    del model
    return folder


def _write_rows(workload: Workload, path: Path, steps: int) -> int:
    """Random tokens. Returns how many."""
    case, draw = workload.case, random.Random(SEED)
    count = case.batch * steps
    lengths = short_lengths(draw, count, case.length) if workload.short else [case.length] * count
    most = min(SHAPES[workload.shape]["vocab_size"], 128_000) - 1
    with path.open("w") as file:
        for length in lengths:
            ids = [draw.randint(3, most) for _ in range(length)]
            prompt = length // 4 if workload.short else 0
            file.write(json.dumps({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]}) + "\n")
    return sum(lengths)


def _floor(workload: Workload, tokens: int) -> float:
    """Tokens a second if a step were nothing but its matrix products over the frozen weights, forward and back."""
    import torch

    shape = SHAPES[workload.shape]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    one, other = (torch.randn(size, device=device, dtype=torch.bfloat16) for size in ((tokens, width), (width, inner)))
    rate = _product_rate(one, other)
    heads = shape["num_key_value_heads"] * width // shape["num_attention_heads"]
    layer = 2 * width * width + 2 * width * heads + 3 * width * inner
    weights = shape["num_hidden_layers"] * layer + width * shape["vocab_size"]
    return rate / (4 * weights)


def _product_rate(one: Any, other: Any) -> float:
    """Floating-point operations a second of a matrix product, median of 20."""
    import torch

    seconds = []
    for _ in range(25):
        began = time.perf_counter()
        torch.mm(one, other)
        if one.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    operations = 2 * one.shape[0] * one.shape[1] * other.shape[1]
    return operations / statistics.median(seconds[5:])


if __name__ == "__main__":
    main()
