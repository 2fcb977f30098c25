"""Where an example keeps its things, and what it sets up before it begins."""

import os
import tempfile
import time
from pathlib import Path


def cache_folder() -> Path:
    """Where converted models are kept: TUNESMITH_DEMO_CACHE, else `tunesmith` in the user's cache."""
    chosen = os.environ.get("TUNESMITH_DEMO_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "tunesmith"


def new_home() -> Path:
    """A fresh home for one run's server, below TUNESMITH_DEMO_DIR or `.demo` in the repository."""
    chosen = os.environ.get("TUNESMITH_DEMO_DIR") or Path(__file__).resolve().parents[2] / ".demo"
    parent = Path(chosen).expanduser().absolute()
    parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=parent))


def prepare_environment() -> None:
    """For this process and all that it starts; before torch is imported."""
    for name in ("NO_PROXY", "no_proxy"):  # the server is on this machine, where no proxy can reach it
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    # torch's threads then wait for each other by sleeping rather than spinning (GNU OpenMP), which is several times
    # faster while other programs use the processor too, and costs nothing while none does.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
