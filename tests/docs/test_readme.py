"""The README's example, run as it stands there but for the address."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rows import chat_rows
from running_server import RunningServer

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_the_example_trains_a_model_with_the_official_client(home, tmp_path):
    [program] = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "train.jsonl").write_bytes(chat_rows(16))
    server = RunningServer(home)
    try:
        program = program.replace("http://127.0.0.1:23478", server.url)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("succeeded ft:smollm2-135m-instruct:local::")
    assert lines[1] == "The job has successfully completed"
