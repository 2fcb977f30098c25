"""A tiny model behind the names that the pages use."""

import pytest


@pytest.fixture
def home(tiny_model, tmp_path):
    """A home whose aliases lead to the tiny model."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tunesmith.toml").write_text(
        f'[model_aliases]\ntiny = "{tiny_model}"\nsmollm2-135m-instruct = "{tiny_model}"\n'
    )
    return folder
