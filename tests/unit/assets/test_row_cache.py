"""Prepared rows that workers leave: whose they are, and how long they stay."""

import os
import time
from pathlib import Path

import pytest

from tunesmith.assets.row_cache import RowCache
from tunesmith.storage import Blob, Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "files")


def _left(cache: RowCache, org: str, blob: Blob, key: str, *, used: float, size: int = 100) -> Path:
    base = cache.folder(org)
    assert base is not None
    folder = base / blob.sha256 / key
    folder.mkdir(parents=True)
    (folder / "rows.safetensors").write_bytes(bytes(size))
    os.utime(folder, (used, used))
    return folder


def test_what_was_unused_for_longest_goes_first_and_only_as_much_as_needed(tmp_path: Path, storage: Storage) -> None:
    cache, blob = RowCache(tmp_path / "rows", storage, 250), storage.put(b"a")
    old = _left(cache, "first", blob, "old", used=1)
    young = _left(cache, "first", blob, "young", used=3)
    middle = _left(cache, "second", blob, "middle", used=2)
    cache.tidy()
    assert [folder.exists() for folder in (old, middle, young)] == [False, True, True]


def test_rows_that_may_be_in_use_are_spared_though_there_is_too_much(tmp_path: Path, storage: Storage) -> None:
    cache, blob = RowCache(tmp_path / "rows", storage, 50), storage.put(b"a")
    minute_ago = _left(cache, "org", blob, "running", used=time.time() - 60)
    day_ago = _left(cache, "org", blob, "ended", used=time.time() - 24 * 3600)
    cache.tidy()
    assert [folder.exists() for folder in (minute_ago, day_ago)] == [True, False]


def test_rows_go_with_the_content_that_they_were_made_of(tmp_path: Path, storage: Storage) -> None:
    cache = RowCache(tmp_path / "rows", storage, 1000)
    gone, here = storage.put(b"a"), storage.put(b"b")
    folders = [_left(cache, "org", blob, "key", used=1) for blob in (gone, here)]
    storage.remove(gone.sha256)
    cache.tidy()
    assert [folder.exists() for folder in folders] == [False, True]


def test_a_bound_of_nothing_keeps_nothing_and_removes_what_was_kept(tmp_path: Path, storage: Storage) -> None:
    folder = _left(RowCache(tmp_path / "rows", storage, 1000), "org", storage.put(b"a"), "key", used=1)
    cache = RowCache(tmp_path / "rows", storage, 0)
    assert cache.folder("org") is None
    cache.tidy()
    assert not folder.exists()


def test_organisations_have_folders_of_their_own(tmp_path: Path, storage: Storage) -> None:
    cache = RowCache(tmp_path / "rows", storage, 1000)
    assert cache.folder("first") != cache.folder("second")
