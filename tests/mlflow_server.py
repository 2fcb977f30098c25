"""A real MLflow server for tests, on a port of the loopback that stays the same when it is stopped and started.

It is installed in an environment of its own, `mlflow` within that of the tests: its requirements clash with ours.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2

from running_server import wait_for


class MlflowProcess:
    """`mlflow server` on a folder of its own; `with` starts and ends it."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "MlflowProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve what the folder holds."""
        options = {
            "--backend-store-uri": f"sqlite:///{self._folder / 'runs.db'}",
            "--artifacts-destination": str(self._folder / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        self._process = subprocess.Popen(
            [
                Path(sys.prefix) / "mlflow" / "bin" / "mlflow",
                "server",
                *(part for pair in options.items() for part in pair),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            # Its nine processes for jobs of its own, which are not asked for here.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        wait_for(self._answers)

    def stop(self) -> None:
        """End it with its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, **query: str) -> dict[str, object]:
        """What its API answers to a GET."""
        return httpx2.get(f"{self.url}/api/2.0/mlflow/{path}", params=query, timeout=30).raise_for_status().json()

    def search(self, path: str, **body: object) -> dict[str, object]:
        """What its API answers to a POST."""
        return httpx2.post(f"{self.url}/api/2.0/mlflow/{path}", json=body, timeout=30).raise_for_status().json()

    def file(self, run: dict[str, object], name: str) -> bytes:
        """A file among those of a run."""
        path = run["info"]["artifact_uri"].partition(":")[2].strip("/")
        answer = httpx2.get(f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{path}/{name}", timeout=30)
        return answer.raise_for_status().content

    def runs(self, experiment: str) -> list[dict[str, object]]:
        """The runs of an experiment."""
        id = self.ask("experiments/get-by-name", experiment_name=experiment)["experiment"]["experiment_id"]
        return self.search("runs/search", experiment_ids=[id]).get("runs", [])

    def history(self, run: dict[str, object], key: str) -> list[tuple[int, float, int]]:
        """Step, value and time in milliseconds of all points of a figure, in the order of their times."""
        told = self.ask("metrics/get-history", run_id=run["info"]["run_id"], metric_key=key).get("metrics", [])
        return [(point["step"], point["value"], point["timestamp"]) for point in told]

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", timeout=1).is_success
        except httpx2.TransportError:
            return False
