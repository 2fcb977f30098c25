"""Exports with a runner whose workers do what the test says."""

import json

import pytest

from tunesmith.assets.models import ProducedModels
from tunesmith.jobs.export_orders import ExportOrders
from tunesmith.jobs.exporting import MAX_WAITING, Exporter, Exports
from tunesmith.jobs.stalls import Patience
from tunesmith.runners import Exit
from tunesmith.spec import events
from tunesmith.spec.errors import (
    ArtifactError,
    BusyError,
    DiskFullError,
    ExportNotFoundError,
    InvalidRequestError,
    ModelNotFoundError,
    UnsupportedError,
)
from tunesmith.spec.export import Verification
from tunesmith.spec.job import SelectionSpec, Submission
from tunesmith.store import events as stored_events
from tunesmith.store import exports, jobs, models

NOW = "2026-01-01T00:00:00Z"
CHECK = Verification(
    prompts=1, prompts_from="fixed", positions=16, kl_divergence=0.0, tolerance=0.1, same_choice=1.0,
    largest_logit_difference=0.0, base_kl_divergence=None,
)  # fmt: skip


@pytest.fixture
def kitchen(house, tmp_path):
    """An exporter over a model that was brought in."""
    resolver = house.scheduler._resolver
    folder = tmp_path / "exports"
    orders = ExportOrders(house.database, resolver, house.storage, tmp_path / "jobs", folder)
    (tmp_path / "adapter").mkdir()
    with house.database.write() as connection:
        models.add(
            connection, org="local", name=None, id="ft:m", job_id=None, base="m", base_revision=None, kind="adapter",
            path=str(tmp_path / "adapter"), description=None, created_at=1.0,
        )  # fmt: skip

    class Kitchen:
        runner = house.runner
        exports = Exports(house.database, orders, folder, lambda: None, "local")
        others = Exports(house.database, orders, folder, lambda: None, "other")
        produced = ProducedModels(house.database, "local")

        def __init__(self):
            self.restart()

        def restart(self, limit=1800):
            self.tick = Exporter(house.database, house.runner, orders, folder, Patience(warning=600, limit=limit)).tick

        def make(self):
            return self.exports.create("ft:m", "merged", dtype=None, quantization=None)

        def look(self, export):
            return self.exports.get("ft:m", export.id)

        def finish(self):
            """Let the newest worker write its files and end."""
            artifact = self.runner.runs[-1].artifact
            artifact.mkdir()
            (artifact / "model.safetensors").write_bytes(b"weights")
            listed = [{"name": "model.safetensors", "size": 7, "sha256": "3" * 64}]
            (artifact / "manifest.json").write_text(json.dumps({"files": listed}))
            self.runner.report(events.Exported(at=NOW, path="artifact", verification=CHECK))
            self.runner.end(Exit(code=0))

    Kitchen.folder = folder
    Kitchen.orders = orders
    return Kitchen()


def test_an_export_is_made_checked_and_offered(kitchen):
    export = kitchen.make()
    assert (export.state, export.options.dtype) == ("queued", "float32")
    kitchen.tick()
    kitchen.runner.report(events.Exporting(at=NOW, stage="writing", done=1, total=2))
    kitchen.tick()
    assert (kitchen.look(export).state, kitchen.look(export).progress.stage) == ("running", "writing")
    kitchen.finish()
    kitchen.tick()
    made = kitchen.look(export)
    assert (made.state, made.progress, made.verification) == ("ready", None, CHECK)
    assert [(file.name, file.bytes, file.sha256) for file in made.files] == [("model.safetensors", 7, "3" * 64)]
    assert (kitchen.exports.path(made) / "model.safetensors").read_bytes() == b"weights"
    assert [each.name for each in (kitchen.folder / made.id).iterdir()] == ["files"]


def test_one_export_is_made_at_a_time_in_the_order_of_arrival(kitchen):
    first, second = kitchen.make(), kitchen.make()
    kitchen.tick()
    kitchen.tick()
    assert (kitchen.look(first).state, kitchen.look(second).state) == ("running", "queued")
    kitchen.finish()
    kitchen.tick()
    kitchen.tick()
    assert (kitchen.look(first).state, kitchen.look(second).state) == ("ready", "running")


