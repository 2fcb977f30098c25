"""From a spec to the local paths that a worker reads."""

from pathlib import Path

from sqlalchemy import Connection

from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.models import BaseModels, check_loadable, pipeline_class, weights_below
from tunesmith.assets.row_cache import RowCache
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import (
    AdapterError,
    CheckpointNotFoundError,
    ModelNotFoundError,
    UnavailableError,
    UnsupportedError,
)
from tunesmith.spec.image_training import PIPELINES
from tunesmith.spec.job import DataSource, Inputs, JobSpec, ModelSpec, StartSpec
from tunesmith.storage import Storage
from tunesmith.store import checkpoints, jobs, models
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel


class InputResolver:
    """Finds what a spec names. Everything remote was fetched before."""

    def __init__(
        self,
        database: Database,
        bases: BaseModels,
        hub: HubModels,
        storage: Storage,
        rows: RowCache,
        encoded: EncodedCache,
    ) -> None:
        self._database = database
        self._bases = bases
        self._hub = hub
        self._storage = storage
        self._rows = rows
        self._encoded = encoded

    def resolve(self, org: str, spec: JobSpec) -> Inputs:
        """Local paths for an organisation's spec.

        Raises:
            ModelNotFoundError: the base model or the weights to start from are not there.
            ModelLoadError: the base model cannot be loaded safely.
            AdapterError: the start is an adapter and the job tunes all weights.
            UnsupportedError: the weights draw pictures and the job trains a model of text, or the other way round.
        """
        model, adapter = self._model(org, spec)
        validation = spec.data.validation
        return Inputs(
            model=model,
            train=self._content(spec.data.train),
            validation=self._content(validation) if validation else None,
            adapter=adapter,
            rows=self._rows.folder(org),
            cache=self._encoded.folder(org),
            pictures=self._pictures(spec.data.train),
            validation_pictures=self._pictures(validation) if validation else None,
        )

    def require_model(self, org: str, spec: JobSpec) -> None:
        """See that the weights to begin with are here, and such as the job can train.

        Raises:
            TunesmithError: as `resolve`.
        """
        self._model(org, spec)

    def weights(self, model: ProducedModel) -> tuple[Path, Path | None]:
        """The folder of the whole weights below a produced model, or of its own, and that of its adapter.

        Raises:
            ModelNotFoundError: the base is gone.
            ModelLoadError: the base cannot be loaded safely.
        """
        if model.kind == "full":
            return Path(model.path), None
        below = weights_below(ModelSpec(base=model.id, dtype="float32"), model)
        return self._base(model.org, below), Path(model.path)

    def _model(self, org: str, spec: JobSpec) -> tuple[Path, Path | None]:
        """The folder of the weights below, and that of the adapter to continue from."""
        with self._database.read() as connection:
            produced = models.get(connection, org, spec.model.base)
            if produced is not None:
                _refuse_produced(connection, spec, produced, "model.base")
        below = weights_below(spec.model, produced)
        if spec.init_from is not None:
            start = self._start(org, spec.init_from)
            if not (start / "adapter_config.json").is_file():
                check_loadable(spec.init_from.id, start)
                _refuse_whole_start_for_adapter(spec)
                return start, None
            _refuse_adapter_for_full_tuning(spec, spec.init_from.id, "init_from")
            _refuse_second_adapter(spec.init_from.id, produced)
            return self._base(org, below), start
        if produced is None or produced.kind == "full":
            base = self._base(org, below)
            _refuse_other_kind(spec, base)
            return base, None
        _refuse_adapter_for_full_tuning(spec, produced.id, "model.base")
        return self._base(org, below), Path(produced.path)

    def _start(self, org: str, start: StartSpec) -> Path:
        if start.kind == "hub":
            path = self._hub.find(start.id, start.revision)
            if path is None:
                raise UnavailableError(f"{start.id!r} is no longer in this server's cache.", param="init_from")
            return path
        with self._database.read() as connection:
            if start.kind == "checkpoint":
                checkpoint = checkpoints.get(connection, start.id)
                job = jobs.get(connection, checkpoint.job_id) if checkpoint else None
                if checkpoint is None or job is None or job.org != org:
                    raise CheckpointNotFoundError(f"No job here has the checkpoint {start.id!r}.", param="init_from")
                _refuse_drawing(start.id, job, "init_from")
                return Path(checkpoint.path)
            produced = models.get(connection, org, start.id)
            if produced is None:
                raise ModelNotFoundError(
                    f"No model that a job here produced is called {start.id!r}.", param="init_from"
                )
            _refuse_drawing(start.id, _maker(connection, produced), "init_from")
        return Path(produced.path)

    def _base(self, org: str, model: ModelSpec) -> Path:
        """The folder of a model with all its weights."""
        with self._database.read() as connection:
            produced = models.get(connection, org, model.base)
        if produced is not None:
            return Path(produced.path)
        if model.source == "local" or (model.source == "any" and self._bases.has(model.base)):
            return self._bases.find(model.base)
        path = self._hub.find(model.base, model.revision)
        if path is None:
            return self._bases.find(model.base)  # says what it looked for, and where
        check_loadable(model.base, path)
        return path

    def _pictures(self, source: DataSource) -> Path | None:
        return self._storage.path(source.pictures) if source.pictures is not None else None

    def _content(self, source: DataSource) -> Path:
        if source.sha256 is None:
            raise UnavailableError(f"{source.id!r} has not been fetched yet.", param="data.train")
        return self._storage.path(source.sha256)


