"""Jobs on pictures through the native dialect: killed, repeated, planned, refused, and what becomes of results."""

import io
import os
import signal
import struct
import zipfile
import zlib

import pytest
from PIL import Image

from rows import chat_rows
from running_server import RunningServer, wait_for
from tiny_pictures import png
from web_server import WebServer, serve_file

pytestmark = pytest.mark.slow

NATIVE = "/tunesmith/v1"
COLOURS = ("red", "green", "blue", "yellow", "white")


@pytest.fixture(scope="module")
def web():
    server = WebServer()
    for colour in COLOURS:
        server.answers[f"/{colour}.png"] = serve_file(png(colour))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def served(write_home, tmp_path_factory, image_model):
    home = write_home(tmp_path_factory.mktemp("images") / "home")
    with (home / "tunesmith.toml").open("a") as settings:
        settings.write(f'flux = "{image_model}"\n')
    server = RunningServer(home, TUNESMITH_ALLOWED_NETWORKS="127.0.0.1/32")
    rows = {"file": ("rows.jsonl", chat_rows())}
    server.http.post(f"{NATIVE}/datasets", data={"name": "rows"}, files=rows).raise_for_status()
    yield server
    server.stop()


def wished(web, **changes):
    """A request; keyword arguments are merged into its parts, or replace them."""
    spec = {
        "model": {"base": "flux", "dtype": "float32", "modality": "image"},
        "data": {
            "train": {"kind": "images", "id": "flags"},
            "images": {
                "sources": [f"{web.url}/{colour}.png" for colour in COLOURS],
                "trigger_word": "sks",
                "captioning": "filename",
                "resolution": [64],
            },
        },
        "method": {
            "kind": "text_to_image",
            "parameters": {"caption_dropout": 0.2, "ema_decay": 0.9, "sample_width": 64, "sample_height": 64},
        },
        "adapter": {"rank": 4, "dropout": 0.1},
        "optimization": {"batch_size": 2, "max_steps": 30, "learning_rate": 0.01},
        "cadence": {"save_steps": 2},
    }
    for part, change in changes.items():
        old = spec.get(part)
        spec[part] = old | change if isinstance(old, dict) and isinstance(change, dict) else change
    return {"spec": spec}


def asked(server, body, path="jobs"):
    return server.http.post(f"{NATIVE}/{path}", json=body)


