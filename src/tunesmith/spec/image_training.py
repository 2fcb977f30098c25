"""What a job on pictures cannot ask for: known by its description alone, so that nothing is fetched for it in vain."""

from collections.abc import Iterator

from tunesmith.spec.engine_limits import beyond_one_device
from tunesmith.spec.errors import InvalidRequestError, TunesmithError, UnsupportedError
from tunesmith.spec.job import AdapterSpec, ImagesSpec, JobSpec, SamplingSpec
from tunesmith.spec.reading import AS_FOUND

PIPELINES = {
    "FluxPipeline": "FLUX.1",
    "StableDiffusion3Pipeline": "Stable Diffusion 3",
    "QwenImagePipeline": "Qwen-Image",
}
"""The families that are trained: diffusers' class, as `model_index.json` has it, and the name of each."""

MAX_RESOLUTION = 8192
"""In pixels."""

_MAX_RESOLUTIONS = 16
_MAX_TRIGGER_CHARACTERS = 128
_MAX_PROMPT_CHARACTERS = 2000
_MAX_TRANSFORMS = 64

_MAX_DENOISING_STEPS = 1000
"""So many times the schedules have."""


def require_image_training(spec: JobSpec) -> None:
    """Refuse what cannot be honoured.

    Raises:
        UnsupportedError: the engine cannot do it; `param` is the path in the spec.
        InvalidRequestError: a part is missing, too large, or without effect.
    """
    for error in (*_beyond_pictures(spec), *_beyond_engine(spec), *_beyond_adapters(spec), *_beyond_sampling(spec)):
        raise error


def images_of(spec: JobSpec) -> ImagesSpec:
    """What the spec says about its pictures.

    Raises:
        InvalidRequestError: nothing.
    """
    if spec.data.images is None:
        raise InvalidRequestError(
            "Image training needs to know about its pictures.",
            param="data.images",
            hint="Give `data.images` with `sources`, `trigger_word`, `captioning` and `resolution`.",
        )
    return spec.data.images


def _beyond_pictures(spec: JobSpec) -> Iterator[TunesmithError]:
    data, images = spec.data, images_of(spec)
    if data.train.kind != "images":
        yield UnsupportedError(
            f"Image training is on pictures, and the data are of the kind {data.train.kind!r}.",
            param="data.train",
            hint="Use the kind 'images'; an uploaded file is one of `data.images.sources`.",
        )
    yield from _beyond_resolutions(images)
    yield from _beyond_captions(images)
    if data.reading != AS_FOUND:
        yield UnsupportedError("Pictures have no columns or formats of rows.", param="data.reading")
    if data.validation is not None:
        yield UnsupportedError(
            "Pictures for validation are some of those that are sent.",
            param="data.validation",
            hint="Leave it out, and say in `data.split` how many of the pictures are not to be trained on.",
        )
    if data.split is not None and data.split.by == "column":
        yield UnsupportedError(
            "Pictures have no columns to be split by.", param="data.split.by", hint="Use 'random' or 'sequential'."
        )
    if data.packing:
        yield UnsupportedError("Pictures cannot be packed.", param="data.packing")
    if data.over_long != "truncate":
        yield UnsupportedError(
            f"Captions are cut to what the model reads; {data.over_long!r} is not possible.",
            param="data.over_long",
            hint="Use 'truncate'.",
        )
    if data.sample_ratio < 1 or data.max_samples is not None:
        yield UnsupportedError(
            "All pictures are trained on.",
            param="data.max_samples" if data.max_samples is not None else "data.sample_ratio",
            hint="Send fewer pictures.",
        )


def _beyond_resolutions(images: ImagesSpec) -> Iterator[TunesmithError]:
    if not 1 <= len(images.resolution) <= _MAX_RESOLUTIONS:
        yield InvalidRequestError(
            f"{len(images.resolution)} resolutions are given; 1 to {_MAX_RESOLUTIONS} are possible.",
            param="data.images.resolution",
        )
    for number, edge in enumerate(images.resolution):
        if not 1 <= edge <= MAX_RESOLUTION:
            yield InvalidRequestError(
                f"The resolution {edge} is not from 1 to {MAX_RESOLUTION} pixels.",
                param=f"data.images.resolution.{number}",
            )


def _beyond_captions(images: ImagesSpec) -> Iterator[TunesmithError]:
    limits = (
        ("trigger_word", len(images.trigger_word), _MAX_TRIGGER_CHARACTERS, "characters"),
        ("caption_prompt", len(images.caption_prompt or ""), _MAX_PROMPT_CHARACTERS, "characters"),
        ("transforms", len(images.transforms), _MAX_TRANSFORMS, "transforms"),
    )
    for name, count, most, what in limits:
        if count > most:
            yield InvalidRequestError(
                f"{name} has {count:,} {what}; up to {most:,} are possible.", param=f"data.images.{name}"
            )
    if images.captioning == "custom" and not (images.caption_prompt or "").strip():
        yield InvalidRequestError(
            "The captioning 'custom' needs a text, which is every picture's caption.",
            param="data.images.caption_prompt",
        )
    if images.captioning not in ("custom", "auto") and images.caption_prompt is not None:
        yield InvalidRequestError(
            f"caption_prompt has no effect with the captioning {images.captioning!r}.",
            param="data.images.caption_prompt",
            hint="Leave it out; it belongs to 'custom' and 'auto'.",
        )


def _beyond_engine(spec: JobSpec) -> Iterator[TunesmithError]:
    if spec.init_from is not None:
        yield UnsupportedError(
            "Image training cannot go on from trained weights: it begins with a whole base model.",
            param="init_from",
            hint="Leave it out. A job that was interrupted goes on by itself, and a paused one when it is resumed.",
        )
    if spec.model.quantization is not None and spec.adapter is None:
        yield UnsupportedError(
            "Quantized weights are frozen, so they cannot be tuned themselves.",
            param="model.quantization",
            hint="Train an adapter, or leave quantization out.",
        )
    if spec.optimization.neftune_noise_alpha is not None:
        yield UnsupportedError(
            "Noise on embeddings is for language models; captions are embedded once, without it.",
            param="optimization.neftune_noise_alpha",
        )
    yield from beyond_one_device(spec)


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
    sampling = spec.sampling
    if sampling is None:
        return
    for number, prompt in enumerate(sampling.prompts):
        if not isinstance(prompt, str):
            yield UnsupportedError(
                "Pictures are drawn of texts, not of conversations.",
                param=f"sampling.prompts.{number}",
                hint="Write the prompt as one text.",
            )
    for name in ("max_new_tokens", "temperature"):
        if getattr(sampling, name) != SamplingSpec.model_fields[name].default:
            yield UnsupportedError(
                f"{name} belongs to answers in words; pictures have none.",
                param=f"sampling.{name}",
                hint="Leave it out.",
            )
    if sampling.denoising_steps is None or sampling.denoising_steps > _MAX_DENOISING_STEPS:
        yield UnsupportedError(
            f"Pictures are drawn in 1 to {_MAX_DENOISING_STEPS:,} denoising steps; asked for: "
            f"{sampling.denoising_steps or 'nothing'}.",
            param="sampling.denoising_steps",
            hint="Common values: 20 to 50; 4 for models distilled for few steps.",
        )
