"""The server stays light: it imports nothing of the training side."""

import subprocess
import sys

import psutil


def test_the_server_imports_no_training_library():
    heavy = ("torch", "transformers", "peft", "numpy", "pandas", "datasets")
    code = (
        "import sys; import tunesmith.server.serve, tunesmith.cli; from tunesmith.plugins import load_plugins;"
        "[load_plugins(f'tunesmith.{kind}') for kind in ('dialects', 'runners', 'methods', 'integrations')];"
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_serving_process_stays_below_150_megabytes(server):
    for _ in range(50):
        assert server.http.get("/v1/fine_tuning/jobs").status_code == 200
    assert psutil.Process(server.process.pid).memory_info().rss < 150e6
