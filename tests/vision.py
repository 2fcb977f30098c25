"""Tiny models that read pictures, pictures, and rows that show them."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from attempts import attempt, write_rows
from tunesmith.data.examples import Conversation
from tunesmith.data.row_pictures import RowPicturesWriter
from tunesmith.data.rows import read_examples
from tunesmith.spec.job import AttemptSpec

COLOURS = ("red", "green", "blue", "black", "white", "yellow")


def png(colour: str, size: tuple[int, int] = (40, 24)) -> bytes:
    """A picture of one colour."""
    return encoded(Image.new("RGB", size, colour))


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def shows(*colours: str, question: str = "What colour is it?", answer: str | None = None) -> dict[str, Any]:
    """A row whose user turn shows a picture of each colour; its answer names them unless another is given."""
    parts = [{"type": "image", "image": colour} for colour in colours]
    return {
        "messages": [
            {"role": "user", "content": [*parts, {"type": "text", "text": question}]},
            {"role": "assistant", "content": answer or f"It is {' and '.join(colours)}."},
        ]
    }


def says(question: str, answer: str) -> dict[str, Any]:
    """A row without pictures."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def mixed_rows(count: int) -> list[dict[str, Any]]:
    """Rows with one picture, with two, and with none."""
    kinds = (
        lambda n: shows(COLOURS[n % 6]),
        lambda n: shows(COLOURS[n % 6], COLOURS[(n + 1) % 6], question=f"Which {n} colours are these, in order?"),
        lambda n: says(f"How many are {n} and one?", f"There are {n + 1} of them."),
    )
    return [kinds[n % 3](n) for n in range(count)]


def gather(rows: Path, folder: Path, contents: dict[str, bytes] | None = None) -> Path:
    """The pictures of a file's rows, whose sources are colours or keys of `contents`."""
    path = folder / f"{rows.stem}-pictures"
    with path.open("wb") as file, RowPicturesWriter(file) as writer:
        for example in read_examples(rows):
            if isinstance(example, Conversation) and example.images:
                found = [(contents or {}).get(image.source) or png(image.source) for image in example.images]
                writer.add_row(example.member, example.line, [writer.add(each) for each in found])
        writer.finish()
    return path


def vision_attempt(
    model: Path,
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    validation: Iterable[dict[str, Any]] | None = None,
    contents: dict[str, bytes] | None = None,
    **changes: Any,
) -> AttemptSpec:
    """An attempt on rows that show pictures. Other keyword arguments are those of `attempt`."""
    train = write_rows(folder / "train.jsonl", rows)
    scored = write_rows(folder / "validation.jsonl", validation) if validation is not None else None
    made = attempt(model, train, modality="vision_language", validation=scored, **changes)
    pictures = {"pictures": gather(train, folder, contents)}
    if scored is not None:
        pictures["validation_pictures"] = gather(scored, folder, contents)
    return made.model_copy(update={"inputs": made.inputs.model_copy(update=pictures)})
