"""What a succeeded job leaves for its user: a model under a name, and a table of its metrics."""

import csv
import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.assets.custom_models import base_in
from tunesmith.assets.files import add_model_files, add_results
from tunesmith.assets.models import weights_below
from tunesmith.storage import Storage
from tunesmith.store import events, files, jobs, models
from tunesmith.store.jobs import Job

# The columns of OpenAI's result file.
_COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


class Publisher:
    """Turns an attempt's artifact into a produced model."""

    def __init__(self, storage: Storage, use: ContentUse, models_folder: Path) -> None:
        self._storage = storage
        self._use = use
        self._models = models_folder

    def move_artifact(self, job: Job, artifact: Path) -> Path:
        """Move the artifact to where it stays. Safe to repeat after a crash."""
        final = self._models / job.id
        if artifact.is_dir():
            shutil.rmtree(final, ignore_errors=True)
            artifact.rename(final)
        return final

    def offer(self, connection: Connection, checkpoint: Path, *, org: str, step: int, at: float) -> list[str]:
        """Make a checkpoint's files downloadable. Returns their ids."""
        return add_model_files(connection, self._storage, checkpoint, org=org, under=f"step-{step}", at=at)

    def withdraw(self, connection: Connection, file_ids: Iterable[str], *, at: float) -> None:
        """Take a removed checkpoint's files back."""
        for file_id in file_ids:
            file = files.get(connection, file_id)
            if file is not None:
                files.mark_deleted(connection, file_id, at)
                self._use.release(connection, file.sha256)

    def publish(self, connection: Connection, job: Job, path: Path, *, at: float) -> None:
        """Record the model and the metrics table, inside the transaction that ends the job."""
        base, revision = base_below(connection, job)
        model_id = model_name(job)
        models.add(
            connection,
            id=model_id,
            org=job.org,
            job_id=job.id,
            base=base,
            base_revision=revision,
            kind="adapter" if job.spec.adapter else "full",
            path=str(path),
            name=job.submission.name,
            created_at=at,
        )
        results = add_results(connection, self._storage, metrics_table(connection, job.id), org=job.org, at=at)
        jobs.change(connection, job.id, model_id=model_id, result_file_id=results)
        events.add(
            connection, job.id, at=at, kind="state", message=f"New fine-tuned model created: {model_id}",
            data={"model": model_id},
        )  # fmt: skip


def model_name(job: Job) -> str:
    """OpenAI's form of a produced model's name: `ft:BASE:ORGANISATION:SUFFIX:ID`, also on top of a model that was
    produced or brought in. It follows from the job alone, so it is known before the job's end and stays the same."""
    base = base_in(job.spec.model.base)
    if base.startswith("ft:"):
        base = base.removeprefix("ft:").rsplit(":", 3)[0]
    plain = re.sub(r"[^a-z0-9-]+", "-", (job.submission.suffix or "").lower()).strip("-")
    return f"ft:{base}:{job.org}:{plain}:{job.id[:8]}"


def base_below(connection: Connection, job: Job) -> tuple[str, str | None]:
    """Name and, from the hub, commit of the weights below: those that the adapter was trained over, whatever an adapter
    that it continues rested on; of whole weights, the base of the produced ones that they began with."""
    model, start = job.spec.model, job.spec.init_from
    if job.spec.adapter is not None:
        model = weights_below(model, models.get(connection, job.org, model.base))
        return model.base, model.revision
    began_with = models.get(connection, job.org, start.id if start and start.kind == "model" else model.base)
    return (began_with.base, began_with.base_revision) if began_with else (model.base, model.revision)


def metrics_table(connection: Connection, job_id: str) -> bytes:
    """One CSV line a step. Of steps that were run again after a crash, the last run counts."""
    rows: dict[int, dict[str, float]] = {}
    for event in events.of_job(connection, job_id):
        if event.kind == "metrics":
            row = rows.setdefault(event.data["step"], {"step": event.data["step"]})
            row |= {"train_loss": event.data["loss"], "train_accuracy": event.data["token_accuracy"]}
        elif event.kind == "evaluated":
            row = rows.setdefault(event.data["step"], {"step": event.data["step"]})
            row |= {"valid_loss": event.data["loss"], "valid_mean_token_accuracy": event.data["token_accuracy"]}
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    return text.getvalue().encode()
