"""Causal attention within each sequence of a concatenated row, registered with transformers under `NAME`.

No dense mask is ever built: the lengths of the sequences are all that is needed. Shapes: H query heads, K key-value
heads, T tokens of the row, D head size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "tunesmith_segments"

_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache")


class UnsupportedAttentionError(Exception):
    """The model's attention needs something that this function does not compute."""


@dataclass
class Segments:
    """The sequences of one concatenated row."""

    lengths: tuple[int, ...]
    """Tokens of each, in order."""

    bounds: Tensor
    """[len(lengths) + 1] int32 on the model's device: where each starts, and the end."""

    windows_seen: set[int] = field(default_factory=set)
    """Sliding windows that layers asked for."""

    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def window_mask(self, length: int, window: int) -> Tensor:
        """[length, length] bool: true where a position may see another at most `window - 1` before it."""
        key = (length, window)
        if key not in self._masks:
            ones = torch.ones(length, length, dtype=torch.bool, device=self.bounds.device)
            self._masks[key] = ones.tril().triu(1 - window)
        return self._masks[key]


_current: Segments | None = None


@contextmanager
def attending_within(lengths: Sequence[int], device: torch.device) -> Iterator[Segments]:
    """While open, models that use this attention see only within sequences of these lengths."""
    global _current  # noqa: PLW0603 - transformers passes layers no argument that all models hand through
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)
    _current = Segments(tuple(lengths), bounds)
    try:
        yield _current
    finally:
        _current = None


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of query [1, H, T, D] to key and value [1, K, T, D]; returns [1, T, H, D].

    Raises:
        UnsupportedAttentionError: the layer wants a mask of its own, score capping, sinks or no causality.
    """
    segments = _current
    _refuse_unsupported(module, query, key, attention_mask, segments, kwargs)
    assert segments is not None
    if sliding_window is not None:
        segments.windows_seen.add(sliding_window)
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout and query.shape[-1] <= 256:
        return _attend_on_gpu(query, key, value, segments, scaling, sliding_window), None
    outputs = [
        _attend_one(*parts, segments=segments, dropout=dropout, scaling=scaling, window=sliding_window)
        for parts in zip(*(_segments_of(part, segments) for part in (query, key, value)), strict=True)
    ]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)).transpose(1, 2), None


def register() -> None:
    """Make the function known to transformers, without a mask function: models then build no mask."""
    AttentionInterface.register(NAME, attend)


def _refuse_unsupported(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    segments: Segments | None,
    kwargs: dict[str, Any],
) -> None:
    if segments is None:
        raise UnsupportedAttentionError("no sequences are set")
    if query.shape[0] != 1 or query.shape[2] != sum(segments.lengths) or key.shape[2] != query.shape[2]:
        raise UnsupportedAttentionError("a layer attends to something else than the row itself")
    if attention_mask is not None:
        raise UnsupportedAttentionError("the model builds a mask of its own")
    causal = kwargs.get("is_causal")
    if not (causal if causal is not None else getattr(module, "is_causal", True)):
        raise UnsupportedAttentionError("a layer is not causal")
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise UnsupportedAttentionError(f"a layer uses `{name}`")


def _segments_of(tensor: Tensor, segments: Segments) -> Sequence[Tensor]:
    return tensor.split(segments.lengths, 2)  # type: ignore[no-any-return]


def _attend_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    segments: Segments,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    length = query.shape[2]
    limited = window is not None and length > window
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=segments.window_mask(length, window) if window is not None and limited else None,
        dropout_p=dropout,
        scale=scaling,
        is_causal=not limited,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _attend_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(segments.lengths)
    output = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        segments.bounds,
        segments.bounds,
        longest,
        longest,
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, Tensor)
    return output.unsqueeze(0)
