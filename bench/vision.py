"""Rows with pictures: our engine against TRL's SFTTrainer, step by step on the same rows.

A random Idefics3 of some eight million parameters, LoRA r16 on what writes. Each row shows one picture of 64 tokens and
has an answer of 5 to 120 words; we concatenate rows, TRL pads them. The engines take turns, each in a process of its
own. A speed only counts if the losses agree.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from engines.case import Case
from engines.vision_rows import write_picture_rows, write_small
from text_sft import compare

_CASE = Case(
    "pictures-fp32", "LoRA r16 on what writes, one picture a row, 8 rows a step", "pictures", 8, 1024, "float32",
    quantized=False, engines=("ours", "trl_vision"),
)  # fmt: skip
_WORDS = (5, 120)


def main() -> None:
    """Run both engines in turn, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = write_small(Path(scratch) / "model")
        rows = write_picture_rows(Path(scratch) / "rows.jsonl", _CASE.batch * arguments.steps, 256, _WORDS)
        pythons = dict.fromkeys(_CASE.engines, sys.executable)
        report = compare(_CASE, model, rows, arguments.steps, arguments.rounds, pythons)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if not all(peer["losses_agree"] for peer in report.values()):
        sys.exit("The losses differ, so the speeds do not count.")


if __name__ == "__main__":
    main()