def _refuse_produced(connection: Connection, spec: JobSpec, produced: ProducedModel, param: str) -> None:
    if spec.model.modality == "image":
        raise UnsupportedError(
            f"{produced.id!r} was produced here, and image training begins with a whole base model.",
            param=param,
            hint=f"Name its base, {produced.base!r}.",
        )
    _refuse_drawing(produced.id, _maker(connection, produced), param)


def _maker(connection: Connection, produced: ProducedModel) -> Job | None:
    """The job that made a model; none for one that was brought in."""
    return jobs.get(connection, produced.job_id) if produced.job_id else None


def _refuse_drawing(name: str, maker: Job | None, param: str) -> None:
    if maker is not None and maker.spec.model.modality == "image":
        raise UnsupportedError(f"{name!r} draws pictures, and this job trains a model of text.", param=param)


def _refuse_other_kind(spec: JobSpec, folder: Path) -> None:
    """Hold what a folder is against what the job trains: each of them is loaded in a way of its own."""
    pipeline, draws = pipeline_class(folder), spec.model.modality == "image"
    known = ", ".join(f"{name} ({kind})" for kind, name in PIPELINES.items())
    if draws and pipeline not in PIPELINES:
        what = "has no model_index.json" if pipeline is None else f"is of the class {pipeline!r}"
        raise UnsupportedError(
            f"The base model {spec.model.base!r} {what}; image training is of: {known}.",
            param="model.base",
            hint="Name a model of one of these families, in diffusers' layout.",
        )
    if not draws and pipeline is not None:
        raise UnsupportedError(
            f"The base model {spec.model.base!r} draws pictures ({pipeline}), and this job trains a model of text.",
            param="model.base",
            hint="Name a language model, or train with the modality 'image' and the method 'text_to_image'.",
        )


def _refuse_whole_start_for_adapter(spec: JobSpec) -> None:
    """An adapter is published on top of what the job calls its model, which these weights replace."""
    if spec.adapter is not None and spec.init_from is not None:
        raise AdapterError(
            f"{spec.init_from.id!r} is a whole model, and this job trains an adapter.",
            param="init_from",
            hint="Name a whole model as the model to train (`model.base`), or tune all weights.",
        )


def _refuse_adapter_for_full_tuning(spec: JobSpec, name: str, param: str) -> None:
    if spec.adapter is None:
        raise AdapterError(
            f"{name!r} is an adapter, and this job tunes all weights.",
            param=param,
            hint="Ask for LoRA, or name the base model.",
        )


def _refuse_second_adapter(start: str, produced: ProducedModel | None) -> None:
    if produced is not None and produced.kind == "adapter":
        raise AdapterError(
            f"{start!r} and {produced.id!r} are both adapters, and a job continues from one.",
            param="init_from",
            hint=f"Name {produced.base!r}, on which {produced.id!r} rests, as the model, or leave `init_from` out.",
        )
