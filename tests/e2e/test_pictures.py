"""Rows with pictures over HTTP: what is trained, refused before a device is taken, and what outlives a crash."""

import base64
import io
import json
import os
import signal
import struct
import zipfile
import zlib

import openai
import pytest
from PIL import Image

from running_server import RunningServer, wait_for
from vision import COLOURS, encoded, mixed_rows, png, says, shows

pytestmark = pytest.mark.slow

PARTS = ["language", "projector", "vision"]


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory, tiny_vision_model):
    home = write_home(tmp_path_factory.mktemp("pictures") / "home")
    settings = home / "tunesmith.toml"
    settings.write_text(f'{settings.read_text()}sees = "{tiny_vision_model}"\n')
    server = RunningServer(home)
    yield server
    server.stop()


def archive(rows, pictures):
    """A ZIP of rows and of pictures by their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        for name, content in pictures.items():
            target.writestr(name, content)
    return file.getvalue()


def of_colours(rows):
    """An archive of such rows, whose pictures are of one colour each."""
    return archive(rows, {colour: png(colour) for colour in COLOURS})


def uri(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def upload(server, content, name="rows.zip"):
    answer = server.http.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"].removeprefix("file-")


def body(server, content, **changes):
    """The request for a job on an archive. Keyword arguments are parts of the spec."""
    spec = {
        "model": {"base": "sees", "modality": "vision_language", "dtype": "float32"},
        "data": {"train": {"file": upload(server, content)}, "max_length": 256},
        "adapter": {"rank": 4},
        "optimization": {"learning_rate": 0.01, "epochs": 1, "batch_size": 4},
    }
    return {"spec": {**spec, **changes}}


def submitted(server, content, **changes):
    answer = server.http.post("/tunesmith/v1/jobs", json=body(server, content, **changes))
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def ended(server, job, seconds=120):
    def look():
        found = server.http.get(f"/tunesmith/v1/jobs/{job}").json()
        return found if found["state"] in ("succeeded", "failed") else None

    return wait_for(look, seconds)


def as_openai_has_them(count):
    """Rows as OpenAI's page on vision fine-tuning shows them."""
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        picture = {"type": "image_url", "image_url": {"url": uri(png(colour)), "detail": "low"}}
        asked = [{"type": "text", "text": "What colour is it?"}, picture]
        yield {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": f"It is {colour}."}]}


@pytest.fixture
def official(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)


@pytest.fixture
def shown(official):
    """The id of a file whose rows show pictures."""
    rows = "".join(json.dumps(row) + "\n" for row in as_openai_has_them(12)).encode()
    return official.files.create(file=("rows.jsonl", rows), purpose="fine-tune").id


def test_openais_client_trains_a_model_that_reads_pictures_on_rows_that_show_some(served, official, shown):
    job = official.fine_tuning.jobs.create(model="sees", training_file=shown, hyperparameters={"n_epochs": 1})
    done = ended(served, job.id.removeprefix("ftjob-"))
    assert (done["state"], done["spec"]["model"]["modality"]) == ("succeeded", "vision_language"), done
    again = official.fine_tuning.jobs.create(
        model=official.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuned_model_checkpoint,
        training_file=shown,
        hyperparameters={"n_epochs": 1},
    )
    assert ended(served, again.id.removeprefix("ftjob-"))["state"] == "succeeded"


def test_a_model_of_text_is_refused_for_rows_that_show_pictures(official, shown):
    with pytest.raises(openai.BadRequestError, match="architecture 'llama'") as caught:
        official.fine_tuning.jobs.create(model="tiny", training_file=shown)
    assert caught.value.param == "model"


def test_the_training_api_trains_on_a_dataset_that_shows_pictures(served):
    rows = of_colours(mixed_rows(12))
    answer = served.http.post("/tunesmith/v1/datasets", data={"name": "shown"}, files={"file": ("rows.zip", rows)})
    assert answer.status_code == 200, answer.text
    asked = {"model_name": "sees", "dataset_version": "shown", "num_epochs": 1, "tracking_backend": "mlflow"}
    answer = served.http.post("/train", json=asked)
    assert answer.status_code == 200, answer.text
    done = ended(served, answer.json()["job_id"].replace("-", ""))
    assert (done["state"], done["spec"]["model"]["modality"]) == ("succeeded", "vision_language"), done


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, bits=8):
    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


