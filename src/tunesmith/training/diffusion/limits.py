"""What an image training cannot honour, refused before a GPU is taken. Reads no weights."""

from collections.abc import Iterator

from tunesmith.data.picture_set import PictureSet
from tunesmith.spec.errors import NothingToTrainError, TunesmithError, UnsupportedError
from tunesmith.spec.job import AdapterSpec, AttemptSpec, ImagesSpec, JobSpec, SamplingSpec
from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.buckets import items_of
from tunesmith.training.diffusion.family import Family
from tunesmith.training.diffusion.folder import block_matrices, family_of
from tunesmith.training.diffusion.targets import targeted


def require_trainable(
    attempt: AttemptSpec, sample_size: tuple[int, int], *, bypasses_guidance: bool, shifts_by_size: bool
) -> None:
    """Refuse what cannot be trained. `sample_size` is width and height in pixels.

    Raises:
        UnsupportedError: the spec asks for something that the engine cannot do; `param` is its path.
        ModelLoadError: the base model is of no known family, or lacks a part.
        AdapterError: the adapter does not fit it.
        NothingToTrainError: there is no picture.
        DatasetError: the set of pictures cannot be read, or a picture is too small.
    """
    for error in (*_beyond_pictures(attempt), *_beyond_sampling(attempt.spec)):
        raise error
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
    for path in (attempt.inputs.train, attempt.inputs.validation):
        if path is not None:
            pictures = PictureSet(path)
            if not pictures.pictures:
                raise NothingToTrainError("There is no picture.", param="data.train")
            items_of(pictures.pictures, images_of(attempt.spec).resolution, grid)
            pictures.close()


def images_of(spec: JobSpec) -> ImagesSpec:
    """What the spec says about its pictures.

    Raises:
        UnsupportedError: nothing.
    """
    if spec.data.images is None or not spec.data.images.resolution or min(spec.data.images.resolution) < 1:
        raise UnsupportedError(
            "Image training needs the resolutions of its pictures.",
            param="data.images",
            hint="Say at least one `resolution`, in pixels.",
        )
    return spec.data.images


def _beyond_pictures(attempt: AttemptSpec) -> Iterator[TunesmithError]:
    spec, data, resources = attempt.spec, attempt.spec.data, attempt.spec.resources
    images_of(spec)
    if attempt.inputs.adapter is not None or spec.init_from is not None:
        yield UnsupportedError("Image training cannot go on from trained weights.", param="init_from")
    if spec.model.quantization is not None and spec.adapter is None:
        yield UnsupportedError(
            "Quantized weights are frozen, so they cannot be tuned themselves.",
            param="model.quantization",
            hint="Train an adapter, or leave quantization out.",
        )
    yield from _beyond_adapters(spec)
    if spec.optimization.neftune_noise_alpha is not None:
        yield UnsupportedError(
            "Noise on embeddings is for language models; captions are embedded once, without it.",
            param="optimization.neftune_noise_alpha",
        )
    if data.packing:
        yield UnsupportedError("Pictures cannot be packed.", param="data.packing")
    if data.over_long != "truncate":
        yield UnsupportedError(
            f"Captions are cut to what the model reads; {data.over_long!r} is not possible.",
            param="data.over_long",
            hint="Use 'truncate'.",
        )
    if data.split is not None:
        yield UnsupportedError("Pictures are not split.", param="data.split", hint="Send validation pictures.")
    if data.sample_ratio < 1 or data.max_samples is not None:
        yield UnsupportedError(
            "All pictures are trained on.",
            param="data.max_samples" if data.max_samples is not None else "data.sample_ratio",
            hint="Send fewer pictures.",
        )
    if resources is not None and resources.gpus_per_node * resources.nodes > 1:
        yield UnsupportedError(
            f"{resources.gpus_per_node * resources.nodes} GPUs cannot share one training; this engine uses one.",
            param="resources.gpus_per_node" if resources.gpus_per_node > 1 else "resources.nodes",
        )
    if resources is not None and resources.distribution is not None:
        yield UnsupportedError(
            f"The distribution {resources.distribution!r} has no use on one GPU.", param="resources.distribution"
        )


def _beyond_adapters(spec: JobSpec) -> Iterator[TunesmithError]:
    """What diffusers' pipelines would not apply as it was trained."""
    if spec.adapter is None:
        return
    for name in ("scaling", "decomposed", "init"):
        default = AdapterSpec.model_fields[name].default
        if getattr(spec.adapter, name) != default:
            yield UnsupportedError(
                f"Adapters of image models are plain LoRA; {name} {getattr(spec.adapter, name)!r} is not possible.",
                param=f"adapter.{name}",
                hint=f"Use {default!r}, or leave it out.",
            )


def _beyond_sampling(spec: JobSpec) -> Iterator[TunesmithError]:
    if spec.sampling is None:
        return
    for number, prompt in enumerate(spec.sampling.prompts):
        if not isinstance(prompt, str):
            yield UnsupportedError(
                "Pictures are drawn of texts, not of conversations.",
                param=f"sampling.prompts.{number}",
                hint="Write the prompt as one text.",
            )
    for name in ("max_new_tokens", "temperature"):
        if getattr(spec.sampling, name) != SamplingSpec.model_fields[name].default:
            yield UnsupportedError(
                f"{name} belongs to answers in words; pictures have none.",
                param=f"sampling.{name}",
                hint="Leave it out.",
            )
    if spec.sampling.denoising_steps is None:
        yield UnsupportedError(
            "Pictures are drawn in denoising steps, and their number is missing.",
            param="sampling.denoising_steps",
            hint="Common values: 20 to 50; 4 for models distilled for few steps.",
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
