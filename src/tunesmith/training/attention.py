"""Causal attention within each sequence of a concatenated row, registered with transformers under `NAME`.

No dense mask is ever built: the lengths of the sequences are all that is needed. Shapes: H query heads, K key-value
heads, T tokens of the row, D head size.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from tunesmith.training.segments import Segments

NAME = "tunesmith_segments"

_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache")


class UnsupportedAttentionError(Exception):
    """The model's attention needs something that this function does not compute."""


_current: Segments | None = None


@contextmanager
def attending_within(lengths: Sequence[int], device: torch.device) -> Iterator[Segments]:
    """While open, models that use this attention see only within sequences of these lengths."""
    global _current  # noqa: PLW0603 - transformers passes layers no argument that all models hand through
    _current = Segments(lengths, device)
    try:
        yield _current
    finally:
        _current = None


def contexts_of_layer() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What holds while a layer is computed and while it is computed again, for `torch.utils.checkpoint`.

    The second time is in the backward pass, after `attending_within` has ended.
    """
    return nullcontext(), _again_within(_current)


@contextmanager
def _again_within(segments: Segments | None) -> Iterator[None]:
    global _current  # noqa: PLW0603 - as above
    before, _current = _current, segments
    try:
        yield
    finally:
        _current = before


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
    if len(segments.lengths) == 1:
        alone = _attend_each(query, key, value, segments, dropout=dropout, scaling=scaling, window=sliding_window)
        return alone.transpose(1, 2), None
    return _attend_in_groups(query, key, value, segments, dropout=dropout, scaling=scaling, window=sliding_window), None


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


def _attend_in_groups(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    arrangement = segments.arrangement
    parts = [arrangement.into_slots(part[0].transpose(0, 1)) for part in (query, key, value)]
    outputs = []
    for group in arrangement.groups:
        size = group.count * group.length
        members = [
            part[group.start : group.start + size].unflatten(0, (group.count, group.length)).transpose(1, 2)
            for part in parts
        ]
        output = _attend_each(
            members[0], members[1], members[2], segments, dropout=dropout, scaling=scaling, window=window
        )
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    slots = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return arrangement.out_of_slots(slots).unsqueeze(0)


def _attend_each(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Causal attention of sequences [S, H or K, L, D] of one length."""
    length = query.shape[2]
    mask = segments.window_mask(length, window) if window is not None and length > window else None
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scaling,
        is_causal=mask is None,
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
