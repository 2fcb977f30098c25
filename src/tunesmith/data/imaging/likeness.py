"""How alike two pictures look."""

from typing import TYPE_CHECKING

from tunesmith.spec.frozen import Frozen

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS = _ROWS = 8
_NOISE = 2  # of 255: what compression leaves on a plain surface
_COLOUR_DISTANCE = 16
"""Mean colours that differ by more, of 255, in any channel are not of the same picture."""


class Look(Frozen):
    """What a picture looks like from afar."""

    bits: int
    """64 bits: whether, of a picture of 9 x 8 grey pixels, each is noticeably lighter than its right neighbour."""

    colour: tuple[int, int, int]
    """Mean red, green and blue. It tells plain surfaces apart, whose bits are all alike."""


def look_of(picture: "Image") -> Look:
    """What an RGB or RGBA picture looks like; transparent places count as white."""
    from PIL import Image
    from PIL.Image import Resampling

    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "#ffffff"), picture)
    colours = picture.convert("RGB")
    grey = colours.convert("L").resize((_COLUMNS + 1, _ROWS), Resampling.LANCZOS).tobytes()
    bits = 0
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            at = row * (_COLUMNS + 1) + column
            bits = bits << 1 | (grey[at] > grey[at + 1] + _NOISE)
    red, green, blue = colours.resize((1, 1), Resampling.BOX).tobytes()
    return Look(bits=bits, colour=(red, green, blue))


def are_alike(one: Look, other: Look, max_distance: int) -> bool:
    """Whether at most so many of the 64 bits differ, and the mean colours are close."""
    if (one.bits ^ other.bits).bit_count() > max_distance:
        return False
    return all(abs(a - b) <= _COLOUR_DISTANCE for a, b in zip(one.colour, other.colour, strict=True))
