"""Makes the modules of the example importable by the names under which its scripts import each other."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "support_triage"
sys.path.insert(0, str(FOLDER))


@pytest.fixture(scope="session")
def folder() -> Path:
    """The example's folder."""
    return FOLDER
