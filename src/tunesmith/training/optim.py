"""Optimizers and their schedules, equal to those of transformers' Trainer."""

import math
import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from transformers.optimization import Adafactor

from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.quantization import import_bitsandbytes

_TIMESCALE = 10_000
"""Steps after which `inverse_sqrt` without a warm-up is at 0.7 of the peak rate."""

_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def build_optimizer(model: torch.nn.Module, optimization: OptimizationSpec) -> torch.optim.Optimizer:
    """The optimizer over the trained parameters. Biases and normalisation weights do not decay."""
    decaying = set(_decaying_names(model, ""))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for name, parameter in named if name in decaying],
            "weight_decay": optimization.weight_decay,
        },
        {"params": [parameter for name, parameter in named if name not in decaying], "weight_decay": 0.0},
    ]
    rate = optimization.learning_rate
    adam: dict[str, Any] = {"lr": rate, "betas": (0.9, 0.999), "eps": 1e-8}
    match optimization.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, **adam, fused=True)
        case "adamw_8bit":
            return cast(torch.optim.Optimizer, import_bitsandbytes().optim.AdamW8bit(groups, **adam))
        case "adam":
            return torch.optim.Adam(groups, **adam, fused=True)
        case "adafactor":
            # torch's own has no way to follow a schedule alone: it scales each step by the size of the weights.
            return cast(torch.optim.Optimizer, Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False))
        case "sgd":
            return torch.optim.SGD(groups, lr=rate)


def learning_rate(optimization: OptimizationSpec, step: int, total_steps: int) -> float:
    """The rate of the step with this index, from 0. Where it decays to zero, that is at index `total_steps`."""
    # A job of a single step would otherwise be all warm-up, at a rate of zero.
    warmup = min(math.ceil(total_steps * optimization.warmup_ratio), total_steps - 1)
    if step < warmup:
        return optimization.learning_rate * (step / warmup)
    progress = (step - warmup) / max(1, total_steps - warmup)
    match optimization.schedule:
        case "linear":
            factor = 1 - progress
        case "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * progress))
        case "constant":
            factor = 1.0
        case "inverse_sqrt":
            timescale = warmup or _TIMESCALE
            factor = math.sqrt(timescale / (step - warmup + timescale))
        case "wsd":
            factor = 0.5 * (1 + math.cos(math.pi * _decayed(optimization, step, warmup, total_steps)))
    return optimization.learning_rate * max(0.0, factor)


def _decayed(optimization: OptimizationSpec, step: int, warmup: int, total_steps: int) -> float:
    """How much of the decay at the end of the training is done: 0 before it."""
    assert optimization.decay_ratio is not None
    decay = min(math.ceil(total_steps * optimization.decay_ratio), total_steps - warmup)
    return max(0.0, (step - (total_steps - decay)) / max(1, decay))


def count_steps(optimization: OptimizationSpec, sequences: int) -> int:
    """Optimizer steps of the whole job. The last batch of an epoch may be smaller than the others."""
    steps = math.ceil(optimization.epochs * steps_per_epoch(optimization, sequences))
    return min(steps, optimization.max_steps) if optimization.max_steps is not None else steps


def steps_per_epoch(optimization: OptimizationSpec, sequences: int) -> int:
    """Optimizer steps of one pass over the data."""
    return math.ceil(sequences / optimization.batch_size)


def _decaying_names(module: torch.nn.Module, prefix: str) -> Iterator[str]:
    """Names of parameters outside LayerNorm modules whose names, from each level down, do not speak of one."""
    for name, child in module.named_children():
        if not isinstance(child, torch.nn.LayerNorm) and not _NO_DECAY.search(f"{prefix}{name}".lower()):
            yield from _decaying_names(child, f"{prefix}{name}.")
    for name, _ in module.named_parameters(recurse=False):
        if not _NO_DECAY.search(f"{prefix}{name}".lower()):
            yield f"{prefix}{name}"
