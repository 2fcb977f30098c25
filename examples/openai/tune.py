"""Tune a model with the official client: upload in parts, train, watch, and fetch the newest checkpoint's adapter.

python tune.py MODEL ROWS.jsonl FOLDER
"""

import os
import sys
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("TUNESMITH_URL", "http://127.0.0.1:23478") + "/v1",
    api_key=os.environ.get("TUNESMITH_API_KEY", "any"),
)


def follow(job_id: str) -> str:
    """Print a job's events as they come; its status once it has ended."""
    shown: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
        for event in reversed(events):
            if event.id not in shown:
                shown.add(event.id)
                print(event.message, flush=True)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job.status
        time.sleep(1)


def main(model: str, rows: str, folder: str) -> None:
    """Train, and fetch the result."""
    upload = client.uploads.upload_file_chunked(
        file=Path(rows), mime_type="application/jsonl", purpose="fine-tune", part_size=1024 * 1024
    )
    assert upload.file is not None
    job = client.fine_tuning.jobs.create(
        model=model,
        training_file=upload.file.id,
        suffix="example",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8}}},
    )
    status = follow(job.id)
    if status != "succeeded":
        sys.exit(f"The job has {status}.")
    newest = next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))
    Path(folder).mkdir(parents=True, exist_ok=True)
    for file_id in (newest.model_extra or {})["result_files"]:
        name = client.files.retrieve(file_id).filename.split("/")[-1]
        client.files.content(file_id).write_to_file(Path(folder) / name)
        print(f"{folder}/{name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
