"""Prepared rows on disk: what one training prepared, the next finds.

Below the folder that a worker is given: `<SHA-256 of the file>/<key>/`. The key covers all that rows
depend on: which of them, the model's tokenizer and template, the method, the length limit, and this code.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import tunesmith.data
import tunesmith.training
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.fingerprint import digest_of, tokenizer_digest
from tunesmith.training.preparation import Preparation
from tunesmith.training.row_block import RowBlock
from tunesmith.training.row_source import RowSource
from tunesmith.training.shapes import R


@dataclass(frozen=True)
class KeptRows:
    """A folder for the rows of one part of one file, prepared in one way."""

    folder: Path

    def load(self) -> RowBlock | None:
        """All rows, if they are there and as they were written."""
        arrays = read_arrays(self.folder / "rows.safetensors")
        return None if arrays is None else RowBlock(**arrays)

    def store(self, block: RowBlock) -> None:
        """Keep all rows.

        Raises:
            OSError: they cannot be written.
        """
        write_arrays(self.folder / "rows.safetensors", vars(block))


def kept_rows(attempt: AttemptSpec, source: RowSource, preparation: Preparation[R]) -> KeptRows | None:
    """Where the prepared rows of a source are kept; none if nothing is to be kept."""
    data = attempt.spec.data
    content = data.validation if source.path == attempt.inputs.validation else data.train
    if attempt.inputs.rows is None or content is None or content.sha256 is None:
        return None
    is_drawn = source.share != 1 or (source.split is not None and source.split.by == "random")
    dependence = {
        "reading": source.reading.model_dump(),
        "split": source.split.model_dump() if source.split else None,
        "part": source.part,
        "share": source.share,
        "seed": source.seed if is_drawn else None,
        "limit": source.limit,
        "tokenizer": tokenizer_digest(attempt.inputs.model),
        # Which class of tokenizer it is, and where the model stops, may be said here alone.
        "config": digest_of([attempt.inputs.model / "config.json"]),
        "shape": repr(preparation.shape),
        "max_length": preparation.max_length,
        "over_long": data.over_long,
        "code": _code(),
    }
    key = hashlib.sha256(json.dumps(dependence, sort_keys=True).encode()).hexdigest()
    return KeptRows(attempt.inputs.rows / content.sha256 / key[:32])


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file, if it is there and as it was written. Marks its folder as used."""
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            digest = (file.metadata() or {}).get("sha256")
        os.utime(path.parent)
    except (OSError, SafetensorError):
        return None
    return arrays if digest == _sha256(arrays) else None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file of arrays so that it is either absent or whole.

    Raises:
        OSError: it cannot be written.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        with whole_file(path) as aside:
            save_file(whole, aside, {"sha256": _sha256(arrays)})
    except SafetensorError as error:
        raise OSError(str(error)) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file that is to be absent or whole. What a crash of the machine may tear, digests find.

    Raises:
        OSError: it cannot be put in its place.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@cache
def _code() -> str:
    """What stands for the code that prepares rows: a change of it must not find what it would make otherwise."""
    folders = [Path(place) for package in (tunesmith.data, tunesmith.training) for place in package.__path__]
    own = digest_of(path for folder in folders for path in folder.rglob("*.py"))
    return " ".join([own, *(f"{name} {version(name)}" for name in ("transformers", "tokenizers", "jinja2"))])
