"""Transforms as a spec names them: checked before anything is fetched, and carried out by the process that decodes."""

from pathlib import PurePosixPath

import pytest

from stored_jobs import job_spec
from tiny_pictures import png
from tunesmith.data.imaging.protocol import Place
from tunesmith.jobs.pictures.decoder import Decoder
from tunesmith.jobs.pictures.transforming import check_transforms, transform
from tunesmith.jobs.pictures.verifying import Entry, verify
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.job import DataSource, DataSpec, ImagesSpec

PARAM = "data.images.transforms.0"


class Nobody:
    """A report that nobody reads."""

    def poll(self):
        """Go on."""

    def stage(self, stage, done, total):
        """Go on."""


def spec_of(*transforms):
    images = ImagesSpec(
        sources=("https://pictures.example/a.png",),
        trigger_word="sks",
        captioning="trigger_only",
        transforms=transforms,
        resolution=(64,),
    )
    data = DataSpec(
        train=DataSource(kind="images", id="pictures", sha256=None),
        validation=None,
        max_length=64,
        over_long="truncate",
        packing=False,
        max_samples=None,
        images=images,
    )
    return job_spec(data=data)


def test_a_transform_that_names_no_parameter_has_its_defaults(tmp_path):
    spec = spec_of({"type": "dedupe"}, {"type": "pad_to_square"})
    check_transforms(spec.data.images.transforms)
    entries = []
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        path = tmp_path / f"{name}.png"
        path.write_bytes(png(colour))
        entries.append(Entry(name, PurePosixPath(path.name), Place(path=path)))
    with Decoder(lambda: None) as decoder:
        verified, _ = verify(entries, decoder, Nobody())
        made, left_out = transform(verified, spec, tmp_path, decoder, Nobody())
    assert [each.shown for each in made] == ["a", "c"]
    assert [(each.picture, each.reason) for each in left_out] == [("b", "it looks like a, and dedupe keeps the first")]
    assert {(each.written.width, each.written.height) for each in made} == {(64, 64)}


@pytest.mark.parametrize(
    ("wish", "param", "message", "hint"),
    [
        ({"type": "melt"}, f"{PARAM}.type", "no transform is called 'melt'", "grayscale"),
        ({"type": "blur"}, f"{PARAM}.radius", f"{PARAM}.radius is required.", "radius"),
        ({"type": "blur", "radius": "1"}, f"{PARAM}.radius", "input should be a valid number, got '1'.", "radius"),
        ({"type": "grayscale", "no": 1}, f"{PARAM}.no", f"{PARAM}.no is not a field of this request.", "none"),
    ],
)
def test_what_is_no_transform_is_refused_with_what_there_is(wish, param, message, hint):
    with pytest.raises(InvalidRequestError) as refused:
        check_transforms([wish])
    assert refused.value.param == param
    assert message in refused.value.message
    assert hint in refused.value.hint
