"""Small sets of pictures, and attempts that train on them."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from attempts import attempt
from tunesmith.data.picture_set import Picture, PictureSetWriter
from tunesmith.spec.job import AttemptSpec, DataSource

COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def png(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of one colour."""
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, format="PNG")
    return content.getvalue()


def write_pictures(path: Path, sizes: Sequence[tuple[int, int]], captions: Sequence[str] | None = None) -> Path:
    """A set of pictures of one colour each with a stripe, of these widths and heights."""
    with path.open("wb") as file, PictureSetWriter(file) as writer:
        pictures = []
        for number, (width, height) in enumerate(sizes):
            colour = COLOURS[number % len(COLOURS)]
            image = Image.new("RGB", (width, height), colour)
            image.paste("gray", (0, number % height, width, number % height + 2))
            content = io.BytesIO()
            image.save(content, format="PNG")
            name = f"{number:05d}.png"
            writer.add(name, content.getvalue())
            pictures.append(
                Picture(
                    file=name,
                    source=f"{colour}.png",
                    caption=captions[number] if captions else f"sks {colour} flag",
                    width=width,
                    height=height,
                    sha256=hashlib.sha256(content.getvalue()).hexdigest(),
                )
            )
        writer.finish(pictures)
    return path


def picture_attempt(
    model: Path,
    train: Path,
    *,
    resolution: Sequence[int] = (64,),
    parameters: dict[str, Any] | None = None,
    **changes: Any,
) -> AttemptSpec:
    """An attempt on pictures. Keyword arguments replace fields as in `attempt`."""
    images = {
        "sources": ["https://example.test/a.png?signature=canary"],
        "trigger_word": "sks",
        "captioning": "existing",
        "resolution": list(resolution),
    }
    settings = {"sample_width": 64, "sample_height": 64, **(parameters or {})}
    ours = {
        "method": {"kind": "text_to_image", "parameters": settings},
        "modality": "image",
        "images": images,
        "over_long": "truncate",
        "max_length": 64,
        "schedule": "constant",
        "warmup_ratio": 0.0,
        "batch_size": 2,
        "micro_batch_size": 2,
    }
    order = attempt(model, train, **(ours | changes))
    source = DataSource(kind="images", id="pictures", sha256="0" * 64)
    data = order.spec.data.model_copy(update={"train": source})
    return order.model_copy(update={"spec": order.spec.model_copy(update={"data": data})})
