"""Tiny pipelines, each built once."""

import gc

import pytest


@pytest.fixture(scope="session")
def flux(tmp_path_factory):
    """FLUX.1 with a guidance embedding."""
    from tunesmith.training.diffusion import tiny_model

    folder = tmp_path_factory.mktemp("flux")
    tiny_model.build(folder)
    return folder


@pytest.fixture(scope="session")
def schnell(tmp_path_factory):
    """FLUX.1 without one."""
    from tunesmith.training.diffusion import tiny_model

    folder = tmp_path_factory.mktemp("schnell")
    tiny_model.build(folder, guidance=False)
    return folder


@pytest.fixture(scope="session")
def sd3(tmp_path_factory):
    """Stable Diffusion 3."""
    from tiny_families import build_sd3

    folder = tmp_path_factory.mktemp("sd3")
    build_sd3(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    """Qwen-Image."""
    from tiny_families import build_qwen_image

    folder = tmp_path_factory.mktemp("qwen")
    build_qwen_image(folder)
    return folder


@pytest.fixture(scope="session")
def libraries_are_no_garbage(flux):
    """The collector passes over what was imported, as in a worker that was forked. A training collects twice, which
    would take most of its time here."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
