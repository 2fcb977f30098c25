"""Which whole weights a job trains over, and what the model that it leaves is said to rest on."""

import shutil

import pytest

from stored_jobs import job_spec
from tunesmith.assets.models import ProducedModels
from tunesmith.runners import Exit
from tunesmith.spec import events
from tunesmith.spec.errors import AdapterError, ConflictError
from tunesmith.spec.job import AdapterSpec, ModelSpec, StartSpec, Submission
from tunesmith.store import checkpoints, models

LORA = AdapterSpec(rank=8, alpha=16, dropout=0, targets=("all-linear",))


@pytest.fixture
def shelf(house, tmp_path):
    """Folders of a fully tuned model `ft:full` and of an adapter `ft:adapter`, both made from `m`."""
    full, adapter = tmp_path / "full", tmp_path / "adapter"
    full.mkdir()
    (full / "config.json").write_text('{"model_type": "llama"}')
    (full / "model.safetensors").touch()
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with house.database.write() as connection:
        for kind, folder in (("full", full), ("adapter", adapter)):
            models.add(
                connection, id=f"ft:{kind}", org="local", job_id=None, base="m", base_revision=None, kind=kind,
                path=str(folder), name=None, description=None, created_at=1.0,
            )  # fmt: skip
    return {"full": full, "adapter": adapter}


@pytest.fixture
def resolve(house):
    return lambda spec: house.scheduler._resolver.resolve("local", spec)


@pytest.fixture
def produced(house, started, metrics):
    """The model that a job with the spec leaves."""

    def make(spec):
        blob = house.storage.put(b"rows")
        source = spec.data.train.model_copy(update={"sha256": blob.sha256})
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"train": source})})
        job = house.jobs.submit(spec, Submission(dialect="native", request={}))
        house.tick()
        artifact = house.runner.runs[-1].artifact
        artifact.mkdir()
        (artifact / "adapter_config.json").write_text("{}")
        ended = events.Succeeded(at=started.at, step=4, path="artifact", logit_change=0.5)
        house.runner.report(started, metrics(4), ended)
        house.runner.end(Exit(code=0))
        house.tick()
        with house.database.read() as connection:
            return models.get(connection, "local", house.jobs.get(job.id).model_id)

    return make


def lora(base, start=None):
    init_from = StartSpec(kind="model", id=start) if start else None
    return job_spec(model=ModelSpec(base=base, dtype="float32"), init_from=init_from, adapter=LORA)


def test_an_adapter_that_went_on_over_other_weights_rests_on_those(house, shelf, produced, resolve):
    model = produced(lora("ft:full", "ft:adapter"))
    assert (model.base, model.base_revision) == ("ft:full", None)
    weights, adapter = house.scheduler._resolver.weights(model)
    assert (weights, str(adapter)) == (shelf["full"], model.path)
    later = resolve(lora(model.id))
    assert (later.model, str(later.adapter)) == (shelf["full"], model.path)


@pytest.mark.parametrize(("base", "below"), [("m", "m"), ("ft:adapter", "m"), ("ft:full", "ft:full")])
def test_an_adapter_rests_on_the_weights_below_what_its_job_named(shelf, produced, base, below):
    assert produced(lora(base)).base == below


def test_two_adapters_to_go_on_from_are_refused(shelf, resolve):
    with pytest.raises(AdapterError, match="are both adapters") as caught:
        resolve(lora("ft:adapter", "ft:adapter"))
    assert caught.value.param == "init_from"
    assert "'m'" in caught.value.hint


@pytest.fixture
def starts(house, shelf, saved):
    """The fully tuned model as each kind of start."""
    folder = shelf["full"]
    job = house.submit()
    house.tick()
    commit = "c" * 40
    cached = house.scheduler._resolver._hub._folder("owner/full", commit)
    shutil.copytree(folder, cached)
    with house.database.write() as connection:
        event = saved(house.runner.runs[-1], 1)
        checkpoints.add(connection, event, job_id=job.id, attempt=1, path=str(folder), metrics={}, files=[])
        [checkpoint] = checkpoints.of_job(connection, job.id)
    return {
        "model": StartSpec(kind="model", id="ft:full"),
        "checkpoint": StartSpec(kind="checkpoint", id=checkpoint.id),
        "hub": StartSpec(kind="hub", id="owner/full", revision=commit),
    }


@pytest.mark.parametrize("kind", ["model", "checkpoint", "hub"])
def test_whole_weights_to_begin_with_are_taken_for_all_weights_and_refused_for_an_adapter(starts, resolve, kind):
    everything = job_spec(init_from=starts[kind])
    assert (resolve(everything).model / "model.safetensors").is_file()
    with pytest.raises(AdapterError, match="is a whole model, and this job trains an adapter") as caught:
        resolve(everything.model_copy(update={"adapter": LORA}))
    assert caught.value.param == "init_from"


def test_a_model_on_which_adapters_rest_is_not_deleted_before_them(house, shelf, produced):
    door = ProducedModels(house.database, "local")
    adapter = produced(lora("ft:full"))
    with pytest.raises(ConflictError, match="these adapters rest on it") as caught:
        door.delete("ft:full")
    assert repr(adapter.id) in caught.value.message
    assert caught.value.param == "model"
    assert (shelf["full"] / "model.safetensors").is_file()
    door.delete(adapter.id)
    door.delete("ft:full")
    assert not shelf["full"].exists()


@pytest.mark.parametrize("spec", [lora("ft:adapter"), lora("m", "ft:adapter")], ids=["as its model", "as its start"])
def test_a_model_that_a_job_uses_is_not_deleted_before_the_jobs_end(house, shelf, spec):
    door = ProducedModels(house.database, "local")
    job = house.jobs.submit(spec, Submission(dialect="native", request={}))
    with pytest.raises(ConflictError, match="jobs that have not ended use it"):
        door.delete("ft:adapter")
    assert shelf["adapter"].exists()
    house.jobs.cancel(job.id)
    door.delete("ft:adapter")
    assert not shelf["adapter"].exists()


def test_many_adapters_on_a_model_are_named_in_part(house, shelf):
    with house.database.write() as connection:
        for number in range(7):
            models.add(
                connection, id=f"ft:{number}", org="local", job_id=None, base="ft:full", base_revision=None,
                kind="adapter", path="/nowhere", name=None, description=None, created_at=1.0,
            )  # fmt: skip
    with pytest.raises(ConflictError, match="'ft:3', 'ft:4' and 2 more"):
        ProducedModels(house.database, "local").delete("ft:full")