def submit(server, body):
    answer = asked(server, body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def job_of(server, job):
    return server.http.get(f"{NATIVE}/jobs/{job}").json()


def succeeded(server, job):
    done = wait_for(lambda: (now := job_of(server, job))["state"] in ("succeeded", "failed") and now)
    assert done["state"] == "succeeded", done["error"]
    return done


def events(server, job, kind):
    told = server.http.get(f"{NATIVE}/jobs/{job}/events?limit=1000").json()["data"]
    return [each for each in told if each["kind"] == kind]


def losses(server, job):
    """The loss of each step, of its last run."""
    return {each["data"]["step"]: each["data"]["loss"] for each in events(server, job, "metrics")}


def refusal(server, body, path="jobs"):
    answer = asked(server, body, path)
    assert 400 <= answer.status_code < 500, answer.text
    return answer.json()["error"]


@pytest.fixture(scope="module")
def trained(served, web):
    """A job that nobody disturbed."""
    job = submit(served, wished(web))
    succeeded(served, job)
    return job


def test_a_killed_worker_is_replaced_and_its_losses_equal_an_undisturbed_runs(served, web, trained):
    job = submit(served, wished(web))
    wait_for(lambda: job_of(served, job)["step"] >= 9)
    [pid] = served.worker_pids()
    os.kill(pid, signal.SIGKILL)
    done = succeeded(served, job)
    assert done["attempts"] == 2
    assert [each["exactness"] for each in done["resumes"]] == ["exact"]
    assert losses(served, job) == losses(served, trained)


def test_a_paused_job_goes_on_exactly(served, web, trained):
    job = submit(served, wished(web))
    wait_for(lambda: job_of(served, job)["step"] >= 5)
    served.http.post(f"{NATIVE}/jobs/{job}/pause").raise_for_status()
    wait_for(lambda: job_of(served, job)["state"] == "paused")
    served.http.post(f"{NATIVE}/jobs/{job}/resume").raise_for_status()
    succeeded(served, job)
    assert losses(served, job) == losses(served, trained)


def test_a_second_job_on_the_same_pictures_encodes_nothing(served, web, trained):
    job = submit(served, wished(web))
    succeeded(served, job)
    told = [each["message"] for each in events(served, job, "note") if "Encoded" in each["message"]]
    assert told == [
        "Encoded 0 of 6 captions; the others were kept.",
        "Encoded 0 of 5 latents; the others were kept.",
    ]
    assert (served.home / "cache" / "encoded" / "local").is_dir()


def test_held_out_pictures_are_scored_and_can_end_the_training(served, web):
    body = wished(
        web,
        data=wished(web)["spec"]["data"] | {"split": {"by": "random", "ratios": [0.6, 0.4]}},
        optimization={"max_steps": 400, "learning_rate": 0.1},
        selection={"patience": 2, "result": "best"},
        cadence={"eval_steps": 2, "save_steps": 400},
    )
    done = succeeded(served, submit(served, body))
    assert done["step"] < 400
    [ended] = events(served, done["id"], "stopped_early")
    scores = {each["data"]["step"]: each["data"]["loss"] for each in events(served, done["id"], "evaluated")}
    assert scores[ended["data"]["best_step"]] == min(scores.values())


def test_a_plan_says_what_is_not_known_before_the_pictures_are_prepared_and_the_job_has_the_rest(served, web, trained):
    answer = asked(served, wished(web), "jobs:plan").json()
    assert (answer["plan"], answer["complete"]) == (None, False)
    assert answer["remote"][0] == {
        "field": "spec.data.images.sources.0", "address": f"{web.url}/red.png", "revision": None,
    }  # fmt: skip
    assert answer["spec"]["data"]["over_long"] == "truncate"
    plan = served.http.get(f"{NATIVE}/jobs/{trained}/plan").json()
    assert (plan["rows"]["rows"], plan["rows"]["steps"]) == ({"low": 5, "high": 5}, {"low": 30, "high": 30})
    assert (plan["fits"], plan["memory"]) == ("unknown", None)
    assert "cannot be told in advance" in plan["memory_note"]


IMAGES = "spec.data.images"


@pytest.mark.parametrize(
    ("changes", "param", "word"),
    [
        ({"model": {"base": "tiny"}}, "spec.model.base", "FLUX.1 (FluxPipeline)"),
        ({"model": {"base": "no/body"}}, "spec.model.base", "no/body"),
        ({"method": {"kind": "sft", "parameters": {}}}, "spec.model.modality", "text_to_image"),
        ({"init_from": {"kind": "model", "id": "any"}}, "spec.init_from", "whole base model"),
        ({"sampling": {"prompts": ["sks"], "every": 5}}, "spec.sampling.denoising_steps", "1 to 1,000"),
        ({"adapter": {"rank": 0}}, "spec.adapter.rank", "1"),
        ({"adapter": {"decomposed": True}}, "spec.adapter.decomposed", "plain LoRA"),
        ({"optimization": {"learning_rate": -1}}, "spec.optimization.learning_rate", "greater than 0"),
        ({"optimization": {"neftune_noise_alpha": 5}}, "spec.optimization.neftune_noise_alpha", "Noise"),
        ({"selection": {"patience": 3}}, "spec.selection.patience", "rows to evaluate"),
        ({"method": {"parameters": {"ema_decay": 1.0}}}, "spec.method.parameters.ema_decay", "less than 1"),
        ({"method": {"parameters": {"no": 1}}}, "spec.method.parameters.no", ""),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_picture_is_fetched(served, web, changes, param, word):
    before = len(web.requests)
    error = refusal(served, wished(web, **changes))
    assert error["param"] == param
    assert word in error["message"] + (error["hint"] or "")
    assert len(web.requests) == before


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"sources": []}, f"{IMAGES}.sources"),
        ({"sources": ["ftp://a/b.png"]}, f"{IMAGES}.sources.0"),
        ({"sources": [f"file-{'0' * 32}"]}, f"{IMAGES}.sources.0"),
        ({"resolution": [0]}, f"{IMAGES}.resolution.0"),
        ({"captioning": "custom"}, f"{IMAGES}.caption_prompt"),
        ({"captioning": "auto"}, f"{IMAGES}.captioning"),
        ({"captioning": "guess"}, f"{IMAGES}.captioning"),
        ({"transforms": [{"type": "melt"}]}, f"{IMAGES}.transforms.0.type"),
        ({"transforms": [{"type": "max_side"}]}, f"{IMAGES}.transforms.0.pixels"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_its_field(served, web, changes, param):
    data = wished(web)["spec"]["data"]
    assert refusal(served, wished(web, data=data | {"images": data["images"] | changes}))["param"] == param


def test_a_rank_that_no_layer_has_fails_the_job_with_what_is_possible(served, web):
    job = submit(served, wished(web, adapter={"rank": 1024}))
    failed = wait_for(lambda: (now := job_of(served, job))["state"] == "failed" and now)
    assert failed["error"]["param"] == "adapter.rank"
    assert "Ask for at most" in failed["error"]["hint"]


def test_a_model_of_text_is_not_trained_over_one_that_draws(served, trained):
    produced = job_of(served, trained)["model"]
    for base in ("flux", produced):
        body = {"spec": {"model": {"base": base}, "data": {"train": {"dataset": "rows"}}}}
        error = refusal(served, body)
        assert (error["code"], error["param"]) == ("unsupported", "spec.model.base")
        assert "draws pictures" in error["message"]


def test_a_model_that_draws_is_no_base_of_another_and_its_checkpoints_no_start(served, web, trained):
    produced = job_of(served, trained)["model"]
    error = refusal(served, wished(web, model={"base": produced}))
    assert (error["param"], error["hint"]) == ("spec.model.base", "Name its base, 'flux'.")
    checkpoint = served.http.get(f"{NATIVE}/jobs/{trained}/checkpoints").json()["data"][0]["id"]
    start = {"kind": "checkpoint", "id": checkpoint}
    assert refusal(served, wished(web, init_from=start))["param"] == "spec.init_from"
    body = {"spec": {"model": {"base": "tiny"}, "data": {"train": {"dataset": "rows"}}, "init_from": start}}
    assert "draws pictures" in refusal(served, body)["message"]


def test_exports_and_recipes_say_that_they_are_of_language_models(served, trained):
    produced = job_of(served, trained)["model"]
    for format in ("merged", "gguf"):
        answer = served.http.post(f"{NATIVE}/models/{produced}/exports", json={"format": format})
        assert answer.status_code == 422
        assert "Exports are made of language models" in answer.json()["error"]["message"]
    for tool in ("axolotl", "llamafactory", "ms-swift", "trl"):
        answer = served.http.get(f"{NATIVE}/jobs/{trained}/recipe?format={tool}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unsupported")


def test_there_is_no_receipt_of_pictures(served, trained):
    answer = served.http.get(f"{NATIVE}/jobs/{trained}/receipt")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_state")
    assert "pictures" in answer.json()["error"]["message"]


def test_the_files_of_the_result_are_the_adapter_its_recipe_and_a_card(served, trained):
    found = served.http.get(f"{NATIVE}/jobs/{trained}/artifacts").json()["data"]
    names = {each["name"].rpartition("/")[2] for each in found if each["kind"] == "model"}
    assert names == {"README.md", f"{trained}.safetensors", "recipe.json"}


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def header(width, height):
    """A small PNG that claims to be of this size."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def bomb():
    """An archive with a file of 200 MB of zeros."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(200_000_000))
    return content.getvalue()


def test_bad_pictures_are_left_out_by_name_and_odd_ones_are_trained_on(served, web):
    plain, noise = Image.new("RGB", (64, 48), "red"), Image.effect_noise((64, 48), 60)
    bad = {
        "empty.png": (b"", "empty"),
        "cut.jpg": (encoded(noise, "JPEG")[:700], "damaged or cut off"),
        "renamed.jpg": (b"hello, I am a text", "it is text"),
        "moving.webp": (encoded(plain, "WEBP", save_all=True, append_images=[noise.convert("RGB")]), "animated"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        "huge.png": (header(50_000, 50_000), "50,000 x 50,000 pixels"),
        "bomb.zip": (bomb(), "100 times its size"),
    }
    good = {
        "inks.jpg": encoded(plain.convert("CMYK"), "JPEG"),
        "deep.png": encoded(Image.new("I;16", (64, 48), 30_000), "PNG"),
        "palette.png": encoded(plain.convert("P"), "PNG"),
        "glass.webp": encoded(Image.new("RGBA", (64, 48), (0, 0, 255, 90)), "WEBP"),
    }
    for name, content in {**{name: content for name, (content, _) in bad.items()}, **good}.items():
        web.answers[f"/odd/{name}"] = serve_file(content)
    data = wished(web)["spec"]["data"]
    data["images"]["sources"] = [f"{web.url}/odd/{name}" for name in (*bad, *good, "lost.png")]
    done = succeeded(served, submit(served, wished(web, data=data, optimization={"max_steps": 2})))
    last = events(served, done["id"], "pictures")[-1]["data"]
    assert (last["done"], last["total"], last["left_out_count"]) == (4, 12, 8)
    reasons = {each["picture"].rpartition("/")[2]: each["reason"] for each in last["left_out"]}
    for name, (_, word) in bad.items():
        assert word in reasons[name]
    assert "Nothing lies at" in reasons["lost.png"]
    [prepared] = events(served, done["id"], "prepared")
    assert prepared["data"]["rows"] == 4
