"""Takes pictures through the job's transforms, and decides about those that choose among pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith.data.imaging.likeness import are_alike
from tunesmith.data.imaging.protocol import Refused, Transform, Written
from tunesmith.data.imaging.vocabulary import TRANSFORMS, Likeness, read_transform
from tunesmith.jobs.pictures.collecting import PARAM
from tunesmith.jobs.pictures.decoder import Decoder
from tunesmith.jobs.pictures.report import LeftOut, Report
from tunesmith.jobs.pictures.verifying import Verified
from tunesmith.spec.errors import DatasetError, InvalidRequestError
from tunesmith.spec.faults import sentence
from tunesmith.spec.image_training import images_of
from tunesmith.spec.job import JobSpec

MAX_SET_BYTES = 20 * 2**30
"""Of all prepared pictures of a job."""


@dataclass(frozen=True)
class Made:
    """A picture behind all transforms."""

    source: Verified
    path: Path
    written: Written

    @property
    def shown(self) -> str:
        """What messages call it."""
        return self.source.entry.shown


def check_transforms(transforms: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what is no transform, or has other parameters than it takes.

    Raises:
        InvalidRequestError: `param` is the path in the spec.
    """
    for number, transform in enumerate(transforms):
        param = f"data.images.transforms.{number}"
        name = transform.get("type")
        if not isinstance(name, str) or name not in TRANSFORMS:
            raise InvalidRequestError(
                f"{param}.type: no transform is called {str(name)[:64]!r}.",
                param=f"{param}.type",
                hint=f"Known: {', '.join(TRANSFORMS)}.",
            )
        try:
            read_transform(transform)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join([param, *map(str, first["loc"])])
            allowed = ", ".join(TRANSFORMS[name].model_fields) or "none"
            raise InvalidRequestError(
                sentence(first, path), param=path, hint=f"Parameters of {name!r}: {allowed}."
            ) from error


def transform(
    pictures: Sequence[Verified], spec: JobSpec, folder: Path, decoder: Decoder, report: Report
) -> tuple[list[Made], list[LeftOut]]:
    """Write every picture behind its transforms into a folder; and which are left out.

    Raises:
        DatasetError: they have more than `MAX_SET_BYTES` together.
    """
    transforms = images_of(spec).transforms
    made, left_out, size = [], [], 0
    for number, picture in enumerate(pictures):
        report.stage("transforming", number, len(pictures))
        path = folder / f"{number:05d}.png"
        # Drawn by the picture, not by its place: others that are left out change nothing.
        seed = f"{spec.optimization.seed}/{picture.decoded.pixels}"
        answer = decoder.ask(Transform(place=picture.entry.place, transforms=transforms, seed=seed, into=path))
        if isinstance(answer, Written):
            made.append(Made(picture, path, answer))
            size += answer.bytes
        elif isinstance(answer, Refused):
            left_out.append(LeftOut(picture=picture.entry.shown, reason=answer.reason))
        if size > MAX_SET_BYTES:
            raise DatasetError(
                f"The prepared pictures have more than {MAX_SET_BYTES // 2**30} GiB together.",
                param=PARAM,
                hint="Scale them down with the transform max_side.",
            )
    report.stage("transforming", len(pictures), len(pictures))
    kept, removed = _chosen(made, transforms, report)
    return kept, [*left_out, *removed]


def _chosen(
    made: Sequence[Made], transforms: Sequence[Mapping[str, Any]], report: Report
) -> tuple[list[Made], list[LeftOut]]:
    """What is left behind the filters, each in its place of the list."""
    left, left_out = list(made), []
    for place, canonical in enumerate(transforms):
        _, parameters = read_transform(canonical)
        if canonical["type"] == "min_size_filter":
            verdicts = [(each, _too_small(each, place)) for each in left]
        elif isinstance(parameters, Likeness):
            verdicts = list(_compared(left, place, parameters.max_distance, report))
        else:
            continue
        left_out += [LeftOut(picture=each.shown, reason=reason) for each, reason in verdicts if reason]
        left = [each for each, reason in verdicts if not reason]
    return left, left_out


def _too_small(made: Made, place: int) -> str | None:
    verdict = made.written.too_small
    return verdict[1] if verdict is not None and verdict[0] == place else None


def _compared(made: Sequence[Made], place: int, max_distance: int, report: Report) -> Iterator[tuple[Made, str | None]]:
    """Each picture, with the reason if it is like an earlier one that stays."""
    kept: list[Made] = []
    for each in made:
        report.poll()
        look = each.written.looks[place]
        first = next((one for one in kept if are_alike(one.written.looks[place], look, max_distance)), None)
        if first is None:
            kept.append(each)
        yield each, f"it looks like {first.shown}, and dedupe keeps the first" if first else None
