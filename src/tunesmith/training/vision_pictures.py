"""Pictures from elsewhere as pixels: still ones alone, of known kinds and sizes, whatever their files claim."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from tunesmith.data.row_pictures import MAX_PICTURE_BYTES, RowPictures
from tunesmith.spec.errors import DatasetError
from tunesmith.training.processes import Helpers, cores

MAX_PIXELS = 50_000_000

_KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_GROUP = 32
_HINT = "Save it as a PNG or JPEG with 8 bits a channel, in RGB or grey."


def require_decodable(gathered: RowPictures, poll: Callable[[], None]) -> None:
    """Decode each picture once.

    Raises:
        DatasetError: one is no picture that can be trained on; the message names the line of a row that shows it.
    """

    def decode(group: Sequence[tuple[int, int]]) -> None:
        for picture, line in group:
            decoded(gathered.read(picture), line)

    groups = _groups(gathered)
    for group in islice(groups, 1):
        decode(group)
    further = next(groups, None)
    if further is not None:
        with Helpers(decode, poll, cores()) as helpers:
            for _ in helpers.map(chain([further], groups)):
                poll()


def _groups(gathered: RowPictures) -> Iterator[list[tuple[int, int]]]:
    waiting = iter(gathered.lines.items())
    while group := list(islice(waiting, _GROUP)):
        yield group


def decoded(content: bytes, line: int) -> Image.Image:
    """A picture in RGB, turned as its camera was held. What is transparent becomes white.

    Raises:
        DatasetError: the file is no picture that can be trained on; the message names the row's line.
    """
    if len(content) > MAX_PICTURE_BYTES:
        raise _refused(line, f"has {len(content):,} bytes; up to {MAX_PICTURE_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at here, and of odd metadata
            picture = Image.open(io.BytesIO(content), formats=_KINDS)
            _require_plain(picture, line)
            picture.load()
            return _in_rgb(ImageOps.exif_transpose(picture))
    except DatasetError:
        raise
    except UnidentifiedImageError:
        raise _refused(line, f"is none of {', '.join(_KINDS)}, or is damaged") from None
    except Image.DecompressionBombError:
        raise _refused(line, f"has more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # a file from elsewhere can be wrong in any way
        raise _refused(line, f"cannot be decoded: {error}") from error


def _require_plain(picture: Image.Image, line: int) -> None:
    """Refuse by the file's head, before any pixel is decoded."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _refused(line, f"has {width} x {height} pixels; up to {MAX_PIXELS:,} in all are read")
    frames = getattr(picture, "n_frames", 1)
    # A JPEG may hold a thumbnail or a depth map behind its picture, as cameras of phones write them.
    if frames > 1 and picture.format != "MPO":
        raise _refused(line, f"moves: it has {frames} frames")
    if picture.mode not in _MODES or _has_16_bits(picture):
        kind = "16 bits a channel" if _has_16_bits(picture) else f"the colours {picture.mode}"
        raise _refused(line, f"has {kind}")


def _has_16_bits(picture: Image.Image) -> bool:
    """Whether decoding would drop half of each number: the decoder's raw mode, such as `RGB;16B`, tells."""
    tiles: list[Any] = getattr(picture, "tile", [])
    return picture.mode[0] in "IF" or any(";16" in str(tile.args) for tile in tiles)


def _in_rgb(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def _refused(line: int, what: str) -> DatasetError:
    return DatasetError(f"Line {line}: a picture {what}.", hint=_HINT)
