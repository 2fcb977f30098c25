"""What transforms do, by the values of pixels."""

import pytest
from PIL import Image

from tunesmith.data.imaging.decoding import PictureError
from tunesmith.data.imaging.likeness import are_alike, look_of
from tunesmith.data.imaging.transforming import transformed
from tunesmith.data.imaging.vocabulary import TRANSFORMS

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def rows(picture):
    return [[picture.getpixel((x, y)) for x in range(picture.width)] for y in range(picture.height)]


def drawn(*lines, mode="RGB"):
    picture = Image.new(mode, (len(lines[0]), len(lines)))
    for y, line in enumerate(lines):
        for x, color in enumerate(line):
            picture.putpixel((x, y), color)
    return picture


def made(picture, *transforms, seed="1"):
    filled = [{"type": name, **TRANSFORMS[name](**given).model_dump()} for name, given in transforms]
    return transformed(picture, filled, seed).picture


WIDE = drawn([RED, GREEN, BLUE, WHITE], [BLUE, RED, WHITE, GREEN])


def test_crops_keep_the_middle_or_the_box():
    assert rows(made(WIDE, ("square_crop", {}))) == [[GREEN, BLUE], [RED, WHITE]]
    assert rows(made(WIDE, ("center_crop", {"width": 2, "height": 1}))) == [[GREEN, BLUE]]
    assert made(WIDE, ("center_crop", {"width": 2, "height": 100})).size == (2, 2)
    box = {"left": 1, "top": 1, "width": 3, "height": 1}
    assert rows(made(WIDE, ("crop_box", box))) == [[RED, WHITE, GREEN]]
    with pytest.raises(PictureError, match="reaches to 5 x 1, and the picture has 4 x 2 pixels"):
        made(WIDE, ("crop_box", {"left": 2, "top": 0, "width": 3, "height": 1}))


def test_sizes_are_exact_and_max_side_never_scales_up():
    assert made(WIDE, ("resize", {"width": 7, "height": 3})).size == (7, 3)
    assert made(WIDE, ("max_side", {"pixels": 2})).size == (2, 1)
    assert rows(made(WIDE, ("max_side", {"pixels": 9}))) == rows(WIDE)
    assert made(Image.new("RGB", (9000, 1)), ("max_side", {"pixels": 10})).size == (10, 1)


def test_a_square_is_padded_on_both_sides():
    padded = made(WIDE, ("pad_to_square", {"color": "#0000ff"}))
    assert rows(padded) == [[BLUE] * 4, *rows(WIDE), [BLUE] * 4]


def test_pictures_are_mirrored_and_turned_to_the_right():
    assert rows(made(WIDE, ("flip_horizontal", {}))) == [line[::-1] for line in rows(WIDE)]
    right = [list(line) for line in zip(*rows(WIDE)[::-1], strict=True)]
    assert rows(made(WIDE, ("rotate", {"degrees": 90}))) == right
    assert rows(made(WIDE, ("rotate", {"degrees": -270}))) == right
    assert rows(made(WIDE, ("rotate", {"degrees": 0}))) == rows(WIDE)
    turned = made(Image.new("RGBA", (100, 100), RED), ("rotate", {"degrees": 45, "color": "#0000ff"}))
    assert abs(turned.width - 142) <= 2
    assert (turned.getpixel((0, 0)), turned.getpixel((71, 71))) == (BLUE, RED)
    with pytest.raises(PictureError, match="rotate would make"):
        made(Image.new("L", (65_000, 700)).convert("RGB"), ("rotate", {"degrees": 45}))


def test_transparent_places_are_put_on_a_colour_and_at_the_end_on_white():
    glass = drawn([(255, 0, 0, 0), (0, 0, 255, 255)], mode="RGBA")
    assert rows(made(glass)) == [[WHITE, BLUE]]
    assert rows(made(glass, ("convert_rgb", {}))) == [[WHITE, BLUE]]
    assert rows(made(glass, ("flatten_alpha", {"color": "#008000"}))) == [[GREEN, BLUE]]
    assert rows(made(glass, ("brightness", {"factor": 0}), ("flatten_alpha", {"color": "#008000"}))) == [[GREEN, BLACK]]


