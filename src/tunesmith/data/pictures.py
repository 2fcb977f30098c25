"""Pictures that a row lists beside its turns, put where they belong in them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunesmith.data.examples import Image, Message, RowError, kind_of
from tunesmith.data.turns import PENDING, image_source

PLACEHOLDER = "<image>"

_OTHER_MEDIA = frozenset({"audio", "audios", "video", "videos"})


def refuse_other_media(row: Mapping[str, Any]) -> None:
    """Refuse rows that need to be heard or to move.

    Raises:
        RowError: the row has audio or video.
    """
    if _OTHER_MEDIA.isdisjoint(row):
        return
    for key in sorted(_OTHER_MEDIA):
        if row.get(key):
            raise RowError(key, f"`{key}` cannot be trained: rows may hold text and pictures.")


def place_pictures(row: Mapping[str, Any], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Turns with the row's `images` (or its one `image`) in the places of `<image>`, in order.

    Parts `{"type": "image"}` without a source are such places, too. Where the turns have none, the pictures stand
    before the first user turn.

    Raises:
        RowError: there are more or fewer pictures than places for them.
    """
    key = "images" if row.get("images") else "image"
    sources = _sources(row, key)
    places = sum([_places(turn, bool(sources)) for turn in turns])
    if not sources and not places:
        return turns
    if not places:
        return _before_first_user(turns, sources, key)
    if places != len(sources):
        raise RowError(key, f"the row lists {len(sources)} pictures, but its turns have places for {places}.")
    ahead = iter(sources)
    return tuple([_filled(turn, ahead) for turn in turns])


def _sources(row: Mapping[str, Any], key: str) -> list[Image]:
    listed = row.get(key)
    if not listed:
        return []
    if key == "images" and not isinstance(listed, list):
        raise RowError(key, f"`images` must be a list, got {kind_of(listed)}.")
    if not isinstance(listed, list):
        return [Image(image_source(listed, key))]
    return [Image(image_source(each, f"{key}[{index}]")) for index, each in enumerate(listed)]


def _places(turn: Message, has_sources: bool) -> int:
    pending = sum([isinstance(part, Image) and part.source == PENDING for part in turn.parts])
    # Without pictures, `<image>` is but a word.
    return pending + (turn.content or "").count(PLACEHOLDER) if has_sources else pending


def _before_first_user(turns: tuple[Message, ...], sources: list[Image], key: str) -> tuple[Message, ...]:
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is None:
        raise RowError(key, "the row lists pictures, but has no user turn to show them.")
    shown = replace(turns[first], parts=(*sources, *(turns[first].parts or _text_part(turns[first]))))
    return (*turns[:first], shown, *turns[first + 1 :])


def _text_part(turn: Message) -> tuple[str, ...]:
    return (turn.content,) if turn.content else ()


def _filled(turn: Message, ahead: Iterator[Image]) -> Message:
    if not _places(turn, True):
        return turn
    if turn.role == "assistant":
        raise RowError("images", "an assistant's turn cannot show pictures: only text can be trained.")
    parts = tuple(_filled_parts(turn.parts or _text_part(turn), ahead))
    return replace(turn, content="".join([part for part in parts if isinstance(part, str)]), parts=parts)


def _filled_parts(parts: tuple[str | Image, ...], ahead: Iterator[Image]) -> Iterator[str | Image]:
    for part in parts:
        if isinstance(part, Image):
            yield next(ahead) if part.source == PENDING else part
            continue
        first, *others = part.split(PLACEHOLDER)
        if first:
            yield first
        for text in others:
            yield next(ahead)
            if text:
                yield text
