"""From a produced model and a wish to the orders of an export's worker."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.outcome import step_of_weights
from tunesmith.jobs.service import run_directory
from tunesmith.spec.errors import DiskFullError, InvalidRequestError, ModelNotFoundError, UnsupportedError
from tunesmith.spec.export import ExportOptions, ExportSpec, Finish, Format, Number, Origin, Quantization, RowsToAsk
from tunesmith.spec.gguf import require_convertible
from tunesmith.spec.receipt import Receipt
from tunesmith.storage import Storage
from tunesmith.store import events, jobs, models
from tunesmith.store.database import Database
from tunesmith.store.exports import Export
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel

# Bits of a weight, for the room that a file will take.
_BITS = {
    "float32": 32, "f32": 32, "float16": 16, "f16": 16, "bfloat16": 16, "bf16": 16,
    "q8_0": 9, "q5_1": 6, "q5_0": 6, "q4_1": 5, "q4_0": 5,
}  # fmt: skip

_SHORTENED = "…"


class ExportOrders:
    """Fills in what a request leaves open, and finds everything that a worker needs."""

    def __init__(self, database: Database, resolver: InputResolver, storage: Storage, runs: Path, folder: Path) -> None:
        self._database = database
        self._resolver = resolver
        self._storage = storage
        self._runs = runs
        self._folder = folder

    def options(
        self, model: ProducedModel, format: Format, dtype: Number | None, quantization: Quantization | None
    ) -> ExportOptions:
        """What is to be made, with every value.

        Raises:
            InvalidRequestError: the number format does not belong to the format.
            UnsupportedError: the format cannot hold such a model.
            ModelNotFoundError: the base below the model is gone.
            DiskFullError: the volume has no room for it.
        """
        with self._database.read() as connection:
            job = jobs.get(connection, model.job_id) if model.job_id else None
        if job is not None and job.spec.model.modality == "image":
            raise UnsupportedError(
                "Exports are made of language models; this one draws pictures.",
                param="format",
                hint="Its own files are what diffusers reads.",
            )
        base, adapter = self._resolver.weights(model)
        if format == "merged":
            if quantization is not None:
                raise InvalidRequestError(
                    "quantization belongs to the format 'gguf'.", param="quantization", hint="Leave it out."
                )
            options = ExportOptions(format=format, dtype=dtype or _trained_dtype(job, base), quantization=None)
        else:
            if dtype is not None:
                raise InvalidRequestError(
                    "dtype belongs to the format 'merged'.", param="dtype", hint="Use quantization instead."
                )
            if job is not None and job.spec.model.task != "causal_lm":
                raise UnsupportedError(
                    "A GGUF file holds a model that writes, and this one scores texts.", param="format"
                )
            if job is not None and job.spec.model.modality != "text":
                raise UnsupportedError(
                    "A GGUF file holds a model of text, and this one reads pictures too.",
                    param="format",
                    hint="Use the format 'merged', or the result as it is: both load in plain transformers.",
                )
            require_convertible(base, adapter or base)
            options = ExportOptions(format=format, dtype=None, quantization=quantization or "f16")
        self._require_room(base, options)
        return options

    def write(self, export: Export) -> ExportSpec:
        """The orders.

        Raises:
            ModelNotFoundError: the model or its base is gone.
        """
        with self._database.read() as connection:
            model = models.get(connection, export.org, export.model_id)
            if model is None:
                raise ModelNotFoundError(f"The model {export.model_id!r} was deleted.")
            job = jobs.get(connection, model.job_id) if model.job_id else None
            origin = Origin(job_id=job.id, spec=job.spec, finish=self._finish(connection, job)) if job else None
        base, adapter = self._resolver.weights(model)
        return ExportSpec(
            model=model.id,
            base_name=model.base,
            base_revision=model.base_revision,
            base=base,
            adapter=adapter,
            options=export.options,
            trained_dtype=_trained_dtype(job, base),
            origin=origin,
            held_out=self._held_out(job) if job else None,
            texts=self._texts(job) if job else (),
        )

    def _finish(self, connection: Connection, job: Job) -> Finish:
        """Figures of the step that the weights are of."""
        step = step_of_weights(connection, job)
        step = job.step if step is None else step

        def newest(kind: str) -> float | None:
            limit = 1 if step == job.step else None
            found = events.of_job(connection, job.id, kinds=(kind,), newest_first=True, limit=limit)
            return next((float(each.data["loss"]) for each in found if each.data["step"] <= step), None)

        return Finish(steps=step, train_loss=newest("metrics"), validation_loss=newest("evaluated"))

    def _held_out(self, job: Job) -> RowsToAsk | None:
        """Rows that the training did not see, if they are still here."""
        data, seed = job.spec.data, job.spec.optimization.seed
        source, split = (data.validation, None) if data.validation else (data.train, data.split)
        if source.sha256 is None or (data.validation is None and split is None):
            return None
        path = self._storage.path(source.sha256)
        return RowsToAsk(path=path, reading=data.reading, split=split, seed=seed) if path.is_file() else None

    def _texts(self, job: Job) -> tuple[str, ...]:
        """Prompts of the rows that the receipt shows, without those that it shortens."""
        receipts = (run_directory(self._runs, job.id, number).read_receipt() for number in range(job.attempts, 0, -1))
        receipt = next((each for each in receipts if each is not None), None)
        return tuple(_prompts(receipt)) if receipt else ()

    def _require_room(self, base: Path, options: ExportOptions) -> None:
        weights = sum(file.stat().st_size for file in base.glob("*.safetensors")) // _stored_bytes(base)
        needed = weights * _BITS[options.numbers] // 8
        self._folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise DiskFullError(
                f"The export takes about {needed:,} bytes, and {free:,} are free.",
                hint="Delete exports or models, or choose a number format with fewer bits.",
            )


def _prompts(receipt: Receipt) -> list[str]:
    found = []
    for row in receipt.samples:
        text = ""
        for piece in row.pieces:
            if piece.trained:
                break
            text += piece.text
        if text and _SHORTENED not in text:
            found.append(text)
    return found


def _trained_dtype(job: Job | None, base: Path) -> Literal["bfloat16", "float32"]:
    if job is not None:
        return job.spec.model.dtype
    return "bfloat16" if _stored_dtype(base) == "bfloat16" else "float32"


def _stored_bytes(base: Path) -> int:
    """Bytes of a stored weight."""
    return 2 if _stored_dtype(base) in ("bfloat16", "float16") else 4


def _stored_dtype(base: Path) -> str | None:
    config: dict[str, Any] = json.loads((base / "config.json").read_bytes())
    return config.get("dtype") or config.get("torch_dtype")
