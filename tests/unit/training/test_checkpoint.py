"""A visible folder is whole, whatever fails while it is written."""

import errno
import itertools
import os

import pytest

from attempts import attempt, chat, of_kind, run, write_rows
from tunesmith.spec.errors import CheckpointError, DiskFullError
from tunesmith.spec.events import CheckpointRemoved, CheckpointSaved, Failed
from tunesmith.training import checkpoint
from tunesmith.training.checkpoint import verify_folder, write_folder


def _fill(folder):
    (folder / "a").write_text("abc")
    (folder / "sub").mkdir()
    (folder / "sub/b").write_bytes(bytes(3_000_000))


def test_a_written_folder_verifies_and_returns_its_facts(tmp_path):
    write_folder(tmp_path / "checkpoints/one", _fill, {"step": 3})
    assert verify_folder(tmp_path / "checkpoints/one") == {"step": 3}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["a", "sub/b", "manifest.json"])
def test_a_changed_or_missing_file_is_found(tmp_path, name):
    folder = tmp_path / "one"
    write_folder(folder, _fill, {})
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"x")
    with pytest.raises(CheckpointError):
        verify_folder(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError):
        verify_folder(folder)


class _Failing:
    """Lets some calls pass, then fails each."""

    def __init__(self, real, passes, error):
        self._real, self._left, self._error = real, passes, error

    def __call__(self, *arguments, **more):
        if self._left == 0:
            raise self._error
        self._left -= 1
        return self._real(*arguments, **more)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")], ids=["full", "broken"])
def test_whichever_write_fails_nothing_visible_is_left(tmp_path, monkeypatch, error):
    folder = tmp_path / "one"
    for passes in itertools.count():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _Failing(os.fsync, passes, error))
            try:
                write_folder(folder, _fill, {})
            except DiskFullError:
                assert error.errno == errno.ENOSPC
            except CheckpointError:
                assert error.errno == errno.EIO
            else:
                break
        # The last sync comes after the rename: by then the folder is whole.
        assert not folder.exists() or verify_folder(folder) == {}
        assert [path.name for path in tmp_path.iterdir()] in ([], ["one"])
    assert passes >= 5


def test_a_disk_full_while_saving_fails_the_job_and_keeps_earlier_checkpoints(
    tiny_model, tmp_path, monkeypatch, signals_kept
):
    real = checkpoint._write_manifest
    failing = _Failing(real, 1, OSError(errno.ENOSPC, "full"))
    monkeypatch.setattr(checkpoint, "_write_manifest", failing)
    order = attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(8)), save_steps=1)
    code, events = run(order, tmp_path / "run")
    assert code == 1
    assert of_kind(events, Failed)[0].error.code == "disk_full"
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-00000001"]
    verify_folder(tmp_path / "run/checkpoints/step-00000001")


def test_old_offered_checkpoints_are_removed_and_said_so(tiny_model, tmp_path, signals_kept):
    order = attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(16)), save_steps=2, keep_checkpoints=2)
    _, events = run(order, tmp_path / "run")
    assert [event.step for event in of_kind(events, CheckpointSaved)] == [2, 4, 6, 8]
    assert [event.step for event in of_kind(events, CheckpointRemoved)] == [2, 4]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-00000006", "step-00000008"]


def test_crash_checkpoints_are_saved_by_time_and_the_newest_two_kept(tiny_model, tmp_path, monkeypatch, signals_kept):
    from tunesmith.training import loop

    monkeypatch.setattr(loop, "_MIN_SAVE_INTERVAL", 0.0)
    monkeypatch.setattr(loop, "_SAVE_SHARE", 0)
    order = attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(16)), save_steps=4)
    _, events = run(order, tmp_path / "run")
    saved = of_kind(events, CheckpointSaved)
    assert [event.step for event in saved if event.offered] == [4, 8]
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == [
        f"step-{step:08d}" for step in (4, 6, 7, 8)
    ]


def test_no_file_of_a_checkpoint_is_a_pickle(tiny_model, tmp_path, signals_kept):
    _, events = run(attempt(tiny_model, write_rows(tmp_path / "rows.jsonl", chat(4))), tmp_path / "run")
    folder = tmp_path / "run" / of_kind(events, CheckpointSaved)[0].path
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".jinja", ".md"}