def test_an_export_that_fails_its_check_has_figures_and_no_files(kitchen):
    export = kitchen.make()
    kitchen.tick()
    half = kitchen.runner.runs[-1].path / ".artifact.77"
    half.mkdir()
    kitchen.runner.report(events.Failed(at=NOW, error=ArtifactError("0.7 nats away").info))
    kitchen.runner.end(Exit(code=1))
    kitchen.tick()
    failed = kitchen.look(export)
    assert (failed.state, failed.error.code, failed.files) == ("failed", "artifact", ())
    assert not half.exists()
    with pytest.raises(FileNotFoundError):
        list(kitchen.exports.path(failed).iterdir())


def test_an_export_whose_worker_is_lost_is_begun_anew_and_fails_the_third_time(kitchen):
    export = kitchen.make()
    for attempt in (1, 2, 3):
        kitchen.tick()
        assert (kitchen.look(export).state, kitchen.look(export).attempts) == ("running", attempt)
        kitchen.runner.end(Exit(signal=9))
        kitchen.tick()
        if kitchen.look(export).state == "running":
            continue
    kitchen.tick()
    failed = kitchen.look(export)
    assert (failed.state, failed.error.code) == ("failed", "worker_lost")
    assert "3 times, the last time: signal 9" in failed.error.message


def test_an_export_whose_memory_ran_out_fails_at_once_and_says_so(kitchen):
    export = kitchen.make()
    kitchen.tick()
    kitchen.runner.end(Exit(signal=9, out_of_memory=True))
    kitchen.tick()
    failed = kitchen.look(export)
    assert (failed.state, failed.attempts, failed.error.code) == ("failed", 1, "out_of_memory")
    assert "machine with more memory" in failed.error.hint


def test_a_worker_whose_end_nobody_saw_is_said_to_be_that(kitchen):
    export = kitchen.make()
    for _ in range(3):
        kitchen.tick()
        kitchen.runner.end(Exit())
        kitchen.tick()
    assert kitchen.look(export).error.message == (
        "The worker was lost 3 times, the last time: nobody saw how it ended."
    )


def test_an_export_that_hangs_is_removed_and_does_not_hold_up_the_others(kitchen):
    hung, next_one = kitchen.make(), kitchen.make()
    kitchen.restart(limit=1e-9)
    for attempt in (1, 2, 3):
        kitchen.tick()
        kitchen.runner.report(events.Started(at=NOW, pid=1, host="h", device="cpu"))
        kitchen.tick()
        kitchen.tick()
        assert kitchen.runner.stops == [(number, True) for number in range(1, attempt + 1)]
        # Somebody else's memory ran out meanwhile: that is not why this one ended.
        kitchen.runner.end(Exit(signal=9, out_of_memory=True))
        kitchen.tick()
    failed = kitchen.look(hung)
    assert (failed.state, failed.error.code) == ("failed", "worker_lost")
    assert "without a sign of getting on" in failed.error.message
    kitchen.tick()
    assert kitchen.look(next_one).state == "running"


def test_the_next_server_follows_a_worker_that_the_last_one_left(kitchen):
    export = kitchen.make()
    kitchen.tick()
    kitchen.restart()
    kitchen.tick()
    assert len(kitchen.runner.runs) == 1
    kitchen.finish()
    kitchen.tick()
    assert kitchen.look(export).state == "ready"


def test_a_crash_between_the_move_of_the_files_and_their_record_is_made_good(kitchen):
    export = kitchen.make()
    kitchen.tick()
    kitchen.finish()
    kitchen.runner.runs[-1].artifact.rename(kitchen.exports.path(export))
    kitchen.restart()
    kitchen.tick()
    assert kitchen.look(export).state == "ready"
    assert (kitchen.exports.path(export) / "model.safetensors").is_file()


def test_a_deleted_export_ends_its_worker_and_leaves_nothing(kitchen):
    export = kitchen.make()
    kitchen.tick()
    kitchen.exports.delete("ft:m", export.id)
    kitchen.tick()
    assert kitchen.runner.stops == [(1, True)]
    kitchen.runner.end(Exit(signal=9))
    kitchen.tick()
    assert not (kitchen.folder / export.id).exists()
    with pytest.raises(ExportNotFoundError):
        kitchen.look(export)


def test_a_deleted_export_ends_a_worker_whose_handle_was_never_written_down(kitchen, house):
    export = kitchen.make()
    kitchen.tick()
    with house.database.write() as connection:
        exports.change(connection, export.id, handle=None)
    kitchen.runner.found = {"pid": 1}
    kitchen.exports.delete("ft:m", export.id)
    kitchen.tick()
    assert kitchen.runner.stops == [(1, True)]
    assert (kitchen.folder / export.id).exists()
    kitchen.runner.end(Exit(signal=9))
    kitchen.tick()
    assert not (kitchen.folder / export.id).exists()


