"""Trigger words in prompts and captions, as ai-toolkit places them."""

from tunesmith.dialects.image_training.wire import CaptioningStrategy
from tunesmith.spec.errors import InvalidRequestError

_PLACES = ("[trigger]", "[name]")


def with_places_filled(text: str, trigger: str) -> str:
    """A text with the trigger word wherever it says `[trigger]` or `[name]`."""
    for place in _PLACES:
        text = text.replace(place, trigger)
    return text


def with_trigger(caption: str, trigger: str) -> str:
    """A caption that holds the trigger word: in its places, or in front where it would be absent."""
    filled = with_places_filled(caption, trigger)
    return filled if trigger in filled else f"{trigger} {filled}"


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
