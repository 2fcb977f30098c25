"""From a file's bytes to a picture of 8 bits a channel, RGB or RGBA, upright."""

import io
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_FILE_BYTES = 40 * 2**20
"""Of one picture."""

MAX_PIXELS = 50_000_000
"""Of one picture as it was sent."""

MAX_SIDE = 65_535
"""In pixels."""

_KINDS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF document"),
    (b"PK", "an archive within an archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"8BPS", "a Photoshop file"),
)


class PictureError(Exception):
    """A picture cannot be used; the text says why, without its name."""


def decoded(content: bytes) -> "Image":
    """A picture, decoded whole: RGB, or RGBA where it has transparent places, turned as its camera noted.

    Raises:
        PictureError: it is none, of another kind than JPEG, PNG and WebP, damaged, animated or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    kind = _kind(content)
    Image.MAX_IMAGE_PIXELS = None  # the size is checked below, before anything is unpacked
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd metadata
            picture = Image.open(io.BytesIO(content), formats=[kind])
            _check_size(*picture.size)
            _check_frames(picture, kind)
            picture.load()
            return _in_eight_bits(ImageOps.exif_transpose(picture))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("it is damaged: its header cannot be read") from None
    except MemoryError:
        raise PictureError("it needs more memory to decode than a picture may have") from None
    except Exception as error:  # decoders raise anything on damaged files
        raise PictureError(f"it is damaged or cut off: {_first_line(error)}") from error


def _kind(content: bytes) -> str:
    """The format, by the content: names lie."""
    if not content:
        raise PictureError("the file is empty")
    if len(content) > MAX_FILE_BYTES:
        raise PictureError(f"the file has {len(content):,} bytes; a picture may have {MAX_FILE_BYTES:,}")
    for magic, kind in _KINDS.items():
        if content.startswith(magic):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    raise PictureError(f"it is {_other(content)}; JPEG, PNG and WebP are read")


def _other(content: bytes) -> str:
    for magic, what in _OTHERS:
        if content.startswith(magic):
            return what
    head = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if content[4:8] == b"ftyp":
        return "a HEIF or AVIF picture or a film"
    if b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "no picture" if b"\0" in content[:512] else "text"


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PictureError("it has no pixels")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise PictureError(
            f"it has {width:,} x {height:,} pixels; a picture may have {MAX_PIXELS:,} in all and {MAX_SIDE:,} a side"
        )


def _check_frames(picture: "Image", kind: str) -> None:
    frames = getattr(picture, "n_frames", 1)
    # A JPEG may hold a thumbnail or a depth map behind its picture, which is no animation.
    if kind != "JPEG" and frames > 1:
        raise PictureError(f"it is animated ({frames:,} frames); send one picture")


def _in_eight_bits(picture: "Image") -> "Image":
    """RGB or RGBA. Grey of 16 bits is scaled; the library would cut it off at 255."""
    if picture.mode.startswith("I"):
        picture = picture.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        picture.info.pop("transparency", None)  # a value of 16 bits
    is_transparent = picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info
    return picture.convert("RGBA" if is_transparent else "RGB")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
