"""Reads what the library of Weights & Biases writes for a run without a key."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768


def records(folder: Path) -> list[Any]:
    """What the one run of a job has on disk, below the folder of its trackers."""
    [file] = (folder / "wandb").glob("wandb/offline-run-*/*.wandb")
    return [wandb_internal_pb2.Record.FromString(data) for data in _logged(file.read_bytes())]


def history(folder: Path, figure: str = "train/loss") -> list[tuple[int, Any]]:
    """Step and value of a figure, row by row."""
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(folder)
        if record.WhichOneof("record_type") == "history"
    ]
    return [(row["train/global_step"], row[figure]) for row in rows if figure in row]


def _logged(content: bytes) -> Iterator[bytes]:
    """The entries of a file in LevelDB's log format: pieces with a checksum, a length and a kind, in blocks."""
    at, whole = 7, b""  # behind the mark of the library
    while at + 7 <= len(content):
        if _BLOCK - at % _BLOCK < 7:
            at += _BLOCK - at % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        if kind == 0:
            return
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""
