"""From a spec to the local paths that a worker reads."""

from pathlib import Path

from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.spec.errors import AdapterError, ModelNotFoundError
from tunesmith.spec.job import DataSource, Inputs, JobSpec
from tunesmith.storage import Storage


class InputResolver:
    """Finds what a spec names."""

    def __init__(self, bases: BaseModels, produced: ProducedModels, storage: Storage) -> None:
        self._bases = bases
        self._produced = produced
        self._storage = storage

    def resolve(self, spec: JobSpec) -> Inputs:
        """Local paths for a spec.

        Raises:
            ModelNotFoundError: the base model or the adapter to start from is not there.
            ModelLoadError: the base model cannot be loaded safely.
            AdapterError: the start is an adapter and the job tunes all weights.
        """
        model, adapter = self._model(spec)
        validation = spec.data.validation
        return Inputs(
            model=model,
            train=self._content(spec.data.train),
            validation=self._content(validation) if validation else None,
            adapter=adapter,
        )

    def _model(self, spec: JobSpec) -> tuple[Path, Path | None]:
        """The folder of the weights below, and that of the adapter to continue from."""
        if spec.init_from is not None:
            start = self._produced.find(spec.init_from.model)
            if start is None:
                raise ModelNotFoundError(
                    f"No model that a job here produced is called {spec.init_from.model!r}.", param="init_from"
                )
            return self._bases.find(spec.model.base), Path(start.path)
        produced = self._produced.find(spec.model.base)
        if produced is None:
            return self._bases.find(spec.model.base), None
        if produced.kind == "full":
            return Path(produced.path), None
        if spec.adapter is None:
            raise AdapterError(
                f"{produced.id!r} is an adapter, and this job tunes all weights.",
                param="model.base",
                hint="Ask for LoRA, or name the base model.",
            )
        return self._bases.find(produced.base), Path(produced.path)

    def _content(self, source: DataSource) -> Path:
        return self._storage.path(source.sha256)
