"""Small real pictures and what they show: the npm package `emoji-datasource-twitter`, whose pictures are CC-BY 4.0.

npm pack emoji-datasource-twitter@16.0.0
"""

import io
import json
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

QUESTION = "What does the picture show?"

_KINDS = {
    "a flag": ("country-flag", "subdivision-flag"),
    "a face": ("face-",),
    "an animal": ("animal-",),
    "clothes": ("clothing",),
    "a clock": ("time",),
    "a heart": ("heart",),
}
"""What the model is to say, and the beginnings of the package's own names of groups."""

_MOST = 120
"""Pictures of a kind. The others are left out, so that flags are not most of all."""


@dataclass(frozen=True)
class Picture:
    """One picture."""

    name: str
    content: bytes
    """PNG, 64 x 64."""

    kind: str


def load_pictures(package: Path) -> tuple[list[Picture], list[Picture]]:
    """Pictures to train on, and others that are held out: every fourth of each kind."""
    by_kind: defaultdict[str, list[Picture]] = defaultdict(list)
    with tarfile.open(package) as archive:
        entries = json.loads(_read(archive, "package/emoji.json"))
        for entry in sorted(entries, key=lambda entry: str(entry["image"])):
            kind = _kind(entry["subcategory"])
            if kind is not None and entry["has_img_twitter"] and len(by_kind[kind]) < _MOST:
                content = _read(archive, f"package/img/twitter/64/{entry['image']}")
                by_kind[kind].append(Picture(entry["image"], content, kind))
    pictures = [(number % 4 == 3, each) for kind in by_kind.values() for number, each in enumerate(kind)]
    return [each for held, each in pictures if not held], [each for held, each in pictures if held]


def packed(pictures: Sequence[Picture]) -> bytes:
    """An archive of rows and the pictures that they name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.jsonl", "".join(json.dumps(_row(each)) + "\n" for each in pictures))
        for each in pictures:
            archive.writestr(f"pictures/{each.name}", each.content)
    return file.getvalue()


def _row(picture: Picture) -> dict[str, object]:
    asked = [{"type": "image", "image": f"pictures/{picture.name}"}, {"type": "text", "text": QUESTION}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": picture.kind}]}


def _kind(group: str) -> str | None:
    return next((kind for kind, begins in _KINDS.items() if group.startswith(begins)), None)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
