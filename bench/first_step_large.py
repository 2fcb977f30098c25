"""From the request to the first optimizer step with a large file against a small one, on a server with warm workers.

Both files lie on the server already. Jobs take turns and are cancelled after their first step. Also: rows prepared per
second by helper processes against this process alone, and a second job on the same rows against the first.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from first_step import Server


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "tiny"
        subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_model", "text", str(model)], check=True)
        files = {count: _write(folder / f"{count}.jsonl", count) for count in (1_000, 15_000, arguments.rows)}
        figures = _first_steps(folder / "home", model, files, arguments.rows, arguments.runs)
        figures |= _preparation(model, files[15_000], arguments.runs)
    for label, value in figures.items():
        print(f"{label:28} {value:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _write(path: Path, count: int) -> Path:
    with path.open("w") as file:
        file.writelines(_row(number) for number in range(count))
    return path


def _row(number: int) -> str:
    question = {"role": "user", "content": f"Where is my parcel number {number}?" + " Please." * (number % 4)}
    answer = {"role": "assistant", "content": f"Parcel {number} is on its way to you." * (1 + number % 3)}
    return json.dumps({"messages": [question, answer]}) + "\n"


def _first_steps(home: Path, model: Path, files: dict[int, Path], large: int, runs: int) -> dict[str, float]:
    server = Server(home, model, warm=True)
    try:
        ids = {
            count: server.client.files.create(file=path.open("rb"), purpose="fine-tune").id
            for count, path in files.items()
        }
        _first_step(server, ids[1_000])  # waits for the warm parent's imports
        pairs = [(_first_step(server, ids[1_000]), _first_step(server, ids[large])) for _ in range(runs)]
        first, second = _first_step(server, ids[15_000]), _first_step(server, ids[15_000])
    finally:
        server.close()
    small_median, large_median = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "1k_rows_seconds": small_median,
        f"{large}_rows_seconds": large_median,
        "ratio": large_median / small_median,
        "15k_rows_seconds": first,
        "15k_rows_again_seconds": second,
    }


def _first_step(server: Server, file: str) -> float:
    """Seconds from the request to the first step by the worker's clock."""
    submitted = time.time()
    job = server.client.fine_tuning.jobs.create(
        model="tiny", training_file=file, hyperparameters={"n_epochs": 1, "batch_size": 8}
    )
    first = next(event["at"] for event in _events(server, job.id) if event["kind"] == "metrics")
    server.client.fine_tuning.jobs.cancel(job.id)
    while httpx2.get(f"{server.address}/tunesmith/v1/jobs/{job.id[6:]}").json()["state"] != "cancelled":
        time.sleep(0.05)
    return float(first) - submitted


def _events(server: Server, job: str) -> Iterator[dict[str, object]]:
    while True:
        yield from httpx2.get(f"{server.address}/tunesmith/v1/jobs/{job[6:]}/events").json()["data"]
        time.sleep(0.05)


def _preparation(model: Path, file: Path, runs: int) -> dict[str, float]:
    """Rows prepared per second."""
    from tunesmith.spec.reading import AS_FOUND
    from tunesmith.training.model import load_tokenizer
    from tunesmith.training.preparation import Preparation
    from tunesmith.training.row_source import RowSource
    from tunesmith.training.stop_tokens import stop_tokens
    from tunesmith.training.supervised_rows import SupervisedShape

    tokenizer = load_tokenizer(model)
    source = RowSource(file, AS_FOUND, None, "train", 1.0, None, 0)
    alone, helped = [], []
    for _ in range(runs):
        for times in (alone, helped):
            preparation = Preparation(
                tokenizer,
                SupervisedShape("sft", "assistant"),
                stops=stop_tokens(model, tokenizer),
                vocabulary=len(tokenizer),
                max_length=512,
                over_long="drop",
                poll=lambda: None,
            )
            start = time.perf_counter()
            if times is helped:
                rows = len(preparation.read(source))
            else:
                examples = list(source.rows())
                rows = sum(len(preparation.block(examples[at : at + 256]).kept) for at in range(0, len(examples), 256))
            times.append(rows / (time.perf_counter() - start))
    return {
        "prepared_rows_per_second": statistics.median(helped),
        "by_one_process": statistics.median(alone),
        "helpers_ratio": statistics.median(helped) / statistics.median(alone),
    }


if __name__ == "__main__":
    main()
