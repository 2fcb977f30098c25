"""Makes the modules of the examples importable by the names under which its scripts import each other."""

import sys
from pathlib import Path

import pytest

_EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FOLDER = _EXAMPLES / "support_triage"
sys.path[:0] = [str(FOLDER), str(_EXAMPLES / "grade_school_math")]


@pytest.fixture(scope="session")
def folder() -> Path:
    """The example's folder."""
    return FOLDER
