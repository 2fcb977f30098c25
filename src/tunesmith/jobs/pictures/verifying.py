"""Looks into files that were fetched: which are pictures that can be used, and which texts lie beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tunesmith.data.imaging.likeness import are_alike
from tunesmith.data.imaging.protocol import Caption, Decode, Decoded, Open, Opened, Place, ReadCaption, Refused
from tunesmith.jobs.pictures.collecting import PARAM, Fetched
from tunesmith.jobs.pictures.decoder import Decoder
from tunesmith.jobs.pictures.report import LeftOut, Report
from tunesmith.spec.errors import DatasetError

MAX_PICTURES = 10_000
_NEAR_BITS = 4


@dataclass(frozen=True)
class Entry:
    """A file, or a member of an archive."""

    shown: str
    location: PurePosixPath
    """Where it lay, archives taken for folders."""

    place: Place


@dataclass(frozen=True)
class Verified:
    """A picture that can be decoded."""

    entry: Entry
    decoded: Decoded


@dataclass
class Sorted:
    """What the files are."""

    pictures: list[Entry]
    texts: dict[PurePosixPath, Entry]
    """By location, its ending `.txt` in small letters."""

    left_out: list[LeftOut]


def sort(files: Sequence[Fetched], decoder: Decoder, report: Report) -> Sorted:
    """Open archives, and tell texts from what should be pictures.

    Raises:
        DatasetError: there are more than `MAX_PICTURES`.
    """
    found = Sorted([], {}, [])
    for number, file in enumerate(files):
        report.stage("verifying", 0, max(len(files), len(found.pictures)))
        entry = Entry(file.shown, file.location, Place(path=file.path))
        opened = decoder.ask(Open(place=entry.place))
        if isinstance(opened, Refused):
            found.left_out.append(LeftOut(picture=file.shown, reason=opened.reason))
        elif isinstance(opened, Opened) and opened.members is not None:
            _add_members(found, entry, opened.members, number)
        else:
            _add(found, entry)
    if len(found.pictures) > MAX_PICTURES:
        raise DatasetError(
            f"There are {len(found.pictures):,} pictures; up to {MAX_PICTURES:,} are trained on.", param=PARAM
        )
    return found


def verify(entries: Sequence[Entry], decoder: Decoder, report: Report) -> tuple[list[Verified], list[LeftOut]]:
    """Decode every picture whole."""
    verified, left_out = [], []
    for number, entry in enumerate(entries):
        report.stage("verifying", number, len(entries))
        answer = decoder.ask(Decode(place=entry.place))
        if isinstance(answer, Decoded):
            verified.append(Verified(entry, answer))
        elif isinstance(answer, Refused):
            left_out.append(LeftOut(picture=entry.shown, reason=answer.reason))
    report.stage("verifying", len(entries), len(entries))
    return verified, left_out


def read_texts(found: Sorted, decoder: Decoder) -> tuple[dict[PurePosixPath, str], list[LeftOut]]:
    """What the texts say, and which cannot be read."""
    texts, left_out = {}, []
    for location, entry in found.texts.items():
        answer = decoder.ask(ReadCaption(place=entry.place))
        if isinstance(answer, Caption):
            texts[location] = answer.text
        elif isinstance(answer, Refused):
            left_out.append(LeftOut(picture=entry.shown, reason=answer.reason))
    return texts, left_out


def text_beside(location: PurePosixPath, texts: dict[PurePosixPath, str]) -> str | None:
    """The text of a picture's name, else the `default.txt` of its folder."""
    own = texts.get(location.with_suffix(".txt"))
    return own if own is not None else texts.get(location.with_name("default.txt"))


def tell_alike(pictures: Sequence[Verified], report: Report) -> None:
    """Say which pictures are the same, or nearly. They stay, unless a transform `dedupe` is asked for."""
    same, near, seen = [], [], dict[str, Verified]()
    for picture in pictures:
        report.poll()
        if picture.decoded.pixels in seen:
            same.append((seen[picture.decoded.pixels].entry.shown, picture.entry.shown))
            continue
        look = picture.decoded.look
        first = next((each for each in seen.values() if are_alike(each.decoded.look, look, _NEAR_BITS)), None)
        if first is not None:
            near.append((first.entry.shown, picture.entry.shown))
        seen[picture.decoded.pixels] = picture
    for pairs, what in ((same, "the same, pixel by pixel"), (near, "nearly the same")):
        if pairs:
            names = "; ".join(f"{one} and {other}" for one, other in pairs[:5])
            more = f" (the first 5 of {len(pairs):,})" if len(pairs) > 5 else ""
            report.note(
                f"Pictures that are {what}{more}: {names}. The transform `dedupe` would leave them out.",
                {"alike": pairs[:100], "count": len(pairs)},
            )


def _add_members(found: Sorted, archive: Entry, members: Sequence[str], number: int) -> None:
    if not members:
        found.left_out.append(LeftOut(picture=archive.shown, reason="the archive holds no files"))
    for member in members:
        _add(
            found,
            Entry(
                shown=f"{archive.shown}: {member}",
                # Archives of one name are told apart by their place.
                location=PurePosixPath(f"archive {number}", member),
                place=Place(path=archive.place.path, member=member),
            ),
        )


def _add(found: Sorted, entry: Entry) -> None:
    if entry.location.suffix.lower() == ".txt":
        found.texts[entry.location.with_suffix(".txt")] = entry
    else:
        found.pictures.append(entry)
