"""A tiny model behind the names that the pages use."""

import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory):
    """A model of a few thousand parameters."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    subprocess.run([sys.executable, "-m", "tunesmith.training.tiny_model", "text", str(folder)], check=True)
    return folder


@pytest.fixture
def home(tiny_model_folder, tmp_path):
    """A home whose aliases lead to the tiny model."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tunesmith.toml").write_text(
        f'[model_aliases]\ntiny = "{tiny_model_folder}"\nsmollm2-135m-instruct = "{tiny_model_folder}"\n'
    )
    return folder
