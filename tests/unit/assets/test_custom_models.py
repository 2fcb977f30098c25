"""Adapters that are brought in: what they keep of where they came from, and how long the hub is waited for."""

import pytest

from hub_server import HubServer
from tunesmith.assets import custom_models as module
from tunesmith.assets.custom_models import CustomModels, Wanted
from tunesmith.sources import Limits
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import DownloadError
from tunesmith.storage import Storage
from tunesmith.store.checkpoints import Checkpoint
from tunesmith.store.database import Database

WANTED = Wanted(name="mine", base="owner/base", base_revision="c" * 40, description=None)
CONFIG = b'{"peft_type": "LORA", "base_model_name_or_path": "owner/base"}'
HEADER = b'{"lora_A": {"data_offsets": [0, 1]}, "lora_B": {"data_offsets": [1, 2]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"ab"
ADAPTER = {"adapter_config.json": CONFIG, "adapter_model.safetensors": WEIGHTS}


@pytest.fixture
def hub():
    with HubServer() as server:
        server.publish("model", "owner/adapter", ADAPTER)
        yield server


@pytest.fixture
def models(tmp_path, hub):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    (tmp_path / "models").mkdir()
    limits = Limits(max_bytes=10**6, allowed_networks=("127.0.0.0/8",))
    source = HubModels(tmp_path / "cache", hub.url, limits)
    yield CustomModels(database, Storage(tmp_path / "files"), source, tmp_path / "models", "org")
    database.close()


def test_an_adapter_on_the_hub_is_named_with_its_commit(models, hub):
    brought = models.from_hub(WANTED, "owner/adapter")
    assert brought.origin.source_id.startswith("owner/adapter@")
    assert models.get("mine") == brought


def test_an_adapter_that_takes_too_long_is_given_up_and_leaves_nothing(models, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.0)
    with pytest.raises(DownloadError, match="could not be fetched within 0 seconds") as caught:
        models.from_hub(WANTED, "owner/adapter")
    assert caught.value.param == "source"
    assert list((tmp_path / "models").iterdir()) == []
    assert models.listed() == []


def test_the_commit_of_the_base_below_a_checkpoint_is_kept(models, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in ADAPTER.items():
        (folder / name).write_bytes(content)
    checkpoint = Checkpoint(
        number=1, id="1" * 32, job_id="2" * 32, attempt=1, step=3, path=str(folder), offered=True, metrics={},
        score=None, files=(), created_at=1.5,
    )  # fmt: skip
    brought = models.from_checkpoint(WANTED, checkpoint)
    assert (brought.model.base, brought.model.base_revision) == ("owner/base", "c" * 40)
