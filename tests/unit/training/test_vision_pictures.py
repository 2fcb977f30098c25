import struct
import zlib

import pytest
from PIL import Image

from tunesmith.data.row_pictures import RowPictures, RowPicturesWriter
from tunesmith.spec.errors import DatasetError
from tunesmith.training.vision_pictures import decoded, require_decodable
from vision import encoded, png

GREY = Image.new("L", (8, 6), 128)


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (8, 6)),
        GREY,
        GREY.convert("1"),
        GREY.convert("LA"),
        Image.new("RGB", (8, 6), "red").convert("P"),
        Image.new("RGBA", (8, 6), (255, 0, 0, 255)),
    ],
    ids=lambda picture: picture.mode,
)
def test_pictures_of_8_bits_become_rgb(picture):
    found = decoded(encoded(picture), 1)
    assert (found.mode, found.size) == ("RGB", (8, 6))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_every_kind_of_file_is_read(kind):
    assert decoded(encoded(Image.new("RGB", (8, 6), "red"), kind), 1).size == (8, 6)


def test_what_is_transparent_becomes_white():
    assert decoded(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0))), 1).getpixel((0, 0)) == (255, 255, 255)


def test_a_picture_is_turned_as_its_camera_was_held():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    assert decoded(encoded(Image.new("RGB", (8, 6)), "JPEG", exif=exif), 1).size == (6, 8)


def test_of_a_photo_with_a_second_picture_behind_it_the_first_is_taken():
    photo = encoded(Image.new("RGB", (64, 48), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 6))])
    found = decoded(photo, 1)
    assert (found.size, found.getpixel((0, 0))[0] > 250) == ((64, 48), True)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, bits=8, colours=2):
    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


MOVING = encoded(
    Image.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")]
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "none of PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "none of PNG"),
        (b"\x89PNG\r\n\x1a\nnonsense", "a picture"),
        (png("red")[:60], "a picture"),
        (encoded(Image.new("RGB", (64, 64), "red"), "JPEG")[:400], "cannot be decoded"),
        (encoded(Image.new("RGB", (4, 4)), "TIFF"), "none of PNG"),
        (MOVING, "moves: it has 2 frames"),
        (encoded(Image.new("CMYK", (4, 4)), "JPEG"), "the colours CMYK"),
        (encoded(Image.new("I;16", (4, 4))), "16 bits a channel"),
        (png_of(4, 4, bits=16), "16 bits a channel"),
        (png_of(60_000, 60_000), "pixels"),
        (png_of(10_000, 5_001), "50,000,000"),
        (b"\xff\xd8\xff" + b"\0" * (40 * 2**20), "41,943,043 bytes"),
    ],
    ids=[
        "empty",
        "svg",
        "broken",
        "cut",
        "cut-jpeg",
        "tiff",
        "moving",
        "cmyk",
        "grey-16",
        "rgb-16",
        "bomb",
        "huge",
        "fat",
    ],
)
def test_what_is_no_plain_picture_is_refused_with_its_line(content, words):
    with pytest.raises(DatasetError, match=r"^Line 7: ") as refused:
        decoded(content, 7)
    assert words in refused.value.message


def test_no_more_than_the_head_of_a_huge_picture_is_read():
    with pytest.raises(DatasetError):
        decoded(png_of(2**31 - 1, 2**31 - 1), 1)


def gathered(folder, contents):
    with (folder / "pictures").open("wb") as file, RowPicturesWriter(file) as writer:
        for number, content in enumerate(contents, 1):
            writer.add_row(None, number, [writer.add(content)])
        writer.finish()
    return RowPictures(folder / "pictures")


@pytest.mark.parametrize("count", [0, 1, 33, 100])
def test_pictures_that_can_be_decoded_are_accepted_however_many_there_are(tmp_path, count):
    require_decodable(gathered(tmp_path, [png("red", (1 + n, 1)) for n in range(count)]), lambda: None)


@pytest.mark.parametrize("place", [1, 50, 100])
def test_a_broken_picture_is_found_wherever_it_is(tmp_path, place):
    contents = [png("red", (1 + n, 1)) for n in range(100)]
    contents[place - 1] = contents[place - 1][:45]
    with pytest.raises(DatasetError, match=rf"^Line {place}: a picture"):
        require_decodable(gathered(tmp_path, contents), lambda: None)
