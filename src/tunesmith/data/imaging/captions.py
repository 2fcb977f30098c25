"""Captions, and trigger words in them, as ai-toolkit places them."""

from pathlib import PurePosixPath

from tunesmith.spec.job import ImagesSpec

MAX_CAPTION_BYTES = 64 * 1024
"""Of a text file with a caption."""

_PLACES = ("[trigger]", "[name]")


def with_places_filled(text: str, trigger: str) -> str:
    """A text with the trigger word wherever it says `[trigger]` or `[name]`."""
    for place in _PLACES:
        text = text.replace(place, trigger)
    return text


def with_trigger(caption: str, trigger: str) -> str:
    """A caption that holds the trigger word: in its places, or in front where it would be absent."""
    filled = with_places_filled(caption, trigger).strip()
    return filled if trigger in filled else f"{trigger} {filled}".strip()


def caption_of(images: ImagesSpec, name: str, beside: str | None) -> str:
    """A picture's caption, for every strategy that needs no model.

    Args:
        name: the picture's file name.
        beside: the text that was sent with the picture, for the strategy `existing`.
    """
    match images.captioning:
        case "filename":
            caption = PurePosixPath(name).stem
        case "existing":
            caption = beside or ""
        case "custom":
            caption = images.caption_prompt or ""
        case _:
            caption = ""
    return with_trigger(caption, images.trigger_word)
