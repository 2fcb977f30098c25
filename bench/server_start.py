"""How long a server takes to its first answer, against importing its three largest libraries; and its memory.

Both are timed in turn, several times, on a home that exists already and on a new one. Prints medians and their ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import psutil

IMPORTS = [sys.executable, "-c", "import fastapi, sqlalchemy, uvicorn"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    imports, starts, first_starts, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        _start(home)
        for run in range(arguments.runs):
            imports.append(_seconds_of_imports())
            seconds, resident = _start(home)
            starts.append(seconds)
            memory.append(resident)
            first_starts.append(_start(Path(folder) / f"new-{run}")[0])
    figures = {
        "imports_seconds": statistics.median(imports),
        "ready_seconds": statistics.median(starts),
        "ready_on_new_home_seconds": statistics.median(first_starts),
        "ratio": statistics.median(starts) / statistics.median(imports),
        "ratio_on_new_home": statistics.median(first_starts) / statistics.median(imports),
        "memory_megabytes": max(memory) / 1e6,
    }
    for name, value in figures.items():
        print(f"{name:28} {value:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _seconds_of_imports() -> float:
    began = time.perf_counter()
    subprocess.run(IMPORTS, check=True)
    return time.perf_counter() - began


def _start(home: Path) -> tuple[float, int]:
    """Seconds from the start of the process to the first answer, and resident bytes a moment later."""
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "tunesmith.cli", "serve", "--home", str(home), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={"TUNESMITH_WARM_WORKERS": "false"},
    )
    try:
        assert server.stderr is not None
        address = next(word for line in server.stderr for word in line.split() if word.startswith("http://"))
        address = address.rstrip(";,.")
        assert httpx2.get(f"{address}/healthz").status_code == 200
        seconds = time.perf_counter() - began
        for _ in range(20):
            httpx2.get(f"{address}/v1/fine_tuning/jobs")
        return seconds, psutil.Process(server.pid).memory_info().rss
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
