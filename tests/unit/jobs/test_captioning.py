"""Captions by a model in a true worker process."""

import shutil
import sys
from dataclasses import dataclass, field

import pytest
from PIL import Image

from stored_jobs import job_spec
from tiny_captioner import write_tiny_captioner
from tunesmith.assets.models import BaseModels
from tunesmith.devices import CPU
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.runners.local import LocalRunner
from tunesmith.spec.errors import ModelLoadError, UnavailableError
from tunesmith.spec.job import DataSource, DataSpec, ImagesSpec

pytestmark = pytest.mark.slow


class EndedError(Exception):
    """Nobody waits any more."""


@dataclass
class Told:
    """A report that ends the captioning when so many captions are there."""

    end_at: int | None = None
    stages: list = field(default_factory=list)

    def stage(self, stage, done, total):
        self.stages.append((stage, done, total))
        if self.end_at is not None and done >= self.end_at:
            raise EndedError


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return write_tiny_captioner(tmp_path_factory.mktemp("captioner") / "blip")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    for name, color in (("1", "red"), ("2", "blue"), ("3", "red")):
        Image.effect_noise((64, 48), 90 if color == "red" else 1).convert("RGB").save(folder / f"{name}.png")
    shutil.copy(folder / "1.png", folder / "3.png")
    return folder


@pytest.fixture
def make(tmp_path):
    runs = tmp_path / "checks"
    runs.mkdir()

    def made(model):
        runner = LocalRunner(sys.executable, False, (CPU,))
        return Captioner(runner, BaseModels({"blip": model}, ()), "blip", runs)

    yield made
    assert list(runs.iterdir()) == []


def spec(prompt=None):
    images = ImagesSpec(
        sources=("https://example.org/a.png",), trigger_word="sks", captioning="auto", resolution=(512,),
        caption_prompt=prompt,
    )  # fmt: skip
    train = DataSource(kind="images", id="source_images", sha256=None)
    data = DataSpec(
        train=train, validation=None, max_length=64, over_long="drop", packing=False, max_samples=None, images=images
    )
    return job_spec(data=data)


NAMES = ["1.png", "2.png", "3.png"]


def test_a_model_describes_every_picture_and_equal_ones_alike(make, blip, pictures):
    told = Told()
    captions = make(blip).captions(spec(), pictures, NAMES, told)
    assert list(captions) == NAMES
    assert captions["1.png"]
    assert captions["1.png"] == captions["3.png"]
    assert told.stages[-1][0] == "captioning"
    begun = make(blip).captions(spec("a photo of"), pictures, NAMES, Told())
    assert begun["1.png"].startswith("a photo of")


def test_nobody_waits_for_the_worker_of_a_cancelled_job(make, blip, pictures):
    with pytest.raises(EndedError):
        make(blip).captions(spec(), pictures, NAMES, Told(end_at=0))


def test_a_folder_that_is_no_captioning_model_is_named_with_the_reason(make, tiny_model, pictures):
    with pytest.raises(ModelLoadError) as caught:
        make(tiny_model).captions(spec(), pictures, NAMES, Told())
    assert caught.value.param == "data.images.captioning"
    assert "captioning_model" in caught.value.hint


def test_a_model_that_is_not_there_is_unavailable(make, tmp_path):
    with pytest.raises(UnavailableError, match="captioning model cannot be used"):
        make(tmp_path / "nowhere").check()
