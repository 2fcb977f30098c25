"""The workload W6 on one GPU: a vision-language model, our engine against TRL's SFTTrainer.

| | model | rows |
| --- | --- | --- |
| W6 | shape of Qwen2.5-VL 3B, bfloat16, LoRA r16 on language | eight a step: a picture of 1,024 tokens, 200 of text |

Weights and pictures are random, and both engines read the same files. They take turns, each in a process of its own. On
a machine without a GPU the workload `tiny` shows that the script works.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.case import Case
from engines.vision_rows import write_picture_rows, write_qwen
from text_sft import compare


@dataclass(frozen=True)
class Workload:
    """One comparison."""

    shape: str
    case: Case
    edge: int
    """Of a picture, in pixels: 28 x 28 become one token."""

    words: tuple[int, int]


def _case(name: str, batch: int, dtype: Any) -> Case:
    return Case(name, name, "pictures", batch, 4096, dtype, quantized=False, engines=("ours", "trl_vision"))


WORKLOADS = {
    "w6": Workload("qwen2.5-vl-3b", _case("w6", 8, "bfloat16"), 896, (20, 120)),
    "tiny": Workload("tiny", _case("tiny", 4, "float32"), 112, (5, 60)),
}


def main() -> None:
    """Run the workloads, compare, print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=["w6"], choices=WORKLOADS)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.workloads:
            load, folder = WORKLOADS[name], Path(scratch) / name
            model = write_qwen(folder / "model", load.shape, getattr(torch, load.case.dtype))
            rows = write_picture_rows(folder / "rows.jsonl", load.case.batch * arguments.steps, load.edge, load.words)
            pythons = dict.fromkeys(load.case.engines, sys.executable)
            report[name] = compare(load.case, model, rows, arguments.steps, arguments.rounds, pythons)
            if arguments.json:
                arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if not all(peer["losses_agree"] for peers in report.values() for peer in peers.values()):
        sys.exit("The losses differ, so the speeds do not count.")


if __name__ == "__main__":
    main()