def test_deleting_a_model_deletes_its_exports(kitchen):
    export = kitchen.make()
    kitchen.tick()
    kitchen.finish()
    kitchen.tick()
    kitchen.produced.delete("ft:m")
    kitchen.tick()
    assert not (kitchen.folder / export.id).exists()


def test_a_worker_that_lingers_after_its_last_word_is_removed(kitchen):
    kitchen.make()
    kitchen.tick()
    kitchen.runner.report(events.Failed(at=NOW, error=ArtifactError("no").info))
    kitchen.tick()
    assert kitchen.runner.stops == [(1, True)]


def test_another_organisation_sees_neither_model_nor_export(kitchen):
    export = kitchen.make()
    with pytest.raises(ModelNotFoundError):
        kitchen.others.create("ft:m", "merged", dtype=None, quantization=None)
    for ask in (kitchen.others.get, kitchen.others.delete):
        with pytest.raises(ExportNotFoundError):
            ask("ft:m", export.id)


def test_what_does_not_belong_together_is_refused_with_the_field(kitchen):
    with pytest.raises(InvalidRequestError) as error:
        kitchen.exports.create("ft:m", "merged", dtype=None, quantization="q8_0")
    assert error.value.param == "quantization"
    with pytest.raises(InvalidRequestError) as error:
        kitchen.exports.create("ft:m", "gguf", dtype="float32", quantization=None)
    assert error.value.param == "dtype"


def test_a_model_that_no_gguf_file_can_hold_is_refused_at_the_request(kitchen):
    with pytest.raises(UnsupportedError, match=r"tokenizer has no tokenizer\.json"):
        kitchen.exports.create("ft:m", "gguf", dtype=None, quantization=None)


def test_an_export_for_which_there_is_no_room_is_refused_at_the_request(kitchen, monkeypatch, tmp_path):
    (tmp_path / "m" / "model.safetensors").write_bytes(b"0" * 4000)
    usage = type("Usage", (), {"free": 3999})
    monkeypatch.setattr("tunesmith.jobs.export_orders.shutil.disk_usage", lambda _path: usage)
    with pytest.raises(DiskFullError, match="takes about 4,000 bytes, and 3,999 are free"):
        kitchen.exports.create("ft:m", "merged", dtype="float32", quantization=None)
    kitchen.exports.create("ft:m", "merged", dtype="bfloat16", quantization=None)


def test_only_so_many_exports_wait_at_a_time(kitchen):
    for _ in range(MAX_WAITING):
        kitchen.make()
    with pytest.raises(BusyError, match="20 exports wait already"):
        kitchen.make()


@pytest.mark.parametrize(("result", "finish"), [("last", (30, 1.3, 2.4)), ("best", (20, 1.2, 2.2))])
def test_the_figures_of_an_export_are_of_the_step_that_its_weights_are_of(kitchen, house, tmp_path, result, finish):
    spec = house.spec().model_copy(update={"selection": SelectionSpec(patience=1, result=result)})
    job = house.jobs.submit(spec, Submission(dialect="native", request={}))
    with house.database.write() as connection:
        for step, train, held_out in ((10, 1.1, 2.5), (20, 1.2, 2.2), (30, 1.3, 2.4)):
            for kind, loss in (("metrics", train), ("evaluated", held_out)):
                stored_events.add(
                    connection, job.id, at=1.0, kind=kind, message="", data={"step": step, "loss": loss}
                )  # fmt: skip
        jobs.change(connection, job.id, step=30, attempts=1)
        models.add(
            connection, org="local", name=None, id="ft:j", job_id=job.id, base="m", base_revision=None, kind="adapter",
            path=str(tmp_path / "adapter"), description=None, created_at=1.0,
        )  # fmt: skip
        ended = {"step": 30, "weights_of": 20 if result == "best" else None}
        stored_events.add(connection, job.id, at=1.0, kind="succeeded", message="", data=ended)
    export = kitchen.exports.create("ft:j", "merged", dtype=None, quantization=None)
    found = kitchen.orders.write(export).origin.finish
    assert (found.steps, found.train_loss, found.validation_loss) == finish
