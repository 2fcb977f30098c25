"""What an image training cannot honour, refused before a GPU is taken. Reads no weights."""

from contextlib import closing

from tunesmith.data.picture_set import PictureSet
from tunesmith.spec.errors import DatasetError, NothingToTrainError, UnsupportedError
from tunesmith.spec.image_training import images_of, require_image_training
from tunesmith.spec.job import AttemptSpec, JobSpec
from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.buckets import fitting
from tunesmith.training.diffusion.family import Family
from tunesmith.training.diffusion.folder import block_matrices, family_of
from tunesmith.training.diffusion.targets import targeted


def require_trainable(
    attempt: AttemptSpec, sample_size: tuple[int, int], *, bypasses_guidance: bool, shifts_by_size: bool
) -> None:
    """Refuse what cannot be trained. `sample_size` is width and height in pixels.

    Raises:
        UnsupportedError: the spec asks for something that the engine cannot do; `param` is its path.
        InvalidRequestError: a part of the spec is missing, too large, or without effect.
        ModelLoadError: the base model is of no known family, or lacks a part.
        AdapterError: the adapter does not fit it.
        NothingToTrainError: there is no picture.
        DatasetError: the set of pictures cannot be read, or all are too small.
    """
    require_image_training(attempt.spec)
    folder = attempt.inputs.model
    family = family_of(folder)
    if attempt.spec.adapter is not None:
        targeted(block_matrices(folder, family), attempt.spec.adapter)
    if bypasses_guidance and not parts.config_of(folder, "transformer").get("guidance_embeds"):
        raise UnsupportedError(
            "The base model has no guidance embedding that could be bypassed.",
            param="method.parameters.bypass_guidance_embedding",
        )
    if shifts_by_size and not parts.schedule_of(folder).get("use_dynamic_shifting"):
        raise UnsupportedError(
            "The base model's schedule is not shifted by the size of a picture.",
            param="method.parameters.timestep_shift",
            hint="Use 'none': a shift that is the model's own applies in any case.",
        )
    grid = family.grid(folder)
    _require_sample_size(attempt.spec, family, grid.patch, sample_size)
    with closing(PictureSet(attempt.inputs.train)) as pictures:
        if not pictures.pictures:
            raise NothingToTrainError("There is no picture.", param="data.train")
        if not fitting(pictures.pictures, images_of(attempt.spec).resolution, grid):
            first = pictures.pictures[0]
            raise DatasetError(
                f"All pictures are too small or too narrow, such as {first.source!r} of {first.width}x{first.height} "
                f"pixels: this model needs {grid.patch} pixels along each edge, at every resolution.",
                param="data.train",
                hint="Send larger pictures, or ask for a higher resolution.",
            )


def _require_sample_size(spec: JobSpec, family: Family, patch: int, sample_size: tuple[int, int]) -> None:
    if spec.sampling is None:
        return
    for name, edge in zip(("sample_width", "sample_height"), sample_size, strict=True):
        if edge % patch:
            raise UnsupportedError(
                f"{family.name} draws pictures whose edges are multiples of {patch} pixels; {name} is {edge}.",
                param=f"method.parameters.{name}",
                hint=f"Use {max(patch, edge // patch * patch)}.",
            )
