from pathlib import Path

import pytest

from tunesmith.server.home import Home, HomeLock
from tunesmith.server.settings import load_settings
from tunesmith.spec.errors import SettingsError


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    for name in ("HOST", "PORT", "MODEL_ROOTS", "MODEL_ALIASES"):
        monkeypatch.delenv(f"TUNESMITH_{name}", raising=False)


def write(tmp_path, text):
    (tmp_path / "tunesmith.toml").write_text(text)


def test_the_defaults_are_a_loopback_server(tmp_path):
    settings = load_settings()
    assert (settings.host, settings.port, settings.home) == ("127.0.0.1", 23478, tmp_path)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    write(tmp_path, "port = 1001\nhost = 'localhost'\n")
    assert (load_settings().port, load_settings().host) == (1001, "localhost")
    monkeypatch.setenv("TUNESMITH_PORT", "1002")
    assert load_settings().port == 1002
    assert load_settings(port=1003, host=None).port == 1003


def test_the_file_is_looked_for_in_the_home_that_the_command_line_names(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write(other, "port = 1004\n")
    assert load_settings(home=other).port == 1004


def test_aliases_and_roots_are_read_and_user_folders_expanded(tmp_path, monkeypatch):
    write(tmp_path, 'model_roots = ["~/models"]\n[model_aliases]\n"Qwen/Qwen" = "/weights/qwen"\n')
    settings = load_settings()
    assert settings.model_aliases == {"Qwen/Qwen": Path("/weights/qwen")}
    assert settings.model_roots == (Path.home() / "models",)
    monkeypatch.setenv("TUNESMITH_MODEL_ROOTS", "/a:/b")
    assert load_settings().model_roots == (Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"port": 70_000}, "port"), ({"port": "x"}, "port"), ({"host": "0.0.0.0"}, "without authentication")],
)
def test_bad_values_are_named(given, expected):
    with pytest.raises(SettingsError, match=expected):
        load_settings(**given)


def test_an_unreadable_file_is_named(tmp_path):
    write(tmp_path, "port = = 3")
    with pytest.raises(SettingsError, match=r"tunesmith\.toml"):
        load_settings()


def test_a_misspelt_setting_in_the_file_is_refused(tmp_path):
    write(tmp_path, "prot = 3\n")
    with pytest.raises(SettingsError, match="prot"):
        load_settings()


def test_a_home_is_held_by_one_server(tmp_path):
    home = Home(tmp_path / "home")
    with HomeLock(home), pytest.raises(SettingsError, match="in use by another server"), HomeLock(home):
        pass
    with HomeLock(home):
        assert home.jobs.is_dir()


def test_a_home_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be used"), HomeLock(Home(tmp_path / "file" / "home")):
        pass
