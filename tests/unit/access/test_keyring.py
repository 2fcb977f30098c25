import stat

import pytest

from tunesmith.access.keyring import Keyring, UnsealError
from tunesmith.spec.errors import SettingsError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "keys"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_the_first_start_makes_a_key_that_only_the_servers_user_can_open(folder):
    Keyring.open(folder, needed=False)
    assert names(folder) == ["0001.key"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "0001.key").stat().st_mode) == 0o600


def test_the_next_start_uses_the_same_key(folder):
    sealed = Keyring.open(folder, needed=False).seal(b"content")
    assert b"content" not in sealed
    for needed in (False, True):
        assert Keyring.open(folder, needed=needed).unseal(sealed) == b"content"
    assert names(folder) == ["0001.key"]


def test_a_changed_content_is_noticed(folder):
    ring = Keyring.open(folder, needed=False)
    sealed = ring.seal(b"content")
    for changed in (sealed[:-8] + b"AAAAAAA=", sealed[1:], b"", b"nonsense"):
        with pytest.raises(UnsealError):
            ring.unseal(changed)


def test_a_rotation_keeps_the_old_key_until_it_is_dropped(folder):
    ring = Keyring.open(folder, needed=False)
    old = ring.seal(b"content")
    ring.add_key()
    assert names(folder) == ["0001.key", "0002.key"]
    new = ring.seal(b"content")
    assert [ring.unseal(each) for each in (old, new)] == [b"content"] * 2
    ring.drop_old_keys()
    assert names(folder) == ["0002.key"]
    assert Keyring.open(folder, needed=True).unseal(new) == b"content"
    with pytest.raises(UnsealError):
        ring.unseal(old)


def test_a_key_that_was_being_written_at_a_crash_is_no_key(folder):
    sealed = Keyring.open(folder, needed=False).seal(b"content")
    (folder / "incoming").write_bytes(b"half")
    ring = Keyring.open(folder, needed=True)
    assert ring.unseal(sealed) == b"content"
    ring.add_key()
    assert names(folder) == ["0001.key", "0002.key"]


def test_keys_beyond_the_ten_thousandth_are_newer(folder):
    ring = Keyring.open(folder, needed=False)
    (folder / "0001.key").rename(folder / "9999.key")
    sealed = ring.seal(b"content")
    ring.add_key()
    ring.drop_old_keys()
    assert names(folder) == ["10000.key"]
    with pytest.raises(UnsealError):
        Keyring.open(folder, needed=True).unseal(sealed)


@pytest.mark.parametrize(("path", "mode"), [("", 0o750), ("", 0o701), ("0001.key", 0o640), ("0001.key", 0o604)])
def test_keys_that_others_can_open_stop_the_start(folder, path, mode):
    Keyring.open(folder, needed=False)
    (folder / path).chmod(mode)
    with pytest.raises(SettingsError, match="other users") as refused:
        Keyring.open(folder, needed=False)
    assert "chmod" in refused.value.hint


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, b"A" * 44, b"A" * 100])
def test_a_file_that_is_no_key_stops_the_start_without_being_shown(folder, content):
    Keyring.open(folder, needed=False)
    (folder / "0001.key").write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        Keyring.open(folder, needed=True)
    assert "0001.key" in refused.value.message
    assert "AAAA" not in refused.value.info.sentence()


def test_a_key_that_cannot_be_read_stops_the_start(folder):
    Keyring.open(folder, needed=False)
    (folder / "0001.key").unlink()
    (folder / "0001.key").mkdir(mode=0o700)
    with pytest.raises(SettingsError):
        Keyring.open(folder, needed=True)


def test_a_missing_key_stops_the_start_when_it_is_needed_and_is_not_made_anew(folder):
    Keyring.open(folder, needed=False)
    (folder / "0001.key").unlink()
    with pytest.raises(SettingsError, match="missing"):
        Keyring.open(folder, needed=True)
    assert names(folder) == []
    folder.rmdir()
    with pytest.raises(SettingsError, match="missing"):
        Keyring.open(folder, needed=True)
    assert not folder.exists()


def test_a_file_in_place_of_the_folder_stops_the_start(folder):
    folder.parent.mkdir()
    folder.touch(mode=0o600)
    with pytest.raises(SettingsError, match="cannot be used"):
        Keyring.open(folder, needed=False)


def test_keys_are_in_no_representation(folder):
    ring = Keyring.open(folder, needed=False)
    key = (folder / "0001.key").read_text().strip()
    assert key not in repr(ring) + str(ring)
