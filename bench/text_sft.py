"""Fine-tuning SmolLM2-135M with LoRA: our engine against TRL's and LLaMA-Factory's, step by step on the same rows.

All engines train the same rows in the same order from the same weights, in turn (A, B, C, A, B, C), each in a process
of its own. A speed only counts if the losses agree. Prints medians of whole steps and ratios.

LLaMA-Factory needs an environment of its own: `python bench/engines/llama_factory_environment.py FOLDER` makes one.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from engines.case import CASES, Case, Order, write_rows

ROOT = Path(__file__).parents[1]
WARM_UP_STEPS = 3


def main() -> None:
    """Run the engines in turn for each case, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of the model; converted from its package if not given")
    parser.add_argument("--llama-factory", type=Path, help="its environment's folder; left out if not given")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or _converted()
        report = {name: _compared(name, model, Path(folder) / name, arguments) for name in arguments.cases}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if not all(peer["losses_agree"] for peers in report.values() for peer in peers.values()):
        sys.exit("The losses differ, so the speeds do not count.")


def _converted() -> Path:
    sys.path.insert(0, str(ROOT / "examples" / "support_triage"))
    from base_model import convert

    folder: Path = convert(Path.home() / ".cache" / "tunesmith" / "SmolLM2-135M-Instruct")
    return folder


def _pythons(case: Case, llamafactory: Path | None) -> dict[str, str]:
    """The interpreter of each engine."""
    own = {engine: sys.executable for engine in case.engines if engine != "llama_factory"}
    if llamafactory is not None and "llama_factory" in case.engines:
        own["llama_factory"] = str(llamafactory / "bin" / "python")
    return own


def _compared(name: str, model: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    case = CASES[name]
    folder.mkdir()
    rows = write_rows(case, model, folder / "rows.jsonl", arguments.steps)
    pythons = _pythons(case, arguments.llama_factory)
    return compare(case, model, rows, arguments.steps, arguments.rounds, pythons)


def compare(case: Case, model: Path, rows: Path, steps: int, rounds: int, pythons: dict[str, str]) -> dict[str, Any]:
    """Run the engines in turn, each with its interpreter, in folders beside the rows. Prints and returns their figures
    and the ratios of ours to each other's."""
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in pythons}
    for number in range(rounds):
        for engine, python in pythons.items():
            work = rows.parent / f"{engine}-{number}"
            work.mkdir()
            order = Order(case=case, engine=engine, model=str(model), rows=str(rows), work=str(work), steps=steps)
            runs[engine].append(_run(order, python))
            speed = _speed(runs[engine][-1], runs["ours"][0]["tokens"])
            print(f"{case.name} round {number + 1} {engine:14} {speed:7.0f} tokens/s", flush=True)
    tokens = runs["ours"][0]["tokens"]
    ours = _figures(runs["ours"], tokens)
    report = {}
    for engine in [name for name in runs if name != "ours"]:
        worst = _difference(runs["ours"][0]["losses"], runs[engine][0]["losses"], case)
        theirs = _figures(runs[engine], tokens)
        report[engine] = {
            "largest_loss_difference": worst,
            "losses_agree": worst <= case.tolerance,
            "ours": ours,
            "theirs": theirs,
            "ratios": {name: ours[name] / theirs[name] for name in ours},
        }
        _print(case, engine, report[engine])
    return report


def _difference(ours: list[float], theirs: list[float], case: Case) -> float:
    """Of a step's loss: absolute in float32, else as a share of the loss."""
    pairs = list(zip(ours, theirs, strict=True))
    return max(abs(a - b) / (1 if case.dtype == "float32" else b) for a, b in pairs)


def _run(order: Order, python: str) -> dict[str, Any]:
    work = Path(order.work)
    (work / "order.json").write_text(order.to_json())
    script = Path(__file__).parent / "engines" / f"{order.engine}.py"
    began = time.time()
    with (work / "log").open("wb") as log:
        ended = subprocess.run([python, str(script), str(work / "order.json")], check=False, stdout=log, stderr=log)
    if ended.returncode:
        sys.exit(f"{order.engine} failed:\n{(work / 'log').read_text(errors='replace')[-3000:]}")
    result: dict[str, Any] = json.loads((work / "result.json").read_text())
    result["first_step"] = result["ends"][0] - began
    return result


def _figures(results: list[dict[str, Any]], tokens: list[int]) -> dict[str, float]:
    figures = {
        "tokens_per_second": statistics.median(_speed(result, tokens) for result in results),
        "seconds_to_first_step": statistics.median(result["first_step"] for result in results),
        "peak_memory_megabytes": statistics.median(result["memory"] for result in results) / 1e6,
    }
    on_device = max(result["device_memory"] for result in results) / 1e6
    return figures | ({"peak_device_megabytes": on_device} if on_device else {})


def _speed(result: dict[str, Any], tokens: list[int]) -> float:
    """Real tokens a second, without padding, over all steps but the first ones: steps differ in length."""
    ends = result["ends"]
    return sum(tokens[WARM_UP_STEPS:]) / (ends[-1] - ends[WARM_UP_STEPS - 1])


def _print(case: Case, engine: str, figures: dict[str, Any]) -> None:
    print(f"\n{case.name}: {case.about}")
    print(f"largest difference of a step's loss from {engine}: {figures['largest_loss_difference']:.2e}")
    print(f"{'':24}{'ours':>10}{engine:>16}{'ratio':>8}")
    for name, ratio in figures["ratios"].items():
        print(f"{name:24}{figures['ours'][name]:10.1f}{figures['theirs'][name]:16.1f}{ratio:8.2f}")
    print(flush=True)


if __name__ == "__main__":
    main()
