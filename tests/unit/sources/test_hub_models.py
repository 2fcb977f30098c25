import fcntl
import json
import os
import threading

import pytest

from tunesmith.sources import Found
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import (
    AddressRefusedError,
    DiskFullError,
    DownloadError,
    InvalidRequestError,
    ModelLoadError,
    SourceCredentialsError,
    SourceNotFoundError,
    TooLargeError,
)
from web_server import reply

WEIGHTS = os.urandom(200_000)
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "chat_template.jinja": b"{{ messages }}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "model.pt": b"pickle",
    "modeling_llama.py": b"import os",
    "README.md": b"# model",
    "onnx/model.onnx": b"",
    "original/params.json": b"{}",
    "consolidated.safetensors": WEIGHTS,
    ".gitattributes": b"",
    "../escape.json": b"{}",
    "/etc/escape.json": b"{}",
    ".hidden.json": b"{}",
}


def nothing(done, total):
    """Progress that nobody looks at."""


@pytest.fixture
def models(tmp_path, hub, limits):
    return HubModels(tmp_path / "cache", hub.url, limits)


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_fetched_with_what_loading_needs_and_nothing_else(models, hub, tmp_path):
    commit = hub.publish("model", "owner/model", {**MODEL, **UNWANTED})
    size = sum(map(len, MODEL.values()))
    assert models.probe("owner/model", None, None) == Found(bytes=size, version=commit)
    told = []
    folder = models.fetch("owner/model", commit, None, lambda done, total: told.append((done, total)))
    assert content_of(folder) == MODEL
    assert told[-1] == (size, size)
    assert folder == tmp_path / "cache" / "models--owner--model" / "snapshots" / commit
    assert not list(tmp_path.rglob("escape.json"))


def test_a_model_in_the_cache_is_found_without_the_hub(models, hub):
    commit = hub.publish("model", "owner/model", MODEL)
    assert models.find("owner/model", commit) is None
    folder = models.fetch("owner/model", commit, None, nothing)
    asked = len(hub.requests)
    hub.down = True
    assert models.find("owner/model", commit) == folder
    assert models.fetch("owner/model", commit, None, nothing) == folder
    assert len(hub.requests) == asked


def test_names_that_no_repository_has_are_not_found_in_the_cache(models, hub):
    commit = hub.publish("model", "owner/model", MODEL)
    models.fetch("owner/model", commit, None, nothing)
    for name in ("owner--model", "../models--owner--model", "/", "", "owner/model/..", "~"):
        assert models.find(name, commit) is None
    for revision in (None, "main", commit[:8], f"../snapshots/{commit}"):
        assert models.find("owner/model", revision) is None


def test_an_adapter_is_a_model_too(models, hub):
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
    commit = hub.publish("model", "owner/adapter", {**adapter, "training_args.bin": b"pickle"})
    assert content_of(models.fetch("owner/adapter", commit, None, nothing)) == adapter


def test_a_download_goes_on_after_breaks_and_the_token_stays_with_the_hub(models, hub):
    commit = hub.publish("model", "owner/model", MODEL, private=True)
    hub.cuts = [50_000, 1, 100_000]
    folder = models.fetch("owner/model", commit, hub.TOKEN, nothing)
    assert content_of(folder) == MODEL
    at_files = [headers for who, _, headers in hub.requests if who == "files"]
    assert any(headers.get("Range") or headers.get("range") for headers in at_files)
    assert all(hub.TOKEN not in str(headers) for headers in at_files)
    assert all(hub.TOKEN in str(headers) for who, _, headers in hub.requests if who == "hub")


def test_a_broken_off_model_is_invisible_and_the_next_try_keeps_its_whole_files(models, hub):
    large = {**MODEL, "model-00001.safetensors": os.urandom(100_000), "model-00002.safetensors": os.urandom(100_000)}
    commit = hub.publish("model", "owner/model", large)
    hub.cuts = [100_000] + [0] * 6
    with pytest.raises(DownloadError):
        models.fetch("owner/model", commit, None, nothing)
    assert models.find("owner/model", commit) is None
    hub.cuts = []
    before = len(hub.requests)
    assert content_of(models.fetch("owner/model", commit, None, nothing)) == large
    asked_again = [path for _, path, _ in hub.requests[before:]]
    assert not any(path.endswith("/config.json") for path in asked_again)


def test_what_progress_raises_ends_the_download_and_shows_nothing(models, hub):
    class CancelledError(Exception):
        pass

    def cancel(done, total):
        if done > 100_000:
            raise CancelledError

    commit = hub.publish("model", "owner/model", MODEL)
    with pytest.raises(CancelledError):
        models.fetch("owner/model", commit, None, cancel)
    assert models.find("owner/model", commit) is None
    assert content_of(models.fetch("owner/model", commit, None, nothing)) == MODEL


