"""A real server over a home of its own, with a tiny model behind the names that clients use."""

import openai
import pytest

from rows import chat_rows
from running_server import RunningServer

QWEN = "Qwen/Qwen2.5-1.5B-Instruct"


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_model):
    """A model of a few thousand parameters."""
    return tiny_model


@pytest.fixture(scope="session")
def image_model(tmp_path_factory):
    """A random FLUX.1 of some two hundred thousand weights."""
    from tunesmith.training.diffusion import tiny_model

    folder = tmp_path_factory.mktemp("flux")
    tiny_model.build(folder)
    return folder


@pytest.fixture(scope="session")
def write_home(tiny_model_folder):
    """Make a home whose aliases lead to the tiny model."""

    def write(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tunesmith.toml").write_text(
            f'[model_aliases]\ntiny = "{tiny_model_folder}"\n"{QWEN}" = "{tiny_model_folder}"\n'
        )
        return folder

    return write


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory):
    server = RunningServer(write_home(tmp_path_factory.mktemp("server") / "home"))
    yield server
    server.stop()


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)


@pytest.fixture
def upload(client):
    def upload(content=None, name="rows.jsonl"):
        return client.files.create(file=(name, chat_rows() if content is None else content), purpose="fine-tune")

    return upload
