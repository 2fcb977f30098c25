"""All pictures that a model drew of a job's prompts, on one sheet: a row for each prompt, a column for each step."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_MARGIN = 8
_LINE = 14  # pixels of a line of text
_PROMPT_CHARACTERS = 200


def sample_sheet(prompts: Sequence[str], files: Mapping[tuple[int, int], Path], cell: int = 192) -> bytes:
    """A PNG file. `files` are pictures by prompt, from 0, and step; those that are missing stay blank. Cells have
    edges of `cell` pixels; pictures keep their shape, and small ones are enlarged without being smoothed."""
    from PIL import Image, ImageDraw

    steps = sorted({step for _, step in files})
    width = _MARGIN + max(1, len(steps)) * (cell + _MARGIN)
    height = _LINE + _MARGIN + len(prompts) * (_LINE + cell + _MARGIN)
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for column, step in enumerate(steps):
        left = _MARGIN + column * (cell + _MARGIN)
        pen.text((left, 2), f"step {step}", fill="black")
        for row in range(len(prompts)):
            if (row, step) in files:
                top = _top(row, cell) + _LINE
                with Image.open(files[row, step]) as opened:
                    sheet.paste(_fitted(opened.convert("RGB"), cell), (left, top))
    for row, prompt in enumerate(prompts):
        _write(pen, prompt, _top(row, cell))
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    return content.getvalue()


def _top(row: int, cell: int) -> int:
    return _LINE + _MARGIN + row * (_LINE + cell + _MARGIN)


def _fitted(picture: "Image", cell: int) -> "Image":
    from PIL import Image

    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _write(pen: "ImageDraw", prompt: str, top: int) -> None:
    line = " ".join(prompt.split())[:_PROMPT_CHARACTERS] or "(empty prompt)"
    pen.text((_MARGIN, top), line, fill="black")
