"""What a user takes home: asked for over HTTP, made by a worker, and used with other people's libraries."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress

import pytest

from hub_server import HubServer
from rows import chat_rows
from running_server import RunningServer, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def server(write_home, tmp_path_factory, hub):
    home = write_home(tmp_path_factory.mktemp("exports") / "home")
    server = RunningServer(home, TUNESMITH_HUB_URL=hub.url, TUNESMITH_ALLOWED_NETWORKS="127.0.0.0/8")
    yield server
    server.stop()


def uploaded(server, count):
    """The id of a file of chats."""
    files = {"file": ("rows.jsonl", chat_rows(count))}
    answer = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files=files)
    return answer.json()["id"].removeprefix("file-")


def trained(server, **changes):
    """A model that a job made of the tiny one."""
    file = uploaded(server, 24)
    spec = {
        "model": {"base": "tiny", "dtype": "float32"},
        "data": {"train": {"kind": "file", "id": file}, "max_length": 256},
        "adapter": {"rank": 4, "alpha": 16},
        "optimization": {"learning_rate": 0.02, "epochs": 2, "batch_size": 8},
        **changes,
    }
    made = server.http.post("/tunesmith/v1/jobs", json={"spec": spec})
    assert made.status_code == 200, made.text
    path = f"/tunesmith/v1/jobs/{made.json()['id']}"
    job = wait_for(lambda: (job := server.http.get(path).json())["state"] in ("succeeded", "failed") and job)
    assert job["state"] == "succeeded", job["error"]
    return job["model"]


@pytest.fixture(scope="module")
def model(server):
    return trained(server)


def exports_of(model):
    return f"/tunesmith/v1/models/{model}/exports"


def export(server, model, **wish):
    answer = server.http.post(exports_of(model), json=wish)
    assert answer.status_code == 200, answer.text
    path = f"{exports_of(model)}/{answer.json()['id']}"
    return wait_for(lambda: (made := server.http.get(path).json())["state"] in ("ready", "failed") and made)


def test_a_merged_export_loads_without_an_adapter_and_answers_alike(server, model, tmp_path):
    made = export(server, model, format="merged")
    assert (made["state"], made["dtype"], made["error"]) == ("ready", "float32", None)
    check = made["verification"]
    assert check["kl_divergence"] < 1e-5 < check["base_kl_divergence"]
    assert (check["same_choice"], check["prompts_from"]) == (1.0, "training")
    archive = server.http.get(f"{exports_of(model)}/{made['id']}/archive").content
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path)
    assert {file["name"] for file in made["files"]} == {file.name for file in tmp_path.iterdir()}
    assert made["bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir())

    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path).chat_template
    assert AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.max_new_tokens == 64
    card = (tmp_path / "README.md").read_text()
    assert "same first choice at 100.0%" in card
    assert "last training loss: " in card
    assert 'license: "unknown"' in card


def test_a_gguf_file_answers_in_llama_cpp_as_the_trained_model_does(server, model, tmp_path):
    made = export(server, model, format="gguf", quantization="f32")
    assert made["state"] == "ready", made["error"]
    path = tmp_path / "model.gguf"
    path.write_bytes(server.http.get(f"{exports_of(model)}/{made['id']}/files/model-f32.gguf").content)
    merged = export(server, model, format="merged")
    archive = server.http.get(f"{exports_of(model)}/{merged['id']}/archive").content
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path / "merged")

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llama_cpp_answers import greedy

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    text = "<|im_start|>user\nWhat is the capital of France in 1789?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt").input_ids
    expected = network.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    answer = greedy(path, text, 12)
    assert answer.prompt_tokens == ids.shape[1]
    assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_a_full_training_is_exported_as_well(server):
    whole = trained(server, adapter=None, optimization={"learning_rate": 0.01, "epochs": 2, "batch_size": 8})
    made = export(server, whole, format="gguf", quantization="q8_0")
    assert made["state"] == "ready", made["error"]
    assert made["verification"]["base_kl_divergence"] is None


def test_held_out_rows_are_asked_where_the_job_kept_some(server):
    file, held = uploaded(server, 24), uploaded(server, 6)
    data = {"train": {"kind": "file", "id": file}, "validation": {"kind": "file", "id": held}, "max_length": 256}
    made = export(server, trained(server, data=data), format="merged", dtype="bfloat16")
    assert made["state"] == "ready", made["error"]
    assert (made["verification"]["prompts_from"], made["verification"]["prompts"]) == ("validation", 6)


def test_the_model_of_another_training_is_not_found_and_what_does_not_fit_is_refused(server, model):
    for wish, status, word in (
        ({"format": "merged", "quantization": "q8_0"}, 422, "quantization belongs to"),
        ({"format": "gguf", "dtype": "float32"}, 422, "dtype belongs to"),
        ({"format": "gguf", "quantization": "q4_k_m"}, 422, "quantization"),
        ({"format": "onnx"}, 422, "format"),
        ({}, 422, "format"),
    ):
        answer = server.http.post(exports_of(model), json=wish)
        assert answer.status_code == status, answer.text
        assert word in answer.text
    answer = server.http.post(exports_of("ft:none"), json={"format": "merged"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    answer = server.http.get(f"{exports_of(model)}/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "export_not_found")


def test_a_deleted_export_leaves_nothing(server, model):
    made = export(server, model, format="merged")
    folder = server.home / "exports" / made["id"]
    assert (folder / "files").is_dir()
    assert server.http.delete(f"{exports_of(model)}/{made['id']}").json() == {"id": made["id"], "deleted": True}
    assert server.http.get(f"{exports_of(model)}/{made['id']}").status_code == 404
    wait_for(lambda: not folder.exists())


def worker_of(server, id):
    for events in (server.home / "exports" / id).glob("attempts/*/events.jsonl"):
        first = events.read_text().partition("\n")[0]
        if first:
            return json.loads(first)["pid"]
    return None


def test_an_export_survives_the_death_of_its_worker_and_of_the_server(server, model):
    answer = server.http.post(exports_of(model), json={"format": "gguf", "quantization": "q8_0"}).json()
    pid = wait_for(lambda: worker_of(server, answer["id"]))
    server.kill()
    with suppress(ProcessLookupError):  # it may have been quicker
        os.kill(pid, signal.SIGKILL)
    server.restart()
    path = f"{exports_of(model)}/{answer['id']}"
    made = wait_for(lambda: (made := server.http.get(path).json())["state"] in ("ready", "failed") and made)
    assert made["state"] == "ready", made["error"]
    assert [each.name for each in (server.home / "exports" / made["id"]).iterdir()] == ["files"]


def test_an_adapter_is_pushed_with_its_base_by_name(server, model, hub):
    token = {"name": "writer", "purpose": "hub", "fields": {"token": hub.WRITERS_TOKEN},
             "host": hub.url.removeprefix("http://")}  # fmt: skip
    made = server.http.post("/tunesmith/v1/secrets", json=token)
    assert made.status_code == 200, made.text
    wish = {"repo": "owner/support", "secret": "writer", "format": "adapter"}
    taken = server.http.post(f"/tunesmith/v1/models/{model}/pushes", json=wish)
    assert taken.status_code == 200, taken.text
    push = taken.json()
    path = f"/tunesmith/v1/models/{model}/pushes/{push['id']}"
    push = wait_for(lambda: (push := server.http.get(path).json())["state"] in ("done", "failed") and push)
    assert (push["state"], push["error"]) == ("done", None)
    repository = hub.repositories["model", "owner/support"]
    content = repository.commits[push["commit"]]
    assert {"adapter_model.safetensors", "README.md"} <= set(content)
    assert json.loads(content["adapter_config.json"])["base_model_name_or_path"] == "tiny"
    assert hub.WRITERS_TOKEN not in json.dumps(push)
    for name, held in content.items():
        assert str(server.home).encode() not in held, name


def test_an_export_that_is_not_ready_cannot_be_pushed(server, model):
    wish = {"repo": "owner/x", "secret": "writer", "format": "gguf", "export": "0" * 32}
    answer = server.http.post(f"/tunesmith/v1/models/{model}/pushes", json=wish)
    assert (answer.status_code, answer.json()["error"]["param"]) == (409, "export")


def command(server, *words):
    """A command of the command line against the server."""
    environment = {**os.environ, "TUNESMITH_URL": server.url}
    return subprocess.run(
        [sys.executable, "-m", "tunesmith.cli", *words], env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_line_exports_and_downloads(server, model, tmp_path):
    file = tmp_path / "own.gguf"
    done = command(server, "models", "export", model, "--format", "gguf", "--quantization", "q8_0", "-o", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(file)
    assert file.read_bytes()[:4] == b"GGUF"
    assert "same first choice at" in done.stderr
    assert "q8_0" in command(server, "models", "exports", model).stdout
    again = command(server, "models", "export", model, "--format", "gguf", "--dtype", "float32")
    assert (again.returncode, "dtype belongs to" in again.stderr) == (1, True)


def test_the_command_line_prints_recipes(server, model):
    job = server.http.get(f"/tunesmith/v1/models/{model}").json()["job"]
    done = command(server, "jobs", "recipe", job, "--format", "llamafactory")
    assert (done.returncode, "lora_rank: 4\n" in done.stdout) == (0, True)
    refused = server.http.get(f"/tunesmith/v1/jobs/{job}/recipe?format=nemo")
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "format")
