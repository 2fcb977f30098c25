"""Takes a picture through a list of transforms, in their order.

Those that choose among pictures are decided by whoever sees all of them: `min_size_filter` says here that a picture is
too small, and `dedupe` notes how it looks at that place of the list.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.data.imaging import vocabulary
from tunesmith.data.imaging.decoding import PictureError
from tunesmith.data.imaging.likeness import Look, look_of

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_RESULT_PIXELS = 8192 * 8192
"""Of a picture that a transform makes."""


@dataclass
class Transformed:
    """A picture behind the last transform."""

    picture: "Image"
    """RGB."""

    too_small: tuple[int, str] | None = None
    """Place in the list of the filter that leaves it out, and why."""

    looks: dict[int, Look] = field(default_factory=dict)
    """What it looks like where `dedupe` compares it, by place in the list."""


def transformed(picture: "Image", transforms: Sequence[Mapping[str, Any]], seed: str) -> Transformed:
    """A picture of RGB or RGBA behind all transforms, flattened on white if it still has transparent places.

    What is drawn follows from `seed` and the place in the list alone.

    Raises:
        PictureError: a transform cannot be applied to it.
    """
    result = Transformed(picture)
    for place, canonical in enumerate(transforms):
        name, parameters = vocabulary.read_transform(canonical)
        if name == "min_size_filter":
            result.too_small = result.too_small or _too_small(place, result.picture, parameters)
        elif name == "dedupe":
            result.looks[place] = look_of(result.picture)
        elif name == "color_jitter":
            result.picture = _jitter(result.picture, parameters, random.Random(f"{seed}/{place}"))
        else:
            result.picture = _STEPS[name](result.picture, parameters)
    result.picture = _flatten(result.picture, vocabulary.Background())
    return result


def _too_small(place: int, picture: "Image", wanted: Any) -> tuple[int, str] | None:
    if picture.width >= wanted.width and picture.height >= wanted.height:
        return None
    size, least = f"{picture.width} x {picture.height}", f"{wanted.width} x {wanted.height}"
    return place, f"it has {size} pixels, and min_size_filter asks for {least}"


def _resize(picture: "Image", size: Any) -> "Image":
    from PIL.Image import Resampling

    return picture.resize((size.width, size.height), Resampling.LANCZOS)


def _max_side(picture: "Image", limit: Any) -> "Image":
    from PIL.Image import Resampling

    scale = limit.pixels / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Resampling.LANCZOS)


def _center_crop(picture: "Image", size: Any) -> "Image":
    return _middle(picture, size.width, size.height)


def _square_crop(picture: "Image", _: Any) -> "Image":
    return _middle(picture, min(picture.size), min(picture.size))


def _middle(picture: "Image", width: int, height: int) -> "Image":
    width, height = min(width, picture.width), min(height, picture.height)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _pad_to_square(picture: "Image", background: Any) -> "Image":
    from PIL import Image

    side = max(picture.size)
    _check_result(side, side, "pad_to_square")
    padded = Image.new(picture.mode, (side, side), background.color)
    padded.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return padded


def _crop_box(picture: "Image", box: Any) -> "Image":
    right, bottom = box.left + box.width, box.top + box.height
    if right > picture.width or bottom > picture.height:
        raise PictureError(
            f"crop_box reaches to {right} x {bottom}, and the picture has {picture.width} x {picture.height} pixels"
        )
    return picture.crop((box.left, box.top, right, bottom))


def _flip(picture: "Image", _: Any) -> "Image":
    from PIL import ImageOps

    return ImageOps.mirror(picture)


def _rotate(picture: "Image", rotation: Any) -> "Image":
    from PIL.Image import Resampling

    cosine, sine = (abs(each(math.radians(rotation.degrees))) for each in (math.cos, math.sin))
    width = picture.width * cosine + picture.height * sine
    height = picture.width * sine + picture.height * cosine
    _check_result(math.ceil(width), math.ceil(height), "rotate")
    # The library turns to the left.
    return picture.rotate(-rotation.degrees, Resampling.BICUBIC, expand=True, fillcolor=rotation.color)


def _unchanged(picture: "Image", _: Any) -> "Image":
    return picture


def _flatten(picture: "Image", background: Any) -> "Image":
    from PIL import Image

    if picture.mode == "RGB":
        return picture
    flat = Image.new("RGBA", picture.size, background.color)
    return Image.alpha_composite(flat, picture).convert("RGB")


def _convert_rgb(picture: "Image", _: Any) -> "Image":
    return _flatten(picture, vocabulary.Background())


def _grayscale(picture: "Image", _: Any) -> "Image":
    return _on_colours(picture, lambda colours: colours.convert("L").convert("RGB"))


def _brightness(picture: "Image", change: Any) -> "Image":
    from PIL import ImageEnhance

    return _on_colours(picture, _enhanced(ImageEnhance.Brightness, change.factor))


def _contrast(picture: "Image", change: Any) -> "Image":
    from PIL import ImageEnhance

    return _on_colours(picture, _enhanced(ImageEnhance.Contrast, change.factor))


def _sharpen(picture: "Image", change: Any) -> "Image":
    from PIL import ImageEnhance

    return _on_colours(picture, _enhanced(ImageEnhance.Sharpness, change.factor))


def _blur(picture: "Image", blur: Any) -> "Image":
    from PIL import ImageFilter

    return picture.filter(ImageFilter.GaussianBlur(blur.radius))


def _auto_contrast(picture: "Image", cutoff: Any) -> "Image":
    from PIL import ImageOps

    return _on_colours(picture, lambda colours: ImageOps.autocontrast(colours, cutoff.cutoff))


def _jitter(picture: "Image", most: Any, drawn: random.Random) -> "Image":
    from PIL import ImageEnhance

    changes = (
        (ImageEnhance.Brightness, most.brightness),
        (ImageEnhance.Contrast, most.contrast),
        (ImageEnhance.Color, most.saturation),
    )
    for kind, share in changes:
        change = _enhanced(kind, drawn.uniform(1 - share, 1 + share))
        picture = _on_colours(picture, change)
    turn = round(drawn.uniform(-most.hue, most.hue) * 256)
    return _on_colours(picture, lambda colours: _turned_hue(colours, turn)) if turn else picture


def _enhanced(kind: Callable[["Image"], Any], factor: float) -> Callable[["Image"], "Image"]:
    def change(colours: "Image") -> "Image":
        changed: Image = kind(colours).enhance(factor)
        return changed

    return change


def _turned_hue(colours: "Image", turn: int) -> "Image":
    from PIL import Image

    hue, saturation, value = colours.convert("HSV").split()
    hue = hue.point([(each + turn) % 256 for each in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def _on_colours(picture: "Image", change: Callable[["Image"], "Image"]) -> "Image":
    """Change colours and leave transparency as it is."""
    if picture.mode == "RGB":
        return change(picture)
    changed = change(picture.convert("RGB")).convert("RGBA")
    changed.putalpha(picture.getchannel("A"))
    return changed


def _check_result(width: int, height: int, name: str) -> None:
    if width * height > MAX_RESULT_PIXELS:
        raise PictureError(
            f"{name} would make {width:,} x {height:,} pixels of it; up to {MAX_RESULT_PIXELS:,} are made"
        )


_STEPS: dict[str, Callable[["Image", Any], "Image"]] = {
    "resize": _resize,
    "max_side": _max_side,
    "center_crop": _center_crop,
    "square_crop": _square_crop,
    "pad_to_square": _pad_to_square,
    "crop_box": _crop_box,
    "flip_horizontal": _flip,
    "rotate": _rotate,
    "exif_orient": _unchanged,  # pictures are turned upright when they are decoded
    "convert_rgb": _convert_rgb,
    "flatten_alpha": _flatten,
    "grayscale": _grayscale,
    "brightness": _brightness,
    "contrast": _contrast,
    "sharpen": _sharpen,
    "blur": _blur,
    "auto_contrast": _auto_contrast,
}
