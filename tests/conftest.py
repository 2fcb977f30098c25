"""Fixtures that tests of several kinds share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Threads that wait for each other over a tiny model's tiny tensors starve when other processes use the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random language model of some thirty thousand parameters."""
    from tunesmith.training import tiny_model

    folder = tmp_path_factory.mktemp("tiny-model")
    tiny_model.build(folder)
    return folder


@pytest.fixture
def signals_kept() -> Iterator[None]:
    """Put back the handlers that a worker replaces."""
    import signal

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_vision_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random model of some sixty thousand parameters that reads pictures and text."""
    from tunesmith.training import tiny_vision_model

    folder = tmp_path_factory.mktemp("tiny-vision-model")
    tiny_vision_model.build(folder)
    return folder
