"""Models: the base models that this server may use, and those that its jobs produced."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import Connection

from tunesmith.spec.errors import ConflictError, ModelLoadError, ModelNotFoundError
from tunesmith.spec.job import Frozen, ModelSpec
from tunesmith.store import exports, jobs, models
from tunesmith.store.database import Database
from tunesmith.store.models import ProducedModel

_PIPELINE = "model_index.json"
"""What a folder in diffusers' layout has in place of a config.json; its parts are folders below it."""

_INDICES = tuple(f"{depth}/{name}" for depth in ("*", "*/*") for name in ("config.json", _PIPELINE))
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SHOWN = 5


class BaseModel(Frozen):
    """A folder that a job can start from."""

    name: str
    path: Path


class BaseModels:
    """Finds base models by name: first the aliases, then folders below the model roots. Never a free path."""

    def __init__(self, aliases: Mapping[str, Path], roots: tuple[Path, ...]) -> None:
        self._aliases = aliases
        self._roots = roots

    def listed(self) -> list[BaseModel]:
        """All base models, aliases first."""
        found = {name: BaseModel(name=name, path=path) for name, path in sorted(self._aliases.items())}
        for root in self._roots:
            for path in sorted({index.parent for pattern in _INDICES for index in root.glob(pattern)}):
                if not (path.parent / _PIPELINE).is_file():  # else it is a part of a model
                    name = path.relative_to(root).as_posix()
                    found.setdefault(name, BaseModel(name=name, path=path))
        return list(found.values())

    def has(self, name: str) -> bool:
        """Whether a name stands for a folder of this server."""
        return self._locate(name) is not None

    def find(self, name: str) -> Path:
        """The folder of a base model.

        Raises:
            ModelNotFoundError: nothing answers to the name.
            ModelLoadError: the folder cannot be loaded safely.
        """
        path = self._locate(name)
        if path is None:
            aliases = ", ".join(repr(alias) for alias in sorted(self._aliases)) or "none"
            raise ModelNotFoundError(
                f"No model is called {name!r}: it is no alias (aliases: {aliases}), no folder below the server's model "
                "roots and no model that a job here produced.",
                param="model.base",
                hint="Add it to [model_aliases] in tunesmith.toml, or set TUNESMITH_MODEL_ROOTS.",
            )
        check_loadable(name, path)
        return path

    def _locate(self, name: str) -> Path | None:
        return self._aliases.get(name) or self._below_a_root(name)

    def _below_a_root(self, name: str) -> Path | None:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith(("/", "~")) or ".." in parts or "\\" in name or "\0" in name:
            return None
        for root in self._roots:
            path = root.joinpath(*parts)
            # A link that leads out of the root is followed only if the operator's alias says so.
            if path.is_dir() and path.resolve().is_relative_to(root.resolve()):
                return path
        return None


class ProducedModels:
    """The door to models that an organisation's jobs produced."""

    def __init__(self, database: Database, org: str) -> None:
        self._database = database
        self._org = org

    def listed(self) -> list[ProducedModel]:
        """All produced models, newest first."""
        with self._database.read() as connection:
            return models.newest_first(connection, self._org)

    def find(self, id: str) -> ProducedModel | None:
        """A produced model by its id."""
        with self._database.read() as connection:
            return models.get(connection, self._org, id)

    def version(self, name: str, version: int | None) -> ProducedModel | None:
        """A version of a user's own name, or its newest."""
        with self._database.read() as connection:
            return models.by_name(connection, self._org, name, version)

    def delete(self, id: str) -> None:
        """Delete a produced model with its weights and its exports.

        Raises:
            ModelNotFoundError: no such model.
            ConflictError: adapters rest on it, or jobs that have not ended use it.
        """
        with self._database.write() as connection:
            model = models.get(connection, self._org, id)
            if model is None:
                raise ModelNotFoundError(f"No model that a job here produced is called {id!r}.", param="model")
            _refuse_while_needed(connection, model)
            models.mark_deleted(connection, id, time.time())
            exports.mark_deleted_of_model(connection, id, time.time())
        shutil.rmtree(model.path, ignore_errors=True)


def _refuse_while_needed(connection: Connection, model: ProducedModel) -> None:
    adapters = models.resting_on(connection, model.org, model.id)
    if adapters:
        shown = ", ".join(repr(each) for each in adapters[:_SHOWN])
        more = f" and {len(adapters) - _SHOWN} more" if len(adapters) > _SHOWN else ""
        raise ConflictError(
            f"{model.id!r} cannot be deleted: these adapters rest on it: {shown}{more}.",
            param="model",
            hint="Delete them first.",
        )
    users = jobs.using_model(connection, model.org, model.id)
    if users:
        raise ConflictError(
            f"{model.id!r} cannot be deleted while jobs that have not ended use it (now {len(users)}).",
            param="model",
            hint="Wait for their end, or cancel them.",
        )


def weights_below(model: ModelSpec, named: ProducedModel | None) -> ModelSpec:
    """The whole weights that a job's model stands for, given the produced model of that name, if there is one: those
    that a produced adapter rests on, or else what the name says."""
    if named is None:
        return model
    base, revision = (named.id, None) if named.kind == "full" else (named.base, named.base_revision)
    return model.model_copy(update={"base": base, "source": "hub" if revision else "any", "revision": revision})


def check_loadable(name: str, path: Path) -> None:
    """Refuse what no worker could load from safetensors and JSON alone.

    Raises:
        ModelLoadError: there is no configuration, or there are no safetensors.
    """
    if (path / _PIPELINE).is_file():
        _check_pipeline(name, path)
        return
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ModelLoadError(f"Model {name!r} has no readable config.json: {why}.", param="model.base") from error
    if not isinstance(config, dict) or not config.get("model_type"):
        raise ModelLoadError(f"Model {name!r} has a config.json without 'model_type'.", param="model.base")
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise ModelLoadError(
            f"Model {name!r} has its weights only as pickle ({', '.join(pickles[:3])}), which can run code.",
            param="model.base",
            hint="Convert them to safetensors.",
        )
    raise ModelLoadError(f"Model {name!r} has no *.safetensors file.", param="model.base")


def pipeline_class(path: Path) -> str | None:
    """What a folder in diffusers' layout calls itself; none for any other folder.

    Raises:
        ModelLoadError: its list of parts cannot be read.
    """
    index = _pipeline(path.name, path) if (path / _PIPELINE).is_file() else None
    return index["_class_name"] if index is not None else None


def _check_pipeline(name: str, path: Path) -> None:
    """Whether each part of a model in diffusers' layout that has weights has them in safetensors. Which parts there
    must be, the method knows that trains them."""
    index = _pipeline(name, path)
    for part in sorted(part for part in index if "/" not in part and (path / part).is_dir()):
        pickles = sorted(file.name for pattern in _PICKLES for file in (path / part).glob(pattern))
        if pickles and not any((path / part).glob("*.safetensors")):
            raise ModelLoadError(
                f"Model {name!r} has the weights of its {part} only as pickle ({pickles[0]}), which can run code.",
                param="model.base",
                hint="Convert them to safetensors.",
            )


def _pipeline(name: str, path: Path) -> dict[str, Any]:
    """The list of parts of a model in diffusers' layout."""
    try:
        index = json.loads((path / _PIPELINE).read_bytes())
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"Model {name!r} has no readable {_PIPELINE}: {error}.", param="model.base") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise ModelLoadError(f"Model {name!r} has a {_PIPELINE} without '_class_name'.", param="model.base")
    return index
