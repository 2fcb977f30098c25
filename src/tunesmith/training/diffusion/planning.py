"""What a training on pictures comes to, before its weights are read."""

import statistics
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tunesmith.data.picture_set import PictureSet
from tunesmith.spec.image_training import images_of
from tunesmith.spec.job import AttemptSpec, JobSpec, OptimizationSpec
from tunesmith.spec.plan import Count, RowsPlan
from tunesmith.training.diffusion.buckets import fitting, items_of
from tunesmith.training.diffusion.encoding import cut_captions
from tunesmith.training.diffusion.folder import block_matrices, family_of, parameters_of
from tunesmith.training.diffusion.shares import shares_of
from tunesmith.training.diffusion.targets import targeted
from tunesmith.training.memory import Footprint, Head, quantized
from tunesmith.training.memory_probe import MOMENT_BYTES
from tunesmith.training.optim import count_steps, steps_per_epoch
from tunesmith.training.plan_model import PlannedModel

_LINES_SHOWN = 20


def planned_pictures(attempt: AttemptSpec) -> RowsPlan:
    """What the pictures come to that are trained on: rows are pictures, sequences are pictures at each of the
    resolutions, and tokens are those of the sequences. `max_length` and `truncated` are about captions.

    Raises:
        ModelLoadError: the base model's folder cannot be used.
        DatasetError: the set of pictures cannot be read.
    """
    spec, folder = attempt.spec, attempt.inputs.model
    family = family_of(folder)
    with closing(PictureSet(attempt.inputs.train)) as pictures:
        resolutions, grid = images_of(spec).resolution, family.grid(folder)
        places = fitting(pictures.pictures, resolutions, grid)
        trained = shares_of(spec, places).trained
        items = items_of(pictures.pictures, trained, resolutions, grid)
        captions = {place + 1: pictures.pictures[place].caption for place in trained}
    lengths = [item.tokens for item in items]
    tokens, sequences, rows = (_exactly(count) for count in (sum(lengths), len(items), len(captions)))
    steps = count_steps(spec.optimization, len(items))
    max_length = min(spec.data.max_length, family.caption_tokens)
    cut = cut_captions(family, folder, captions, max_length)
    return RowsPlan(
        sampled=False,
        read=rows.low,
        rows=rows,
        tokens=tokens,
        trained_tokens=tokens,
        mean=statistics.fmean(lengths),
        longest=max(lengths),
        longest_sequence=max(lengths),
        max_length=max_length,
        dropped=0,
        dropped_lines=(),
        truncated=len(cut),
        truncated_lines=tuple(cut[:_LINES_SHOWN]),
        untrained=0,
        token_sequences=1,
        sequences=sequences,
        steps=_exactly(steps),
        job_tokens=_job_tokens(spec.optimization, steps, lengths),
    )


def _job_tokens(optimization: OptimizationSpec, steps: int, lengths: Sequence[int]) -> Count:
    """Tokens of so many steps: the last pass may be a part, which has any of the pictures."""
    passes, rest = divmod(steps, steps_per_epoch(optimization, len(lengths)))
    whole, by_length, left = passes * sum(lengths), sorted(lengths), rest * optimization.batch_size
    return Count(low=whole + sum(by_length[:left]), high=whole + sum(by_length[::-1][:left]))


def planned_transformer(folder: Path, spec: JobSpec, *, on_gpu: bool) -> PlannedModel:
    """What a spec makes of the transformer in a folder in diffusers' layout. What a forward pass keeps is not counted.

    Raises:
        ModelLoadError: the folder cannot be used.
        AdapterError: the adapter cannot be put on the transformer.
    """
    parameters, matrices = parameters_of(folder), block_matrices(folder, family_of(folder))
    trained = parameters
    if spec.adapter is not None:
        trained = sum(spec.adapter.rank * sum(matrices[name]) for name in targeted(matrices, spec.adapter))
    number_bytes = 2 if spec.model.dtype == "bfloat16" else 4
    footprint = Footprint(
        weights=parameters * number_bytes + 4 * trained if spec.adapter is not None else 4 * parameters,
        parameters=parameters,
        trained=trained,
        moment_bytes=MOMENT_BYTES[spec.optimization.optimizer],
        per_token=0,
        per_pass=0,
        layers=0,
        width=0,
        number_bytes=number_bytes,
        residual_bytes=number_bytes,
        head=Head(vocabulary=0, width=0, trained=False, whole=False),
        on_gpu=on_gpu,
        can_recompute=True,
        largest_matrix=0,
        pictures=0,
    )
    quantization = spec.model.quantization
    if quantization is not None:
        linear = sum(rows * columns for rows, columns in matrices.values())
        footprint = quantized(footprint, linear, quantization.bits, quantization.double)
    return PlannedModel(footprint, is_counted=False, adapter_bytes=4 * trained if spec.adapter is not None else 0)


def _exactly(count: int) -> Count:
    return Count(low=count, high=count)
