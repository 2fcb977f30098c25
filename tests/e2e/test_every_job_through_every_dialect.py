"""A job made in each dialect is read, listed and cancelled through every other one, in its words, clocks and order."""

import json
import re
import uuid

import pytest

from rows import chat_rows
from running_server import RunningServer, wait_for
from tiny_pictures import png
from web_server import WebServer, serve_file

pytestmark = pytest.mark.slow

ORG = "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4f"
MAKERS = ("openai", "simplismart", "shakti", "training_api", "image_training", "native")
READERS = MAKERS

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory, image_model):
    home = write_home(tmp_path_factory.mktemp("every") / "home")
    with (home / "tunesmith.toml").open("a") as settings:
        settings.write(f'"black-forest-labs/FLUX.1-dev" = "{image_model}"\n')
    server = RunningServer(home, TUNESMITH_ALLOWED_NETWORKS="127.0.0.1/32")
    server.web = WebServer()
    server.web.answers["/red.png"] = serve_file(png("red"))
    add_rows(server)
    yield server
    server.stop()
    server.web.stop()


def add_rows(server):
    rows = {"file": ("rows.jsonl", chat_rows())}
    server.http.post("/tunesmith/v1/datasets", data={"name": "rows"}, files=rows).raise_for_status()
    server.file = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
    # It holds the only device, so that all others wait.
    asked = {"model_name": "tiny", "dataset_version": "rows", "num_epochs": 900, "gradient_accumulation_steps": 1}
    server.first = server.http.post("/train", json=asked).json()["job_id"]


# --- making, one function a dialect ----------------------------------------------------------------------------------


def make_openai(server):
    asked = {"model": "tiny", "training_file": server.file, "hyperparameters": {"n_epochs": 1}}
    return answered(server.http.post("/v1/fine_tuning/jobs", json=asked))["id"].removeprefix("ftjob-")


def make_training_api(server):
    return plain(answered(server.http.post("/train", json={"model_name": "tiny", "dataset_version": "rows"}))["job_id"])


def make_native(server):
    asked = {"spec": {"model": {"base": "tiny"}, "data": {"train": {"dataset": "rows"}}}}
    return answered(server.http.post("/tunesmith/v1/jobs", json=asked))["id"]


def make_simplismart(server):
    parts = {
        "org": ORG,
        "experiment_name": f"experiment-{uuid.uuid4().hex[:8]}",
        "dataset_config": {
            "preprocessing": {"prompt": {"max_length": 256}},
            "split": {"type": "random", "ratios": [1]},
        },
        "model_details": {"base_model": "tiny", "ownership": "public", "source_type": "hf", "model_type": "llm"},
        "train_config": {
            "type": "sft",
            "torch_dtype": "bfloat16",
            "task_type": "causal_lm",
            "train_type": "lora",
            "hyperparameters": {"num_epochs": 1},
            "adapter_config": {"r": 8, "alpha": 16, "dropout": 0.0, "targets": ["all-linear"]},
        },
        "dataset_details": {
            "dataset_name": "rows",
            "dataset_path": "rows",
            "dataset_type": "jsonl",
            "dataset_format": "openai",
            "source_type": "local",
            "ownership": "private",
        },
        "infra_config": {"gpu_type": "h100", "gpu_count": 1, "infra_type": "simplismart", "node_count": 1},
    }
    form = {name: (None, part if isinstance(part, str) else json.dumps(part)) for name, part in parts.items()}
    return plain(answered(server.http.post("/job/", files=form))["request_id"])


def make_shakti(server):
    config = {
        "model_type": "llm",
        "base_model": "tiny",
        "adapter": {"lora_r": 8},
        "trainer": {"type": "finetune", "epochs": 1},
        "output_column": "answer",
        "prompt": {"template": "{question}"},
    }
    rows = "question,answer\n" + "".join(f"What comes after {n}?,{n + 1}.\n" for n in range(12))
    form = {
        "training_config_json": (None, json.dumps(config)),
        "experiment_name": (None, "numbers"),
        "org": (None, ORG),
        "csv_file": ("rows.csv", rows.encode()),
    }
    return plain(answered(server.http.post("/api/llm/train/", files=form))["request_id"])


def make_image_training(server):
    asked = {"trigger_word": "ohwx", "source_images": [f"{server.web.url}/red.png"]}
    id = plain(answered(server.http.post("/api/v1/training/", json=asked))["id"])
    # Its pictures are prepared first, and other words tell of that.
    wait_for(lambda: server.http.get(f"/tunesmith/v1/jobs/{id}").json()["state"] == "queued")
    return id


MAKE = {name: globals()[f"make_{name}"] for name in MAKERS}