NOISE = Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3))
HOSTILE = {
    "empty": (b"", "a picture is empty"),
    "renamed": (b"MZ this is a program", "what should be a picture is none"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "what should be a picture is none"),
    "truncated": (encoded(NOISE, "JPEG")[:900], "cannot be decoded"),
    "unreadable": (b"\x89PNG\r\n\x1a\nnonsense", "a picture"),
    "animated": (encoded(NOISE, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]), "2 frames"),
    "cmyk": (encoded(Image.new("CMYK", (4, 4)), "JPEG"), "the colours CMYK"),
    "sixteen": (png_of(4, 4, bits=16), "16 bits a channel"),
    "huge": (png_of(50_000, 50_000), "pixels"),
    "bomb": (png_of(2**31 - 1, 2**31 - 1), "pixels"),
    "flat": (encoded(Image.new("1", (7_100, 7_100)), "PNG"), "50,000,000"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_picture_fails_the_job_with_its_line_before_a_device_is_taken(served, kind):
    content, words = HOSTILE[kind]
    # Far behind the rows that a plan reads.
    rows = [*(shows(uri(png(COLOURS[n % 6])), answer=f"Number {n}.") for n in range(40)), shows(uri(content))]
    job = ended(served, submitted(served, "".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert (job["state"], job["attempts"]) == ("failed", 0), job
    assert job["error"]["message"].startswith("Line 41: "), job["error"]
    assert words in job["error"]["message"]


@pytest.mark.parametrize("kind", ["empty", "renamed", "svg"])
def test_an_archive_of_what_is_no_picture_is_refused_as_it_is_sent(served, kind):
    files = {"file": ("rows.zip", archive([shows(kind)], {kind: HOSTILE[kind][0]}))}
    answer = served.http.post("/v1/files", data={"purpose": "fine-tune"}, files=files)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{kind}: ")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([shows("red"), shows("other.png")], "Line 2: the archive has no picture 'other.png'"),
        ([shows("red"), shows("red", answer="An <image>, it seems.")], "Line 2: the chat template shows 2 pictures"),
        ([shows("red"), says("What is <image>?", "A mark.")], "Line 2 shows no picture"),
    ],
)
def test_rows_that_do_not_fit_their_pictures_fail_the_job_with_their_line(served, rows, words):
    job = ended(served, submitted(served, of_colours(rows)))
    assert (job["state"], job["attempts"]) == ("failed", 0), job
    assert words in job["error"]["message"]


def test_a_row_whose_pictures_would_be_cut_fails_the_job_with_its_line(served):
    rows = [shows("red"), shows("red", "blue", "green")]
    settings = {
        "data": {"train": {"file": upload(served, of_colours(rows))}, "max_length": 48, "over_long": "truncate"}
    }
    job = ended(served, submitted(served, of_colours(rows), **settings))
    assert (job["state"], job["error"]["code"], job["attempts"]) == ("failed", "row_too_long", 0)
    assert "Line 2: its pictures reach to token" in job["error"]["message"]


def test_more_places_than_pictures_are_refused_with_the_request(served):
    rows = [shows("red"), {**says("<image> and <image>?", "Both."), "images": ["red"]}]
    answer = served.http.post("/tunesmith/v1/jobs", json=body(served, of_colours(rows)))
    assert answer.status_code == 422
    assert "line 2" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"method": {"kind": "dpo"}}, "spec.model.modality"),
        ({"method": {"kind": "classification"}}, "spec.model.modality"),
        ({"method": {"kind": "sft", "parameters": {"parts": ["eyes"]}}}, "spec.method.parameters.parts.0"),
        ({"method": {"kind": "sft", "parameters": {"parts": []}}}, "spec.method.parameters.parts"),
        ({"adapter": {"rank": 4, "targets": ["fc1"]}}, "spec.adapter.targets"),
        (
            {"adapter": {"targets": ["q_proj"]}, "method": {"kind": "sft", "parameters": {"parts": ["projector"]}}},
            "spec.adapter.targets",
        ),
        (
            {
                "adapter": {"targets": ["down_proj"]},
                "method": {"kind": "sft", "parameters": {"parts": ["language", "vision"]}},
            },
            "spec.method.parameters.parts",
        ),
        ({"sampling": {"prompts": ["What is <image>?"], "every": 1}}, "spec.sampling.prompts.0"),
        ({"model": {"base": "tiny", "modality": "vision_language"}}, "spec.model.modality"),
        ({"model": {"base": "sees"}}, "spec.model.base"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_with_the_request_before_pictures_are_gathered(served, changes, param):
    answer = served.http.post("/tunesmith/v1/jobs", json=body(served, of_colours([shows("red")]), **changes))
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_a_plan_says_that_pictures_are_gathered_by_jobs_alone_and_the_job_has_its_own(served):
    asked = body(served, of_colours(mixed_rows(12)))
    planned = served.http.post("/tunesmith/v1/jobs:plan", json=asked).json()
    assert (planned["complete"], planned["plan"]) == (False, None)
    job = served.http.post("/tunesmith/v1/jobs", json=asked).json()["id"]
    assert ended(served, job)["state"] == "succeeded"
    plan = served.http.get(f"/tunesmith/v1/jobs/{job}/plan").json()
    assert (plan["rows"]["rows"]["low"], plan["fits"]) == (12, "yes")
    assert plan["memory"]["high"] > plan["memory"]["low"]
    receipt = served.http.get(f"/tunesmith/v1/jobs/{job}/receipt").json()
    assert receipt["rows"] == 12
    assert not any(
        piece["trained"] and "<image>" in piece["text"] for row in receipt["samples"] for piece in row["pieces"]
    )


def test_rows_of_every_spelling_are_trained_together(served):
    rows = [
        shows("red"),
        {**says("<image>What is it?", "It is blue."), "images": ["blue"]},
        {**says("What is it?", "It is green."), "image": uri(png("green"))},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri(png("black"))}}, "What?"]},
                {"role": "assistant", "content": "It is black."},
            ]
        },
        says("Hello?", "Hello."),
    ]
    job = ended(served, submitted(served, of_colours(rows)))
    assert job["state"] == "succeeded", job["error"]


