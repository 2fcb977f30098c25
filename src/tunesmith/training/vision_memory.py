"""What pictures take in memory beside tokens: an upper bound, from the shapes of layers and of pictures."""

from typing import Any

import torch
from PIL import Image

from tunesmith.spec.job import JobSpec
from tunesmith.training.vision_parts import LANGUAGE, VISION, Layout, trained_parts
from tunesmith.training.vision_processor import PictureProcessor

_SHAPES = ((512, 512), (1024, 256), (256, 1024))
"""Pixels of pictures that are tried: processors cut wide and high ones in their own ways."""

_CHANNELS = 3
_PATCH = 14
"""Edge of a patch, where the configuration does not tell it."""

_PER_NUMBER = 2.0
"""Times that what goes into and comes out of a linear layer is kept: norms and activation functions keep theirs."""


def picture_bytes(core: Any, processor: PictureProcessor, spec: JobSpec) -> float:
    """The most that pictures take in a pass, in bytes for each token that stands for a part of one: their pixels, and
    what all layers that see keep for the backward pass; while these are not trained, what one of them computes.

    The model may be one without weights.

    Raises:
        ModelLoadError: the architecture's parts cannot be told apart.
    """
    layout = Layout(core)
    widths = {
        name: layer.in_features + layer.out_features
        for name, layer in core.named_modules()
        if isinstance(layer, torch.nn.Linear) and layout.part_of(name) != LANGUAGE
    }
    if VISION not in (trained_parts(spec) or ()):
        widths = {name.rpartition(".")[2]: width for name, width in widths.items()}  # of each kind one
    number = 2 if spec.model.dtype == "bfloat16" else 4
    pixels = max(_pixels_per_token(processor, shape) for shape in _SHAPES)
    return pixels * 4 + pixels / (_CHANNELS * _patch(core) ** 2) * sum(widths.values()) * number * _PER_NUMBER


def _pixels_per_token(processor: PictureProcessor, shape: tuple[int, int]) -> float:
    """Numbers that the vision tower is given for each token."""
    tokens, features = processor.measured(Image.new("RGB", shape))
    return max(value.numel() for value in features.values()) / tokens


def _patch(core: Any) -> int:
    edge = getattr(getattr(core.config, "vision_config", None), "patch_size", _PATCH)
    return int(edge if isinstance(edge, int) else min(edge))