def test_a_damaged_file_is_never_shown(models, hub):
    commit = hub.publish("model", "owner/model", MODEL)
    hub.damaged = True
    with pytest.raises(DownloadError, match="arrived damaged"):
        models.fetch("owner/model", commit, None, nothing)
    assert models.find("owner/model", commit) is None


def test_a_left_over_file_that_was_damaged_on_disk_is_fetched_again(models, hub, tmp_path):
    commit = hub.publish("model", "owner/model", MODEL)
    left = tmp_path / "cache" / "incoming" / f"models--owner--model--{commit}"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"0" * len(WEIGHTS))
    (left / "tokenizer.json.part").write_bytes(b"half")
    assert content_of(models.fetch("owner/model", commit, None, nothing)) == MODEL


def test_two_downloads_of_one_model_share_the_work(models, hub, limits, tmp_path):
    commit = hub.publish("model", "owner/model", MODEL)
    other = HubModels(tmp_path / "cache", hub.url, limits)
    folders = []
    second = threading.Thread(target=lambda: folders.append(other.fetch("owner/model", commit, None, nothing)))

    def start_the_other(done, total):
        if not second.ident:
            second.start()

    folders.append(models.fetch("owner/model", commit, None, start_the_other))
    second.join()
    assert folders[0] == folders[1]
    asked = [path for who, path, _ in hub.requests if who == "files"]
    assert len(asked) == len(set(asked)) == 2


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"pickle"}, "only 'pytorch_model.bin', whose loading may run"),
        ({"config.json": b"{}"}, "no weights in safetensors format"),
        ({"model.safetensors": WEIGHTS}, r"neither a config.json nor an adapter_config.json"),
        ({}, "no weights"),
    ],
)
def test_a_repository_without_safe_weights_is_refused(models, hub, files, match):
    hub.publish("model", "owner/model", files)
    with pytest.raises(ModelLoadError, match=match):
        models.probe("owner/model", None, None)


def test_gated_missing_and_refused_are_told_apart(models, hub):
    hub.publish("model", "owner/gated", MODEL, gated=True)
    with pytest.raises(SourceCredentialsError, match="is gated") as caught:
        models.probe("owner/gated", None, None)
    assert "Give a token" in caught.value.hint
    with pytest.raises(SourceCredentialsError, match="is gated") as caught:
        models.probe("owner/gated", None, hub.STRANGERS_TOKEN)
    assert "has not let this token's user in" in caught.value.hint
    assert models.probe("owner/gated", None, hub.TOKEN).bytes
    with pytest.raises(SourceNotFoundError, match="no model 'owner/missing'"):
        models.probe("owner/missing", None, hub.TOKEN)
    with pytest.raises(SourceNotFoundError, match="no revision 'v9'"):
        models.probe("owner/gated", "v9", hub.TOKEN)
    with pytest.raises(SourceCredentialsError, match="refuses this token"):
        models.probe("owner/gated", None, "hf_unknown")
    with pytest.raises(SourceCredentialsError, match="blanks or other letters"):
        models.probe("owner/gated", None, "hf_\r\nHost: evil")


def test_a_hub_that_is_down_is_told(models, hub, limits, tmp_path):
    hub.down = True
    with pytest.raises(DownloadError, match="status 503, 3 times in a row"):
        models.probe("owner/model", None, None)
    with pytest.raises(DownloadError, match="no connection"):
        HubModels(tmp_path / "other", "http://127.0.0.1:1024", limits).probe("owner/model", None, None)


def test_too_large_a_model_is_refused_before_a_byte_is_fetched(hub, limits, tmp_path):
    hub.publish("model", "owner/model", MODEL)
    small = HubModels(tmp_path / "cache", hub.url, limits.model_copy(update={"max_bytes": 1000}))
    with pytest.raises(TooLargeError, match="'owner/model' has more than 1,000 bytes"):
        small.probe("owner/model", None, None)


def test_a_model_that_the_volume_has_no_room_for_is_not_begun(web, limits, tmp_path):
    commit = "a" * 40
    pointer = {"sha256": "b" * 64, "size": 10**17, "pointerSize": 134}
    siblings = [
        {"rfilename": "config.json", "blobId": "c" * 40, "size": 2},
        {"rfilename": "model.safetensors", "blobId": "d" * 40, "size": 10**17, "lfs": pointer},
    ]
    told = json.dumps({"id": "owner/model", "sha": commit, "siblings": siblings}).encode()
    web.answers[f"/api/models/owner/model/revision/{commit}"] = lambda handler: reply(handler, body=told)
    models = HubModels(tmp_path / "cache", web.url, limits.model_copy(update={"max_bytes": 10**18}))
    with pytest.raises(DiskFullError, match="has 100,000,000,000,000,002 bytes"):
        models.fetch("owner/model", commit, None, nothing)
    assert len(web.requests) == 1