def test_the_order_of_the_list_counts():
    crop, flip = ("crop_box", {"left": 0, "top": 0, "width": 1, "height": 1}), ("flip_horizontal", {})
    assert rows(made(WIDE, crop, flip)) == [[RED]]
    assert rows(made(WIDE, flip, crop)) == [[WHITE]]


def test_factors_of_one_change_nothing_and_others_what_they_say():
    for name in ("brightness", "contrast", "sharpen"):
        assert rows(made(WIDE, (name, {"factor": 1}))) == rows(WIDE)
    grey = Image.new("RGB", (1, 1), (100, 50, 20))
    assert rows(made(grey, ("brightness", {"factor": 2}))) == [[(200, 100, 40)]]
    assert rows(made(drawn([BLACK, WHITE]), ("contrast", {"factor": 0}))) == [[(128, 128, 128)] * 2]
    assert rows(made(drawn([RED]), ("grayscale", {}))) == [[(76, 76, 76)]]


def test_auto_contrast_spreads_the_tones():
    tones = drawn([(50, 50, 50), (100, 100, 100), (150, 150, 150)])
    assert rows(made(tones, ("auto_contrast", {}))) == [[BLACK, (127, 127, 127), WHITE]]
    assert rows(made(Image.new("RGB", (2, 1), RED), ("auto_contrast", {"cutoff": 10}))) == [[RED, RED]]


def test_blur_mixes_neighbours():
    point = Image.new("RGB", (9, 9))
    point.putpixel((4, 4), WHITE)
    blurred = made(point, ("blur", {"radius": 1}))
    assert 255 > blurred.getpixel((4, 4))[0] > blurred.getpixel((5, 4))[0] > 0


def test_jitter_is_drawn_by_the_seed_within_its_limits():
    grey = Image.new("RGB", (2, 2), (100, 100, 100))
    bright = ("color_jitter", {"brightness": 0.2})
    values = [made(grey, bright, seed=str(number)).getpixel((0, 0))[0] for number in range(40)]
    assert all(80 <= value <= 120 for value in values)
    assert len(set(values)) > 10
    assert values[7] == made(grey, bright, seed="7").getpixel((0, 0))[0]
    assert rows(made(grey, ("color_jitter", {}))) == rows(grey)
    hues = {made(drawn([RED]), ("color_jitter", {"hue": 0.5}), seed=str(n)).getpixel((0, 0)) for n in range(20)}
    assert len(hues) > 5
    twice = made(grey, bright, bright, seed="7").getpixel((0, 0))[0]
    assert twice != made(made(grey, bright, seed="7"), bright, seed="7").getpixel((0, 0))[0]


def test_turning_upright_is_done_before_the_list_and_changes_nothing_in_it():
    assert rows(made(WIDE, ("exif_orient", {}))) == rows(WIDE)


def test_every_transform_takes_pictures_of_one_pixel():
    given = {
        "resize": {"width": 1, "height": 1}, "center_crop": {"width": 1, "height": 1}, "max_side": {"pixels": 1},
        "crop_box": {"left": 0, "top": 0, "width": 1, "height": 1}, "rotate": {"degrees": 33.3},
        "brightness": {"factor": 2}, "contrast": {"factor": 2}, "sharpen": {"factor": 2}, "blur": {"radius": 3},
        "min_size_filter": {"width": 1, "height": 1},
    }  # fmt: skip
    for mode in ("RGB", "RGBA"):
        for name in TRANSFORMS:
            assert made(Image.new(mode, (1, 1)), (name, given.get(name, {}))).mode == "RGB"


def test_plain_pictures_of_other_colours_are_not_alike():
    red, blue = (look_of(Image.new("RGB", (50, 50), color)) for color in ("red", "blue"))
    assert red.bits == blue.bits
    assert not are_alike(red, blue, 63)
    assert are_alike(red, look_of(Image.new("RGB", (500, 20), "#f80000")), 0)
