"""What workers encoded of pictures and captions: whose it is, and how long it stays."""

import os
import time
from pathlib import Path

import torch

from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.training.diffusion.cache import TensorCache, key_of


def _left(cache: EncodedCache, org: str, name: str, *, used: float, size: int = 100) -> Path:
    path = cache.folder(org) / name[:2] / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def test_what_was_unused_for_longest_goes_first_and_only_as_much_as_needed(tmp_path: Path) -> None:
    cache = EncodedCache(tmp_path, 250)
    old = _left(cache, "first", "aa1", used=1)
    young = _left(cache, "first", "aa2", used=3)
    middle = _left(cache, "second", "bb1", used=2)
    cache.tidy()
    assert [path.exists() for path in (old, middle, young)] == [False, True, True]


def test_what_may_be_in_use_is_spared_though_there_is_too_much(tmp_path: Path) -> None:
    cache = EncodedCache(tmp_path, 1)
    minute_ago = _left(cache, "org", "aa1", used=time.time() - 60)
    day_ago = _left(cache, "org", "aa2", used=time.time() - 24 * 3600)
    cache.tidy()
    assert [path.exists() for path in (minute_ago, day_ago)] == [True, False]


def test_a_cache_that_was_never_used_is_tidy(tmp_path: Path) -> None:
    EncodedCache(tmp_path / "nothing", 1).tidy()


def test_organisations_have_folders_of_their_own(tmp_path: Path) -> None:
    cache = EncodedCache(tmp_path, 1)
    assert cache.folder("first") != cache.folder("second")


def test_a_training_marks_its_files_as_long_as_it_reads_any_of_them(tmp_path: Path) -> None:
    cache, now = EncodedCache(tmp_path, 1), [0.0]
    tensors = TensorCache(cache.folder("org"), clock=lambda: now[0])
    keys = [key_of(number=number) for number in range(2)]
    for key in keys:
        tensors.write(key, {"mean": torch.zeros(2)})
    files = sorted(cache.folder("org").rglob("*.safetensors"))
    for path in files:
        os.utime(path, (1, 1))
    now[0] = 301.0
    tensors.read(keys[0])
    cache.tidy()
    assert sorted(cache.folder("org").rglob("*.safetensors")) == files


def test_a_file_that_a_training_finds_is_marked_at_once(tmp_path: Path) -> None:
    cache = EncodedCache(tmp_path, 1)
    TensorCache(cache.folder("org")).write("aa1", {"mean": torch.zeros(2)})
    [path] = cache.folder("org").rglob("*.safetensors")
    os.utime(path, (1, 1))
    assert TensorCache(cache.folder("org")).has("aa1")
    cache.tidy()
    assert path.exists()
