"""From an attempt's orders to a task: captions and pictures encoded, then the transformer loaded."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar

from tunesmith.data.picture_set import Picture, PictureSet
from tunesmith.spec import events
from tunesmith.spec.image_training import images_of
from tunesmith.spec.job import AttemptSpec
from tunesmith.training.diffusion import adapter, parts
from tunesmith.training.diffusion.average import Average
from tunesmith.training.diffusion.buckets import fitting, items_of
from tunesmith.training.diffusion.cache import TensorCache
from tunesmith.training.diffusion.encoding import Encoder, cut_captions
from tunesmith.training.diffusion.export import card_of
from tunesmith.training.diffusion.family import Drawing, Family, Grid
from tunesmith.training.diffusion.folder import block_matrices
from tunesmith.training.diffusion.noise import NoisePlan, Sampling, Weighting
from tunesmith.training.diffusion.samples import Easel, easel_vae
from tunesmith.training.diffusion.shares import Shares, shares_of
from tunesmith.training.diffusion.targets import targeted
from tunesmith.training.diffusion.task import DiffusionTask, Example
from tunesmith.training.diffusion.transformer import load_transformer
from tunesmith.training.optim import count_steps
from tunesmith.training.seen import histogram
from tunesmith.training.workplace import Workplace

_LINES_SHOWN = 20


@dataclass(frozen=True)
class Recipe:
    """How pictures are learnt and drawn."""

    sampling: Sampling
    weighting: Weighting
    shift_by_size: bool
    caption_dropout: float
    ema_decay: float | None
    sample_width: int
    sample_height: int
    sample_guidance: float


def open_task(attempt: AttemptSpec, workplace: Workplace, family: Family, recipe: Recipe) -> DiffusionTask:
    """The task.

    Raises:
        TunesmithError: pictures, base model or adapter cannot be used.
    """
    disable_progress_bar()
    # Weights in float32 meet activations in bfloat16: normalisation is then not fused, which is meant.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight", category=UserWarning)
    folder, inputs = attempt.inputs.model, attempt.inputs
    dtype = torch.bfloat16 if attempt.spec.model.dtype == "bfloat16" else torch.float32
    encoder = Encoder(family, folder, TensorCache(inputs.cache or workplace.run.path / "cache"), workplace)
    tokens = _caption_tokens(attempt, workplace, family)
    with closing(PictureSet(inputs.train)) as pictures:
        resolutions, grid = images_of(attempt.spec).resolution, family.grid(folder)
        places = fitting(pictures.pictures, resolutions, grid)
        _tell_left_out(workplace, pictures.pictures, places, grid)
        shares = shares_of(attempt.spec, places)
        captions = {place: pictures.pictures[place].caption for place in sorted((*shares.trained, *shares.scored))}
        conditions = encoder.captions(["", *captions.values(), *_prompts(attempt)], tokens, dtype)
        items = items_of(pictures.pictures, captions, resolutions, grid)
        latents = encoder.pictures(pictures, items)
    found = [
        Example(item, key, conditions[captions[item.picture]], item.picture + 1)
        for item, key in zip(items, latents, strict=True)
    ]
    examples, validation = (
        [example for example in found if example.item.picture in places]
        for places in (set(shares.trained), set(shares.scored))
    )
    trained_captions = {place + 1: captions[place] for place in shares.trained}
    cut = cut_captions(family, folder, trained_captions, tokens)
    _report(attempt, workplace, examples, trained_captions, cut, shares)
    workplace.poll()
    easel = _easel(attempt, workplace, encoder, recipe, conditions)
    transformer = _trainable(attempt, workplace, family, dtype)
    trained = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    return DiffusionTask(
        model=transformer,
        encoder=encoder,
        card=card_of(attempt, family),
        noise=NoisePlan(parts.load_scheduler(folder), recipe.sampling, recipe.weighting, recipe.shift_by_size),
        examples=examples,
        validation=validation,
        empty=conditions[""],
        caption_dropout=recipe.caption_dropout,
        micro_batch_size=attempt.spec.optimization.micro_batch_size or 1,
        dtype=dtype,
        average=None if recipe.ema_decay is None else Average(trained, recipe.ema_decay),
        easel=easel,
    )


def _tell_left_out(workplace: Workplace, pictures: Sequence[Picture], places: Sequence[int], grid: Grid) -> None:
    """Say which pictures take no part."""
    fit = set(places)
    for place, picture in enumerate(pictures):
        if place not in fit:
            workplace.reporter.note(
                f"Left out: {picture.source}: it has {picture.width} x {picture.height} pixels, and this model needs "
                f"{grid.patch} along each edge, at every resolution."
            )


def _caption_tokens(attempt: AttemptSpec, workplace: Workplace, family: Family) -> int:
    asked = attempt.spec.data.max_length
    if asked > family.caption_tokens:
        workplace.reporter.note(
            f"max_length is lowered from {asked} to {family.caption_tokens}: {family.name} reads no more of a caption."
        )
    return min(asked, family.caption_tokens)


def _prompts(attempt: AttemptSpec) -> list[str]:
    prompts = attempt.spec.sampling.prompts if attempt.spec.sampling is not None else ()
    return [prompt for prompt in prompts if isinstance(prompt, str)]  # others were refused


def _report(
    attempt: AttemptSpec,
    workplace: Workplace,
    examples: Sequence[Example],
    captions: Mapping[int, str],
    cut: Sequence[int],
    shares: Shares,
) -> None:
    lengths = [example.item.tokens for example in examples]
    workplace.reporter.write(
        events.Prepared,
        rows=len(captions),
        dropped_lines=(),
        dropped=0,
        truncated_lines=tuple(cut[:_LINES_SHOWN]),
        truncated=len(cut),
        sequences=len(examples),
        tokens=sum(lengths),
        trained_tokens=sum(lengths),
        total_steps=count_steps(attempt.spec.optimization, len(examples)),
        sample=next(iter(captions.values()))[:2000],
        validation_rows=len(shares.scored),
        test_rows=len(shares.kept_apart),
        lengths=tuple(sorted(histogram(lengths).items())),
    )


def _easel(
    attempt: AttemptSpec, workplace: Workplace, encoder: Encoder, recipe: Recipe, conditions: Mapping[str, str]
) -> Easel | None:
    sampling = attempt.spec.sampling
    if sampling is None:
        return None
    assert sampling.denoising_steps is not None  # refused before
    return Easel(
        family=encoder.family,
        folder=encoder.folder,
        vae=easel_vae(encoder.family, encoder.folder, workplace.device),
        run=workplace.run,
        prompts=_prompts(attempt),
        conditions=[encoder.condition(conditions[prompt]) for prompt in _prompts(attempt)],
        unwanted=encoder.condition(conditions[""]),
        drawing=Drawing(
            width=recipe.sample_width,
            height=recipe.sample_height,
            steps=sampling.denoising_steps,
            guidance=recipe.sample_guidance,
            seed=attempt.spec.optimization.seed,
            between=workplace.poll,
        ),
    )


def _trainable(attempt: AttemptSpec, workplace: Workplace, family: Family, dtype: torch.dtype) -> Any:
    """The transformer, with an untrained adapter or with all its weights in float32 to be trained."""
    spec, folder = attempt.spec, attempt.inputs.model
    if spec.adapter is None:
        transformer = load_transformer(family, folder, torch.float32, workplace.device, None).requires_grad_(True)
    else:
        transformer = load_transformer(family, folder, dtype, workplace.device, spec.model.quantization)
        names = targeted(block_matrices(folder, family), spec.adapter)
        adapter.add_adapter(transformer, names, spec.adapter, spec.optimization.seed)
    if spec.optimization.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer
