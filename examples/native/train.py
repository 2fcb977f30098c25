"""Train on a file, follow the job live, and fetch the result. Needs nothing but Python.

python train.py MODEL ROWS.jsonl RESULT.zip
"""

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

API = os.environ.get("TUNESMITH_URL", "http://127.0.0.1:23478") + "/tunesmith/v1"
HEADERS = {"Authorization": f"Bearer {os.environ.get('TUNESMITH_API_KEY', 'any')}"}


def call(path: str, body: bytes | None = None, content_type: str = "application/json") -> Any:
    """The open answer to a request."""
    return urllib.request.urlopen(
        urllib.request.Request(API + path, data=body, headers={**HEADERS, "Content-Type": content_type})
    )


def upload(path: str) -> str:
    """Send a file and give its id."""
    content = Path(path).read_bytes()
    boundary = "-" * 20 + os.urandom(16).hex()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return str(json.load(call("/files", body, f"multipart/form-data; boundary={boundary}"))["id"])


def follow(job: str) -> Iterator[tuple[str, Any]]:
    """Kinds and contents of a job's events as they happen. The last one is `end`."""
    kind = ""
    for line in call(f"/jobs/{job}/events/stream"):
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def main(model: str, rows: str, result: str) -> None:
    """Train."""
    spec = {
        "model": {"base": model},
        "data": {"train": {"file": upload(rows)}},
        "adapter": {"rank": 8, "alpha": 16},
        "optimization": {"epochs": 2, "learning_rate": 1e-4},
    }
    job = json.load(call("/jobs", json.dumps({"spec": spec, "name": "example"}).encode()))["id"]
    state = ""
    for kind, data in follow(job):
        if kind == "end":
            state = data["state"]
        else:
            print(data["message"], flush=True)
    if state != "succeeded":
        sys.exit(f"The job has {state}.")
    with call(f"/jobs/{job}/archive") as answer, Path(result).open("wb") as file:
        shutil.copyfileobj(answer, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
