"""Token rows as tensors: concatenated without padding, or padded where the model needs it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tunesmith.training.text import TokenRow


@dataclass(frozen=True, eq=False)
class TextBatch:
    """One forward pass. B, T: shape of the ids; N: trained tokens."""

    ids: Tensor
    """[B, T] int64; B is 1 for concatenated rows."""

    positions: Tensor
    """[B, T] int64; restarts at each row."""

    lengths: tuple[int, ...]
    """Tokens of each row."""

    padding: Tensor | None
    """[B, T] int64, 1 at real tokens; none for concatenated rows."""

    predictors: Tensor
    """[N] flat indices into [B x T] of the positions that predict a trained token."""

    targets: Tensor
    """[N] the trained tokens."""

    trained_counts: tuple[int, ...]
    """Trained tokens of each row; they lie behind each other in `predictors` and `targets`."""

    lines: tuple[int, ...]
    """Lines of the file that the rows come from."""

    tokens: int
    trained: int

    extras: Mapping[str, Tensor] = field(default_factory=dict)
    """What a model reads beside tokens, by the names of its inputs; not on the device yet."""


def split_by_budget(
    sequences: Sequence[Sequence[TokenRow]], *, token_budget: int, max_sequences: int | None, padded: bool
) -> Iterator[list[TokenRow]]:
    """Rows of each forward pass: whole sequences, in order, up to a number of sequences or of tokens with padding."""
    rows: list[TokenRow] = []
    count = 0
    for sequence in sequences:
        full = count >= max_sequences if max_sequences is not None else _cost([*rows, *sequence], padded) > token_budget
        if rows and full:
            yield rows
            rows, count = [], 0
        rows = [*rows, *sequence]
        count += 1
    if rows:
        yield rows


def _cost(rows: Sequence[TokenRow], padded: bool) -> int:
    lengths = [len(row.ids) for row in rows]
    return len(lengths) * max(lengths) if padded else sum(lengths)


def concatenate(rows: Sequence[TokenRow], device: torch.device) -> TextBatch:
    """One row [1, T] of all rows behind each other."""
    ids = np.concatenate([row.ids for row in rows]).astype(np.int64)
    positions = np.concatenate([np.arange(len(row.ids)) for row in rows])
    trained = np.flatnonzero(np.concatenate([row.trained for row in rows]))
    return _on_device(ids[None], positions[None], None, rows, trained, device)


def pad(rows: Sequence[TokenRow], device: torch.device) -> TextBatch:
    """Rows below each other [B, T], filled at the right."""
    lengths = tuple(len(row.ids) for row in rows)
    ids = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    padding, trained = np.zeros_like(ids), np.zeros(ids.shape, dtype=np.bool_)
    for index, row in enumerate(rows):
        ids[index, : lengths[index]] = row.ids
        padding[index, : lengths[index]] = 1
        trained[index, : lengths[index]] = row.trained
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape).copy()
    return _on_device(ids, positions, padding, rows, np.flatnonzero(trained), device)


def _on_device(
    ids: np.ndarray,
    positions: np.ndarray,
    padding: np.ndarray | None,
    rows: Sequence[TokenRow],
    trained: np.ndarray,
    device: torch.device,
) -> TextBatch:
    def move(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

    return TextBatch(
        ids=move(ids),
        positions=move(positions),
        lengths=tuple(len(row.ids) for row in rows),
        padding=None if padding is None else move(padding),
        predictors=move(trained - 1),
        targets=move(ids.reshape(-1)[trained]),
        trained_counts=tuple(row.trained_count for row in rows),
        lines=tuple(row.line for row in rows),
        tokens=sum(len(row.ids) for row in rows),
        trained=len(trained),
    )
