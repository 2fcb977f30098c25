"""From a training request to a spec. Pure."""

from typing import Any

from tunesmith.data.imaging.captions import with_places_filled
from tunesmith.dialects.image_training.addresses import check_source_images, check_webhook, shown, shown_host
from tunesmith.dialects.image_training.captions import caption_prompt
from tunesmith.dialects.image_training.transforms import canonical_transforms
from tunesmith.dialects.image_training.wire import (
    KEPT_SAVES,
    SAMPLE_EVERY,
    SAMPLE_STEPS,
    SAVE_EVERY,
    CaptioningStrategy,
    TrainingTaskCreate,
    TrainingType,
)
from tunesmith.spec.job import (
    MAX_EPOCHS,
    AdapterSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    ImagesSpec,
    IntegrationSpec,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
    SamplingSpec,
    Submission,
)

# What the request does not say is as in ai-toolkit's example for FLUX (`train_lora_flux_24gb.yaml`), whose fields the
# origin's tasks have.
_RESOLUTION = (512, 768, 1024)
_CAPTION_DROPOUT = 0.05
_EMA_DECAY = 0.99
_SAMPLE_SIZE = 1024
_SAMPLE_GUIDANCE = 4.0
_SEED = 42
# Tokens that FLUX's larger text encoder reads of a caption.
_CAPTION_TOKENS = 512
# The default of bitsandbytes' 8-bit AdamW, which that program leaves as it is.
_WEIGHT_DECAY = 0.01


def to_spec(request: TrainingTaskCreate, *, of_pictures: str | None = None, of_model: str | None = None) -> JobSpec:
    """The canonical description of the asked training, with the ids of the credentials for its pictures and for its
    base model.

    Raises:
        InvalidRequestError: an address, a transform or the captioning cannot be used; `param` is the wire's path.
    """
    return JobSpec(
        model=ModelSpec(base=request.base_model_path, dtype="bfloat16", modality="image", secret=of_model),
        init_from=None,
        data=DataSpec(
            train=DataSource(kind="images", id="source_images", sha256=None, secret=of_pictures),
            validation=None,
            max_length=_CAPTION_TOKENS,
            over_long="truncate",
            packing=False,
            max_samples=None,
            images=_images(request),
        ),
        method=_method(request),
        adapter=_adapter(request),
        optimization=OptimizationSpec(
            optimizer="adamw_8bit",
            learning_rate=request.learning_rate,
            schedule="constant",
            warmup_ratio=0,
            weight_decay=_WEIGHT_DECAY,
            max_grad_norm=1.0,
            epochs=MAX_EPOCHS,  # the steps end the training, however few the pictures are
            max_steps=request.steps,
            batch_size=1,
            micro_batch_size=1,
            gradient_checkpointing=True,
            seed=_SEED,
        ),
        cadence=CadenceSpec(eval_steps="epoch", save_steps=SAVE_EVERY, keep_checkpoints=KEPT_SAVES),
        sampling=_sampling(request),
    )


def _images(request: TrainingTaskCreate) -> ImagesSpec:
    check_source_images(request.source_images)
    strategy, trigger = request.preprocessing_captioning_strategy, request.trigger_word
    return ImagesSpec(
        sources=tuple(request.source_images),
        trigger_word=trigger,
        captioning=strategy.value,
        caption_prompt=caption_prompt(strategy, request.preprocessing_captioning_prompt, trigger),
        transforms=canonical_transforms(request.preprocessing_transforms or ()),
        resolution=_RESOLUTION,
    )


def _method(request: TrainingTaskCreate) -> MethodSpec:
    parameters: dict[str, Any] = {
        "training_type": request.training_type.value.lower(),
        "bypass_guidance_embedding": request.bypass_guidance_embedding,
        "noise_schedule": "flow_matching",
        "timestep_sampling": "sigmoid",
        "caption_dropout": _CAPTION_DROPOUT,
        "ema_decay": _EMA_DECAY,
        "sample_width": _SAMPLE_SIZE,
        "sample_height": _SAMPLE_SIZE,
        "sample_guidance": _SAMPLE_GUIDANCE,
    }
    return MethodSpec(kind="text_to_image", parameters=parameters)


def _adapter(request: TrainingTaskCreate) -> AdapterSpec | None:
    if request.training_type is TrainingType.FULL:
        return None
    return AdapterSpec(rank=request.rank, alpha=request.rank, dropout=0, targets=("all-linear",))


def _sampling(request: TrainingTaskCreate) -> SamplingSpec | None:
    if not request.sample_prompts:
        return None
    return SamplingSpec(
        prompts=tuple(with_places_filled(prompt, request.trigger_word) for prompt in request.sample_prompts),
        every=SAMPLE_EVERY,
        denoising_steps=SAMPLE_STEPS,
    )


def to_submission(
    request: TrainingTaskCreate, spec: JobSpec, integrations: tuple[IntegrationSpec, ...] = ()
) -> Submission:
    """What travels beside the request's spec, with a note for each field that has no effect; `integrations` is the
    webhook that it names.

    Raises:
        InvalidRequestError: `webhook_url` cannot be used.
    """
    assert spec.data.images is not None  # it is the request's own
    origin = {
        "origin_instance": request.origin_instance,
        "origin_zone": request.origin_zone,
        "origin_version": request.origin_version,
        "origin_tenant_id": request.origin_tenant_id,
    }
    return Submission(
        dialect="image_training",
        request=_echo(request, spec.data.images),
        name=f"{request.entity_type.value.lower()} {request.trigger_word}",
        labels={name: value for name, value in origin.items() if value is not None},
        priority=request.priority,
        integrations=integrations,
        notes=tuple(_notes(request)),
    )


def _echo(request: TrainingTaskCreate, images: ImagesSpec) -> dict[str, Any]:
    """The request in canonical spelling, without what may be secret in its addresses."""
    has_transforms = request.preprocessing_transforms is not None
    webhook = request.webhook_url
    if webhook is not None:
        check_webhook(webhook)
    return {
        **request.model_dump(mode="json"),
        "source_images": [shown(address) for address in images.sources],
        "preprocessing_transforms": list(images.transforms) if has_transforms else None,
        "webhook_url": shown_host(webhook) if webhook is not None else None,
    }


def _notes(request: TrainingTaskCreate) -> list[str]:
    notes = []
    strategy = request.preprocessing_captioning_strategy
    if request.training_type is TrainingType.FULL and "rank" in request.model_fields_set:
        notes.append("rank has no effect with training_type FULL: there is no adapter.")
    prompt = request.preprocessing_captioning_prompt
    if prompt is not None and strategy not in (CaptioningStrategy.CUSTOM, CaptioningStrategy.AUTO):
        notes.append(
            f"preprocessing_captioning_prompt has no effect with the strategy {strategy.value!r}; it belongs to "
            "'custom' and 'auto'."
        )
    return notes
