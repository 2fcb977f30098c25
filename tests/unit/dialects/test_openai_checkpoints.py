"""Names of checkpoints, and the weights below them."""

import dataclasses

from stored_jobs import EMPTY_SERVICES, job_spec, stored_job
from tunesmith.dialects.openai.checkpoints import base_below, checkpoint_name
from tunesmith.spec.job import ModelSpec
from tunesmith.spec.lifecycle import State
from tunesmith.store.models import ProducedModel

ADAPTER = ProducedModel(
    number=1, id="ft:owner/m:local::1", org="local", job_id=None, base="owner/m", base_revision="c" * 40,
    kind="adapter", path="/", name=None, version=None, description=None, created_at=1.5,
)  # fmt: skip


class Produced:
    """One model."""

    def __init__(self, model):
        self._model = model

    def find(self, id):
        return self._model if id == self._model.id else None


def below(produced):
    services = dataclasses.replace(EMPTY_SERVICES, produced_models=Produced(produced))
    spec = job_spec(model=ModelSpec(base=ADAPTER.id, dtype="float32"))
    return base_below(services, stored_job(State.RUNNING, spec))


def test_a_base_from_the_hub_stays_at_its_commit():
    found = below(ADAPTER)
    assert (found.base, found.source, found.revision) == ("owner/m", "hub", "c" * 40)


def test_a_base_of_this_server_and_a_whole_model_are_found_by_name():
    local = below(ADAPTER.model_copy(update={"base_revision": None}))
    assert (local.base, local.source, local.revision) == ("owner/m", "any", None)
    assert below(ADAPTER.model_copy(update={"kind": "full"})).base == ADAPTER.id


def test_a_checkpoint_has_the_same_name_before_and_after_its_jobs_end():
    job = stored_job(State.RUNNING, job_spec(model=ModelSpec(base="owner/m-LoRa:mine-aB1c", dtype="float32")))
    name = checkpoint_name(job, 3)
    assert name == "ft:owner/m:local::bbbbbbbb:ckpt-step-3"
    ended = job.model_copy(update={"state": State.SUCCEEDED, "model_id": "ft:owner/m:local::bbbbbbbb"})
    assert checkpoint_name(ended, 3) == name
