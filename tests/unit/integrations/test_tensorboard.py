"""What TensorBoard reads from the event files of a job."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tunesmith.spec.lifecycle import State


@pytest.fixture
def read(tracked):
    """By tag, steps and values of a job's figures, as TensorBoard reads them."""

    def read(job, tag="train/loss"):
        accumulator = EventAccumulator(str(tracked.folder / job.id / "tensorboard"), purge_orphaned_data=False)
        accumulator.Reload()
        return [(each.step, each.value) for each in accumulator.Scalars(tag)]

    return read


def test_every_job_has_an_event_file_with_its_figures_and_samples(tracked, read):
    job = tracked.submit()
    tracked.happen(job, "state", state=State.RUNNING)
    for step in (1, 2, 3):
        tracked.step(job, step, loss=step / 2)
    tracked.evaluate(job, 3, loss=4)
    tracked.sample(job, 3)
    feeder = tracked.feeder("tensorboard")
    tracked.run(feeder)
    assert read(job) == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert read(job, "eval/loss") == [(3, 4.0)]
    tracked.end(job)
    tracked.run(feeder)
    standing = tracked.standing(job, "tensorboard")
    assert standing.state == "done"
    assert Path(urlsplit(standing.url).path) == tracked.folder / job.id / "tensorboard"
    accumulator = EventAccumulator(str(tracked.folder / job.id / "tensorboard")).Reload()
    [text] = accumulator.Tensors("sample/0/text_summary")
    assert "你好" in text.tensor_proto.string_val[0].decode()
    assert accumulator.Scalars("train/loss")[0].wall_time == pytest.approx(tracked.clock(), abs=60)


def test_a_restarted_server_goes_on_without_a_point_twice(tracked, read):
    job = tracked.submit()
    for step in range(1, 10):
        tracked.step(job, step)
        feeder = tracked.feeder("tensorboard")  # the one before was killed
        tracked.run(feeder)
    assert [step for step, _ in read(job)] == list(range(1, 10))
    assert len(list((tracked.folder / job.id / "tensorboard").iterdir())) == 1


def test_a_server_that_was_killed_before_it_remembered_writes_no_point_twice(tracked, read):
    job = tracked.submit()
    tracked.step(job, 1)
    tracked.run(tracked.feeder("tensorboard"))
    tracked.forget(job, "tensorboard", cursor=0)
    tracked.step(job, 2)
    tracked.run(tracked.feeder("tensorboard"))
    assert [step for step, _ in read(job)] == [1, 2]


def test_steps_that_are_done_again_are_written_once(tracked, read):
    job = tracked.submit()
    for step in (1, 2, 3):
        tracked.step(job, step, loss=step)
    for step in (2, 3, 4):
        tracked.step(job, step, loss=10 * step, attempt=2)
    tracked.run(tracked.feeder("tensorboard"))
    assert read(job) == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_job_without_figures_has_no_file(tracked):
    job = tracked.submit()
    tracked.end(job, State.CANCELLED)
    tracked.run(tracked.feeder("tensorboard"))
    assert tracked.standing(job, "tensorboard").state == "done"
    assert tracked.standing(job, "tensorboard").url is None
    assert not tracked.folder.exists()


def test_a_volume_that_takes_no_file_delays_the_figures_and_loses_none(tracked, read):
    job = tracked.submit()
    tracked.folder.write_text("in the way")
    tracked.step(job, 1)
    feeder = tracked.feeder("tensorboard")
    tracked.run(feeder)
    assert "cannot be written" in tracked.standing(job, "tensorboard").error
    tracked.folder.unlink()
    tracked.step(job, 2)
    tracked.run(feeder, 30)
    assert [step for step, _ in read(job)] == [1, 2]
    shutil.rmtree(tracked.folder)


def test_a_picture_is_shown_as_one(tracked):
    job = tracked.submit()
    content = tracked.draw(job, 3)
    tracked.run(tracked.feeder("tensorboard"))
    accumulator = EventAccumulator(str(tracked.folder / job.id / "tensorboard")).Reload()
    [image] = accumulator.Images("sample/0")
    assert (image.step, image.width, image.height) == (3, 64, 48)
    assert image.encoded_image_string == content


def test_a_sample_that_a_crash_cut_off_among_others_of_its_step_is_told_and_the_others_once(tracked):
    job = tracked.submit()
    tracked.sample(job, 5, number=0)
    for number in (0, 1):
        tracked.sample(job, 5, number=number, attempt=2, text="again")
    tracked.run(tracked.feeder("tensorboard"))
    accumulator = EventAccumulator(str(tracked.folder / job.id / "tensorboard")).Reload()
    told = {number: accumulator.Tensors(f"sample/{number}/text_summary") for number in (0, 1)}
    assert [len(each) for each in told.values()] == [1, 1]
    assert "again" in told[1][0].tensor_proto.string_val[0].decode()