def test_a_hub_inside_needs_the_operators_leave(hub, limits, tmp_path):
    outside = limits.model_copy(update={"allowed_networks": ()})
    with pytest.raises(AddressRefusedError):
        HubModels(tmp_path / "cache", hub.url, outside).probe("owner/model", None, None)


def test_what_a_broken_off_download_left_is_removed_when_it_is_old(models, hub, tmp_path):
    commit = hub.publish("model", "owner/model", MODEL)
    hub.cuts = [100_000] + [0] * 6
    with pytest.raises(DownloadError):
        models.fetch("owner/model", commit, None, nothing)
    incoming = tmp_path / "cache" / "incoming"
    models.tidy(3600)
    assert any(path.name.endswith(".part") for path in incoming.rglob("*"))
    models.tidy(0)
    assert list(incoming.iterdir()) == []
    hub.cuts = []
    assert content_of(models.fetch("owner/model", commit, None, nothing)) == MODEL


def test_the_lock_of_a_finished_download_is_removed_and_the_model_stays(models, hub, tmp_path):
    commit = hub.publish("model", "owner/model", MODEL)
    models.tidy(0)
    folder = models.fetch("owner/model", commit, None, nothing)
    models.tidy(0)
    assert list((tmp_path / "cache" / "incoming").iterdir()) == []
    assert content_of(folder) == MODEL


def test_a_download_that_runs_is_not_tidied_away(models, hub, limits, tmp_path):
    commit = hub.publish("model", "owner/model", MODEL)
    other = HubModels(tmp_path / "cache", hub.url, limits)
    tidied = []

    def tidy(done, total):
        other.tidy(0)
        tidied.append(done)

    assert content_of(models.fetch("owner/model", commit, None, tidy)) == MODEL
    assert len(tidied) > len(MODEL)


def test_a_download_whose_lock_is_tidied_away_while_it_is_taken_takes_a_new_one(models, hub, tmp_path, monkeypatch):
    commit = hub.publish("model", "owner/model", MODEL)
    lock = tmp_path / "cache" / "incoming" / f"models--owner--model--{commit}.lock"
    take = fcntl.flock
    removed = []

    def remove_before_it_is_held(*given):
        if not removed:
            removed.append(lock)
            lock.unlink()
        take(*given)

    monkeypatch.setattr(fcntl, "flock", remove_before_it_is_held)
    assert content_of(models.fetch("owner/model", commit, None, nothing)) == MODEL
    assert removed
    assert lock.exists()


def test_only_a_full_commit_is_fetched(models):
    for commit in ("main", "abc", "../x", "A" * 40):
        with pytest.raises(InvalidRequestError, match="no full name of a commit"):
            models.fetch("owner/model", commit, None, nothing)


IN_PARTS = {
    "model_index.json": b'{"_class_name": "FluxPipeline"}',
    "scheduler/scheduler_config.json": b"{}",
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors": WEIGHTS,
    "tokenizer/merges.txt": b"a b",
    "tokenizer_2/spiece.model": b"pieces",
    "transformer/config.json": b"{}",
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": WEIGHTS,
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": WEIGHTS,
    "transformer/diffusion_pytorch_model.safetensors.index.json": b"{}",
}
BESIDE_PARTS = {
    "flux1-dev.safetensors": WEIGHTS,
    "ae.safetensors": WEIGHTS,
    "text_encoder/model.fp16.safetensors": WEIGHTS,
    "text_encoder/pytorch_model.bin": b"pickle",
    "vae/../../escape.json": b"{}",
    "transformer/deeper/config.json": b"{}",
    "README.md": b"# model",
    "dev_grid.jpg": b"picture",
}


def test_a_model_in_parts_is_fetched_with_all_of_them_and_nothing_twice(models, hub, tmp_path):
    commit = hub.publish("model", "owner/flux", {**IN_PARTS, **BESIDE_PARTS})
    assert models.probe("owner/flux", None, None) == Found(bytes=sum(map(len, IN_PARTS.values())), version=commit)
    folder = models.fetch("owner/flux", commit, None, nothing)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == IN_PARTS
    assert not list(tmp_path.rglob("escape.json"))


def test_a_model_in_parts_without_safe_weights_is_refused(models, hub):
    hub.publish("model", "owner/flux", {"model_index.json": b"{}", "vae/diffusion_pytorch_model.bin": b"pickle"})
    with pytest.raises(ModelLoadError, match=r"vae/diffusion_pytorch_model\.bin"):
        models.probe("owner/flux", None, None)
