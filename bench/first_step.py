"""From the request to the first optimizer step of a tiny model: workers forked from a warm parent against cold ones.

Two servers, one with warm workers and one without, take the same job in turn. Prints medians and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import openai

ROWS = b"".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n + 1}."}]}
    ).encode()
    + b"\n"
    for n in range(16)
)


class Server:
    """A server over a home of its own."""

    def __init__(self, home: Path, model: Path, *, warm: bool) -> None:
        home.mkdir()
        (home / "tunesmith.toml").write_text(f'[model_aliases]\ntiny = "{model}"\n')
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.cli", "serve", "--home", str(home), "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TUNESMITH_WARM_WORKERS": str(warm).lower()},
        )
        assert self.process.stderr is not None
        self.address = next(
            word.rstrip(";,.") for line in self.process.stderr for word in line.split() if word.startswith("http://")
        )
        self.client = openai.OpenAI(base_url=f"{self.address}/v1", api_key="any", max_retries=0)
        self.file = self.client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id

    def seconds_to_first_step(self) -> float:
        """Submit a job, wait for its first step by the worker's own clock, and let it end."""
        submitted = time.time()
        job = self.client.fine_tuning.jobs.create(
            model="tiny", training_file=self.file, hyperparameters={"n_epochs": 1, "batch_size": 8}
        )
        while job.status not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.05)
            job = self.client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "succeeded", job.error
        events = httpx2.get(f"{self.address}/tunesmith/v1/jobs/{job.id[6:]}/events").json()["data"]
        first: float = next(event["at"] for event in events if event["kind"] == "metrics")
        return first - submitted

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny"
        subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_model", "text", str(model)], check=True)
        warm, cold = (Server(Path(folder) / str(kind), model, warm=kind) for kind in (True, False))
        try:
            warm.seconds_to_first_step()  # waits for the warm parent's imports
            pairs = [(warm.seconds_to_first_step(), cold.seconds_to_first_step()) for _ in range(arguments.runs)]
        finally:
            warm.close()
            cold.close()
    warm_median, cold_median = (statistics.median(times) for times in zip(*pairs, strict=True))
    figures = {"warm_seconds": warm_median, "cold_seconds": cold_median, "ratio": warm_median / cold_median}
    for name, value in figures.items():
        print(f"{name:14} {value:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