def answered(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def plain(id):
    return id.replace("-", "")


def dashed(id):
    return str(uuid.UUID(id))


# --- reading, one table a dialect ------------------------------------------------------------------------------------


def is_iso(value):
    return isinstance(value, str) and ISO.fullmatch(value) is not None


def is_whole(value):
    return isinstance(value, int)


def is_float(value):
    return isinstance(value, float)


# Words for a waiting and a cancelled job; the key and the form of the time of creation; the id's key.
WORDS = {
    "openai": ("queued", "cancelled", "created_at", is_whole, "id"),
    "simplismart": ("QUEUED", "CANCELED", "created_at", is_iso, "request_id"),
    "shakti": ("pending", "failed", "created_at", is_iso, "id"),
    "training_api": ("queued", "cancelled", "start_time", is_float, "job_id"),
    "image_training": ("QUEUED", "CANCELLED", "created_at", is_iso, "id"),
    "native": ("queued", "cancelled", "created_at", is_float, "id"),
}


def wire_id(reader, id):
    return {"openai": f"ftjob-{id}", "native": id}.get(reader) or dashed(id)


def read(server, reader, id):
    wire = wire_id(reader, id)
    answer = {
        "openai": lambda: server.http.get(f"/v1/fine_tuning/jobs/{wire}"),
        "simplismart": lambda: server.http.get("/job/get/", params={"org_id": ORG, "request_id": wire}),
        "shakti": lambda: server.http.get("/api/llm/training_job/get/", params={"org_id": ORG, "request_id": wire}),
        "training_api": lambda: server.http.get(f"/train/{wire}"),
        "image_training": lambda: server.http.get(f"/api/v1/training/{wire}"),
        "native": lambda: server.http.get(f"/tunesmith/v1/jobs/{wire}"),
    }[reader]()
    return answered(answer)


def listed(server, reader):
    """Our ids, in the order of the list."""
    where, pick, newest_first = {
        "openai": ("/v1/fine_tuning/jobs?limit=100", lambda page: page["data"], True),
        "simplismart": (f"/job/list/?org_id={ORG}", lambda page: page["jobs"], True),
        "shakti": (f"/api/llm/training_job/list/?org_id={ORG}", lambda page: page["training_jobs"], True),
        "training_api": ("/train", lambda page: page, False),
        "image_training": ("/api/v1/training/?limit=100", lambda page: page, True),
        "native": ("/tunesmith/v1/jobs", lambda page: page["data"], True),
    }[reader]
    found = [plain(each[WORDS[reader][4]]).removeprefix("ftjob") for each in pick(answered(server.http.get(where)))]
    return found if newest_first else found[::-1]


def cancel(server, reader, id):
    wire = wire_id(reader, id)
    answer = {
        "openai": lambda: server.http.post(f"/v1/fine_tuning/jobs/{wire}/cancel"),
        "simplismart": lambda: server.http.post("/job/cancel/", params={"org_id": ORG, "request_id": wire}),
        "training_api": lambda: server.http.delete(f"/train/{wire}"),
        "image_training": lambda: server.http.post(f"/api/v1/training/{wire}/cancel"),
        "native": lambda: server.http.post(f"/tunesmith/v1/jobs/{wire}/cancel"),
        # The origin has no cancel, so its users take any other dialect's.
        "shakti": lambda: server.http.delete(f"/train/{dashed(id)}"),
    }[reader]()
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def made(served):
    """A job of each dialect, in order of arrival."""
    return {maker: MAKE[maker](served) for maker in MAKERS}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("maker", MAKERS)
def test_it_is_read_in_the_readers_words_and_clocks(served, made, maker, reader):
    waiting, _, clock, is_form, _ = WORDS[reader]
    shown = read(served, reader, made[maker])
    assert (shown.get("status") or shown["state"]) == waiting
    assert is_form(shown[clock]), shown[clock]


@pytest.mark.parametrize("reader", READERS)
def test_all_are_listed_in_the_readers_order(served, made, reader):
    shown = [id for id in listed(served, reader) if id in made.values()]
    assert shown == list(made.values())[::-1]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("maker", MAKERS)
def test_it_is_cancelled_through_the_reader_and_all_others_see_it(served, maker, reader):
    id = MAKE[maker](served)
    cancel(served, reader, id)
    for other in READERS:
        shown = read(served, other, id)
        assert (shown.get("status") or shown["state"]) == WORDS[other][1], other


def test_the_first_job_ends_when_it_is_cancelled(served):
    served.http.delete(f"/train/{served.first}").raise_for_status()
    wait_for(lambda: not served.worker_pids(), seconds=45)