def test_a_result_is_continued_merged_and_keeps_reading_pictures(served):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    first = ended(served, submitted(served, of_colours(mixed_rows(12))))
    more = {"model": {"base": first["model"], "modality": "vision_language", "dtype": "float32"}}
    second = ended(served, submitted(served, of_colours(mixed_rows(12)), **more))
    assert second["state"] == "succeeded", second["error"]
    exports = f"/tunesmith/v1/models/{second['model']}/exports"
    made = served.http.post(exports, json={"format": "merged"})
    assert made.status_code == 200, made.text
    path = f"{exports}/{made.json()['id']}"
    export = wait_for(lambda: (now := served.http.get(path).json())["state"] in ("ready", "failed") and now)
    assert export["state"] == "ready", export["error"]
    assert export["verification"]["prompts"] == 5
    folder = served.home / "exports" / made.json()["id"] / "files"
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = processor(images=[[Image.new("RGB", (9, 9), "red")]], text=["<image>What?"], return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()
    refused = served.http.post(exports, json={"format": "gguf"})
    assert refused.status_code == 422, refused.text
    assert "reads pictures" in refused.json()["error"]["message"]


def metrics(server, job):
    """The loss of each step, of its last run."""
    data = server.http.get(f"/tunesmith/v1/jobs/{job}/events?limit=1000").json()["data"]
    return {event["data"]["step"]: event["data"]["loss"] for event in data if event["kind"] == "metrics"}


def test_a_killed_worker_is_replaced_and_its_losses_and_weights_equal_an_undisturbed_runs(served):
    content = of_colours(mixed_rows(48))
    settings = {
        "adapter": {"rank": 4, "dropout": 0.1},
        "method": {"kind": "sft", "parameters": {"parts": PARTS}},
        "optimization": {
            "learning_rate": 1e-3, "epochs": 8, "batch_size": 4, "neftune_noise_alpha": 5, "seed": 3,
        },
    }  # fmt: skip
    undisturbed = submitted(served, content, **settings)
    assert ended(served, undisturbed, 240)["state"] == "succeeded"
    job = submitted(served, content, **settings)
    wait_for(lambda: len(metrics(served, job)) >= 30)
    [pid] = served.worker_pids()
    os.kill(pid, signal.SIGKILL)
    done = ended(served, job, 240)
    assert (done["state"], done["attempts"]) == ("succeeded", 2)
    assert metrics(served, job) == metrics(served, undisturbed)
    one, two = (
        (served.home / "models" / each / "adapter_model.safetensors").read_bytes() for each in (undisturbed, job)
    )
    assert one == two
