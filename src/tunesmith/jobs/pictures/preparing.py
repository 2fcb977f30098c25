"""The way of a job's pictures from their addresses to one set in the storage."""

import io
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from tunesmith.data.imaging.captions import caption_of, with_trigger
from tunesmith.data.picture_set import Picture, PictureSetWriter
from tunesmith.jobs.fetching import Keep
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.jobs.pictures.collecting import PARAM, Collector, check_sources
from tunesmith.jobs.pictures.decoder import Decoder
from tunesmith.jobs.pictures.report import LeftOut, Report
from tunesmith.jobs.pictures.transforming import Made, check_transforms, transform
from tunesmith.jobs.pictures.verifying import read_texts, sort, tell_alike, text_beside, verify
from tunesmith.spec.errors import DatasetError
from tunesmith.spec.image_training import images_of
from tunesmith.spec.job import JobSpec
from tunesmith.storage import BlobWriter, Storage

LEAST_PICTURES = 1

_TOLD = 100
_TOLD_IN_ERROR = 5


class Pictures:
    """Prepares sets of pictures. What it works with lies in a folder of its own, and goes when it is done."""

    def __init__(self, collector: Collector, captioner: Captioner, storage: Storage, folder: Path) -> None:
        self._collector = collector
        self._captioner = captioner
        self._storage = storage
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)  # of jobs that an earlier server was preparing
        folder.mkdir(parents=True)

    def check(self, org: str, spec: JobSpec) -> None:
        """Refuse what can be refused before anything is fetched.

        Raises:
            TunesmithError: the spec names no pictures, an address or a transform is none, an uploaded file is not
                there, or captions by a model are asked for and there is none; `param` is the path in the spec.
        """
        images = images_of(spec)
        check_sources(images)
        self._collector.check_files(org, images)
        check_transforms(images.transforms)
        if images.captioning == "auto":
            self._captioner.check()

    def prepare(self, org: str, spec: JobSpec, report: Report, keep: Keep) -> JobSpec:
        """Write the set, and give the spec with its digest. Equal pictures, transforms and captions are equal bytes.

        Raises:
            DatasetError: too few pictures are left, or there are too many.
            TunesmithError: they have too many bytes, the captioning model fails, or the volume is full. Whatever
                `report` and `keep` raise passes through.
        """
        folder = self._folder / uuid.uuid4().hex
        content = self._storage.writer()
        try:
            for part in ("fetched", "made"):
                (folder / part).mkdir(parents=True)
            self._write(org, spec, folder, content, report)
            return keep("train", "sha256", content)
        finally:
            content.discard()
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, org: str, spec: JobSpec, folder: Path, content: BlobWriter, report: Report) -> None:
        images = images_of(spec)
        fetched, left_out = self._collector.collect(org, images, spec.data.train.secret, folder / "fetched", report)
        with Decoder(report.poll) as decoder:
            found = sort(fetched, decoder, report)
            verified, bad = verify(found.pictures, decoder, report)
            texts, unreadable = read_texts(found, decoder) if images.captioning == "existing" else ({}, [])
            left_out += [*found.left_out, *bad, *unreadable]
            _tell_left_out(left_out, report)
            tell_alike(verified, report)
            made, removed = transform(verified, spec, folder / "made", decoder, report)
        _tell_left_out(removed, report)
        left_out += removed
        _require_enough(len(made), left_out)
        captions = self._captions(spec, made, texts, folder / "made", report)
        _write_set(made, captions, content, report)
        total = len(made) + len(left_out)
        report.completed(
            f"{len(made):,} of {total:,} pictures are prepared."
            + (f" Left out: {_listed(left_out, _TOLD_IN_ERROR)}." if left_out else ""),
            {
                "done": len(made),
                "total": total,
                "left_out": [each.model_dump() for each in left_out[:_TOLD]],
                "left_out_count": len(left_out),
            },
        )

    def _captions(
        self, spec: JobSpec, made: Sequence[Made], texts: Mapping[Any, str], folder: Path, report: Report
    ) -> list[str]:
        images = images_of(spec)
        if images.captioning == "auto":
            kept = {each.path.name for each in made}
            for path in folder.iterdir():
                if path.name not in kept:
                    path.unlink()
            found = self._captioner.captions(spec, folder, sorted(kept), report)
            return [with_trigger(found[each.path.name], images.trigger_word) for each in made]
        report.stage("captioning", 0, len(made))
        places = [each.source.entry.location for each in made]
        beside = [text_beside(place, dict(texts)) for place in places]
        if images.captioning == "existing" and None in beside:
            bare = [each.shown for each, text in zip(made, beside, strict=True) if text is None]
            report.note(
                f"{len(bare):,} pictures have no text beside them; their caption is the trigger word: "
                f"{', '.join(bare[:_TOLD_IN_ERROR])}{', …' if len(bare) > _TOLD_IN_ERROR else ''}.",
                {"pictures": bare[:_TOLD], "count": len(bare)},
            )
        report.stage("captioning", len(made), len(made))
        return [caption_of(images, place.name, text) for place, text in zip(places, beside, strict=True)]


def _write_set(made: Sequence[Made], captions: Sequence[str], content: BlobWriter, report: Report) -> None:
    with PictureSetWriter(cast(IO[bytes], _Stream(content))) as writer:
        pictures = []
        for number, (each, caption) in enumerate(zip(made, captions, strict=True)):
            report.stage("writing", number, len(made))
            name = f"{number:05d}.png"
            writer.add(name, each.path.read_bytes())
            pictures.append(
                Picture(
                    file=name,
                    source=each.shown,
                    caption=caption,
                    width=each.written.width,
                    height=each.written.height,
                    sha256=each.written.sha256,
                )
            )
        writer.finish(pictures)
    content.finish()
    report.stage("writing", len(made), len(made))


class _Stream(io.RawIOBase):
    """A content as a file that can only be written on."""

    def __init__(self, content: BlobWriter) -> None:
        self._content = content

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, piece: Any, /) -> int:
        """Append. Raises DiskFullError."""
        self._content.write(bytes(piece))
        return len(piece)


def _require_enough(count: int, left_out: Sequence[LeftOut]) -> None:
    if count >= LEAST_PICTURES:
        return
    why = f": {_listed(left_out, _TOLD_IN_ERROR)}" if left_out else "; what was sent holds texts alone"
    raise DatasetError(
        f"No picture can be trained on{why}.",
        param=PARAM,
        hint="Send JPEG, PNG or WebP files, or ZIP archives of them.",
    )


def _tell_left_out(left_out: Sequence[LeftOut], report: Report) -> None:
    for each in left_out:
        report.note(f"Left out: {each.sentence()}.", each.model_dump())


def _listed(left_out: Sequence[LeftOut], count: int) -> str:
    more = f" (the first {count} of {len(left_out):,})" if len(left_out) > count else ""
    return "; ".join(each.sentence() for each in left_out[:count]) + more
