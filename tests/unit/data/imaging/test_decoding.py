"""From the bytes of files to pictures of 8 bits a channel."""

import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from tunesmith.data.imaging import decoding
from tunesmith.data.imaging.decoding import PictureError, decoded


def saved(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def test_pictures_are_turned_as_their_camera_noted():
    image = Image.new("RGB", (2, 1), "red")
    image.putpixel((1, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    upright = decoded(saved(image, exif=exif))
    assert upright.size == (1, 2)
    assert [upright.getpixel((0, y)) for y in (0, 1)] == [(255, 0, 0), (0, 0, 255)]


def test_grey_of_sixteen_bits_is_scaled_and_not_cut_off():
    image = Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16))
    assert [decoded(saved(image)).getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_opaque_mode_becomes_rgb(mode):
    found = decoded(saved(Image.new("RGB", (3, 2), "white").convert(mode)))
    assert (found.mode, found.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_printers_inks_become_rgb():
    found = decoded(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert (found.mode, found.getpixel((4, 4))) == ("RGB", (255, 0, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_places_are_kept(mode):
    found = decoded(saved(Image.new("RGBA", (3, 2), (255, 255, 255, 0)).convert(mode)))
    assert (found.mode, found.getpixel((0, 0))) == ("RGBA", (255, 255, 255, 0))


def test_a_palette_with_a_transparent_colour_has_transparent_places():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    found = decoded(saved(image, transparency=1))
    assert [found.getpixel((x, 0))[3] for x in (0, 1)] == [255, 0]


def test_a_jpeg_with_a_second_picture_behind_it_is_its_first_one():
    images = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = saved(images[0], "MPO", save_all=True, append_images=images[1:])
    assert decoded(content).getpixel((0, 0))[0] > 200


def test_a_file_of_more_bytes_than_a_picture_may_have_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 50)
    with pytest.raises(PictureError, match="a picture may have 50"):
        decoded(saved(Image.new("RGB", (100, 100))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_cut_off_or_altered_file_raises_anything_else(kind):
    content = saved(Image.effect_noise((40, 40), 80).convert("RGB"), kind)
    for place in range(0, len(content), max(1, len(content) // 60)):
        for broken in (content[:place], content[:place] + b"\xff\x00\xff" + content[place + 3 :]):
            with suppress(PictureError):
                assert decoded(broken).mode == "RGB"
