"""How many short rows of JSON Lines are validated per second, against decoding the same lines with `json.loads`.

Both take turns, several times, on one core, in seconds of processor time. Prints medians and their ratio.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tunesmith.data.validate import inspect


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(_row(number) for number in range(arguments.rows)))
        floor, validation = [], []
        for _ in range(arguments.runs):
            floor.append(_seconds(_decode, path))
            validation.append(_seconds(_validate, path))
        size = path.stat().st_size / arguments.rows
    figures = {
        "row_bytes": size,
        "json_loads_rows_per_second": arguments.rows / statistics.median(floor),
        "validated_rows_per_second": arguments.rows / statistics.median(validation),
        "ratio": statistics.median(floor) / statistics.median(validation),
    }
    for name, value in figures.items():
        print(f"{name:28} {value:12.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _row(number: int) -> str:
    question = {"role": "user", "content": f"Where is my parcel number {number}?"}
    answer = {"role": "assistant", "content": "It is on its way to you now."}
    return json.dumps({"messages": [question, answer]}) + "\n"


def _decode(path: Path) -> None:
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


def _validate(path: Path) -> None:
    assert inspect(path).problem_count == 0


def _seconds(work: Callable[[Path], None], path: Path) -> float:
    began = time.process_time()
    work(path)
    return time.process_time() - began


if __name__ == "__main__":
    main()
