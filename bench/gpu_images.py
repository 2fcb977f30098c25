"""The workload W7 on one GPU: LoRA of rank 16 on a transformer of FLUX.1-dev's shape, in bfloat16 with random weights:
four pictures of 512 pixels a step, and two of 1,024. Our engine against a plain loop like that of diffusers' examples.

Prints seconds a picture beside the time that the matrix products alone would take at 790 TFLOP/s. On a machine
without a GPU `images.py` compares the same at a tiny shape.
"""

import argparse
import json
import tempfile
from pathlib import Path

from images import Case, compare

FLOORS = {512: 0.056, 1024: 0.207}
"""Seconds a picture at 790 TFLOP/s: 44.6 and 163.6 TFLOP for forward and backward pass of LoRA."""


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    report = {}
    with tempfile.TemporaryDirectory() as scratch:
        for edge, batch in ((512, 4), (1024, 2)):
            case = Case("flux-dev", edge, batch, "bfloat16")
            figures = compare(case, Path(scratch), arguments.steps, arguments.rounds)
            seconds = 1 / figures["ours"]
            report[f"w7-{edge}"] = {**figures, "seconds": seconds, "floor_share": FLOORS[edge] / seconds}
            print(f"w7-{edge}: {seconds:.3f} s a picture, of the floor {FLOORS[edge] / seconds:.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
