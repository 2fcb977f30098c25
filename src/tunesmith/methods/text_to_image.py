"""Text-to-image models by flow matching: a picture's latents are mixed with noise, and the way back is learnt."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import AttemptSpec, Frozen

if TYPE_CHECKING:
    from tunesmith.spec.plan import RowsPlan
    from tunesmith.training.diffusion.family import Family
    from tunesmith.training.task import Task
    from tunesmith.training.workplace import Workplace

MODALITIES = ("image",)
TASKS = ("causal_lm",)  # what a spec says that says nothing of a task
FIGURES = ("sigma",)


class Parameters(Frozen):
    """How pictures are learnt, and how samples are drawn."""

    training_type: Literal["lora", "full"] | None = None
    """What is trained, if it is to be said once more: with an adapter in the spec `lora`, else `full`."""

    noise_schedule: Literal["flow_matching"] = "flow_matching"
    """How pictures turn into noise: along straight lines."""

    timestep_sampling: Literal["sigmoid", "uniform"] = "sigmoid"
    """How much noise is drawn: mostly a middling amount (the sigmoid of a normal number), or any amount alike."""

    timestep_shift: Literal["none", "by_size"] = "none"
    """Whether larger pictures get more noise, as the model's own schedule has it for drawing. A shift that does not
    depend on the size is part of that schedule and always applies."""

    loss_weighting: Literal["none", "sigma_sqrt", "cosmap"] = "none"
    """What a picture's loss is multiplied by, by its share of noise; the names are those of diffusers."""

    bypass_guidance_embedding: bool = False
    """Whether the guidance embedding is left out while training, for models freed of their distillation. Without it, a
    model that is distilled for guidance is trained at guidance 1."""

    caption_dropout: float = Field(default=0.0, ge=0, le=1)
    """Share of the pictures that are shown without their caption."""

    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the trained weights; samples, checkpoints and result are the average. None = the
    weights themselves."""

    sample_width: int = Field(default=1024, ge=1, le=4096)
    """In pixels."""

    sample_height: int = Field(default=1024, ge=1, le=4096)
    """In pixels."""

    sample_guidance: float = Field(default=4.0, ge=0, le=30)
    """How closely samples keep to their prompts."""


def check(attempt: AttemptSpec, poll: Callable[[], None]) -> "RowsPlan":
    """Refuse what cannot be honoured, and tell what the pictures will come to.

    Raises:
        UnsupportedError: the spec asks for something that this method or the engine cannot do.
        InvalidRequestError: `training_type` contradicts the spec.
        TunesmithError: the base model, the adapter or the pictures cannot be used.
    """
    from tunesmith.training.diffusion.limits import require_trainable
    from tunesmith.training.diffusion.planning import planned_pictures

    parameters = Parameters.model_validate(attempt.spec.method.parameters)
    _require_training_type(attempt, parameters)
    poll()
    require_trainable(
        attempt,
        (parameters.sample_width, parameters.sample_height),
        bypasses_guidance=parameters.bypass_guidance_embedding,
        shifts_by_size=parameters.timestep_shift == "by_size",
    )
    poll()
    return planned_pictures(attempt)


def build(attempt: AttemptSpec, workplace: "Workplace") -> "Task":
    """Encoded pictures and captions, transformer and loss.

    Raises:
        TunesmithError: the pictures, the base model or the adapter cannot be used.
    """
    from tunesmith.training.quantization import import_bitsandbytes

    if attempt.spec.model.quantization is not None:
        import_bitsandbytes()  # diffusers looks for it once, when it is imported
    from tunesmith.training.diffusion.opening import Recipe, open_task

    parameters = Parameters.model_validate(attempt.spec.method.parameters)
    recipe = Recipe(
        sampling=parameters.timestep_sampling,
        weighting=parameters.loss_weighting,
        shift_by_size=parameters.timestep_shift == "by_size",
        caption_dropout=parameters.caption_dropout,
        ema_decay=parameters.ema_decay,
        sample_width=parameters.sample_width,
        sample_height=parameters.sample_height,
        sample_guidance=parameters.sample_guidance,
    )
    return open_task(attempt, workplace, _family(attempt, parameters), recipe)


def _require_training_type(attempt: AttemptSpec, parameters: Parameters) -> None:
    fitting = "full" if attempt.spec.adapter is None else "lora"
    if parameters.training_type not in (None, fitting):
        raise InvalidRequestError(
            f"training_type {parameters.training_type!r} contradicts the spec, which has "
            f"{'no adapter' if fitting == 'full' else 'an adapter'}.",
            param="method.parameters.training_type",
            hint=f"Use {fitting!r}, or leave it out.",
        )


def _family(attempt: AttemptSpec, parameters: Parameters) -> "Family":
    from tunesmith.training.diffusion.flux import Flux
    from tunesmith.training.diffusion.folder import family_of

    family = family_of(attempt.inputs.model)
    return Flux(bypass_guidance=True) if parameters.bypass_guidance_embedding else family
