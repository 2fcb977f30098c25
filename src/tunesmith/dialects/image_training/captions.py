"""The text that a captioning strategy works with."""

from tunesmith.data.imaging.captions import with_places_filled, with_trigger
from tunesmith.dialects.image_training.wire import CaptioningStrategy
from tunesmith.spec.errors import InvalidRequestError


def caption_prompt(strategy: CaptioningStrategy, prompt: str | None, trigger: str) -> str | None:
    """The text that a strategy works with: the caption itself for `custom`, an instruction for `auto`, else none.

    Raises:
        InvalidRequestError: the strategy is `custom` and there is no text.
    """
    if strategy is CaptioningStrategy.AUTO:
        return with_places_filled(prompt, trigger) if prompt is not None else None
    if strategy is not CaptioningStrategy.CUSTOM:
        return None
    if prompt is None or not prompt.strip():
        raise InvalidRequestError(
            "preprocessing_captioning_prompt is required with the strategy 'custom': it is every picture's caption.",
            param="preprocessing_captioning_prompt",
            hint="Give the caption, with [trigger] where the trigger word belongs.",
        )
    return with_trigger(prompt, trigger)
