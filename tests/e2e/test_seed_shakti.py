"""The request of the vendor's own page, by curl, as it stands there but for host and token, and one that is trained."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from running_server import RunningServer, wait_for
from vision import COLOURS, png
from web_server import WebServer, serve_file

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples/shakti/train.sh"

ORG = "0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4d"
OVIS = "AIDC-AI/Ovis1.6-Llama3.2-3B"

PAGE = r"""
curl --request POST \
  --url https://training-suite.uat-infer.shakticloud.ai/api/llm/train/ \
  --header 'Authorization: Bearer <token>' \
  --header 'Content-Type: multipart/form-data' \
  --form 'training_config_json={
  "model_type": "vlm",
  "base_model": "AIDC-AI/Ovis1.6-Llama3.2-3B",
  "adapter": {
    "lora_r": 16
  },
  "quantization": {
    "bits": 4,
    "llm_int8_threshold": 6,
    "llm_int8_has_fp16_weight": false,
    "bnb_4bit_compute_dtype": "float16",
    "bnb_4bit_use_double_quant": true,
    "bnb_4bit_quant_type": "nf4"
  },
  "trainer": {
    "type": "finetune",
    "learning_rate": 0.0001,
    "batch_size": 1,
    "epochs": 1,
    "gradient_accumulation_steps": 16,
    "logging_steps": 1
  },
  "image_column": "url",
  "output_column": "caption",
  "prompt": {
    "template": "Could you please interpret the image and write a detailed caption?"
  }
}
' \
  --form experiment_name=my_first_vlm_job \
  --form csv_file='@example-file' \
  --form org=0bf00b43-430a-4ca3-a8b3-b13cc8dc6d4d
"""

# The page's request for a language model: no picture, and columns of text in the template.
TEXT = (
    PAGE.replace('"vlm"', '"llm"')
    .replace('  "image_column": "url",\n', "")
    .replace('"output_column": "caption"', '"output_column": "answer"')
    .replace("Could you please interpret the image and write a detailed caption?", "In {language}: {question}")
    .replace("my_first_vlm_job", "my_first_llm_job")
    .replace(OVIS, "tiny")
)

QUESTIONS = "question,language,answer,split\n" + "".join(
    f'"What comes after {n}, please?",English,{n + 1}.,{0 if n < 32 else 1}\n' for n in range(40)
)

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def served(write_home, tiny_vision_model, tmp_path_factory):
    home = write_home(tmp_path_factory.mktemp("shakti") / "home")
    settings = home / "tunesmith.toml"
    own_code = shutil.copytree(tiny_vision_model, tmp_path_factory.mktemp("ovis") / "ovis")
    (own_code / "config.json").write_text(
        json.dumps({"model_type": "ovis", "auto_map": {"AutoModelForCausalLM": "modeling_ovis.Ovis"}})
    )
    aliases = f'"{OVIS}" = "{tiny_vision_model}"\n"ovis-itself" = "{own_code}"\n'
    settings.write_text(f'allowed_networks = "127.0.0.0/8"\n{settings.read_text()}{aliases}')
    server = RunningServer(home)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def web():
    server = WebServer()
    yield server
    server.stop()


@pytest.fixture
def run(served, tmp_path):
    """The status and body that a command of the page gets from this server, with a file beside it."""

    def run(command, content):
        (tmp_path / "example-file").write_text(content)
        command = command.replace("https://training-suite.uat-infer.shakticloud.ai", served.url)
        done = subprocess.run(
            ["bash", "-c", command.strip() + " -s -w '\\n%{http_code}'"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    return run


@pytest.fixture(scope="module")
def trained():
    """What the request for a language model led to, once it has been sent."""
    return {}


def get(server, path, request_id):
    answer = server.http.get(f"/api/llm/training_job/{path}", params={"org_id": ORG, "request_id": request_id})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(server, request_id):
    job = get(server, "get", request_id)
    return job if job["status"] not in ("pending", "running") else None


def files(server):
    return server.http.get("/v1/files").json()["data"]


def captions(web, count=8):
    """A table of addresses of pictures with captions."""
    return "url,caption\n" + "".join(
        f"{web.url}/{n}.png?sig=s{n},A square in {COLOURS[n % 6]}.\n" for n in range(count)
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
def test_the_pages_request_for_pictures_is_trained_to_the_end(served, run, web):
    for n in range(8):
        web.answers[f"/{n}.png"] = serve_file(png(COLOURS[n % 6]))
    status, created = run(PAGE, captions(web))
    assert status == 200, created
    assert created == {**created, "status": "pending", "message": "Training job submitted successfully."}
    job = wait_for(lambda: ended(served, created["request_id"]), seconds=240)
    assert (job["status"], job["error"], job["progress"]) == ("completed", None, 100)
    artifact = Path(job["output_model"])
    assert (artifact / "processor_config.json").is_file()
    assert json.loads((artifact / "adapter_config.json").read_text())["r"] == 16
    hexadecimal = created["request_id"].replace("-", "")
    events = served.http.get(f"/tunesmith/v1/jobs/{hexadecimal}/events").json()["data"]
    [prepared] = [event for event in events if event["kind"] == "prepared"]
    assert "Could you please interpret the image" in prepared["data"]["sample"]
    assert "⟦A square in red.<|im_end|>⟧" in prepared["data"]["sample"]
    assert "sig=" not in served.http.get(f"/tunesmith/v1/jobs/{hexadecimal}").text
    assert answer_of(artifact, with_adapter=True) != answer_of(artifact, with_adapter=False)


def answer_of(artifact, *, with_adapter):
    """What plain libraries write to the page's question about a picture, as logits of the next token."""
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = json.loads((artifact / "adapter_config.json").read_text())["base_model_name_or_path"]
    model = AutoModelForImageTextToText.from_pretrained(base)
    model = PeftModel.from_pretrained(model, artifact) if with_adapter else model
    processor = AutoProcessor.from_pretrained(artifact)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Could you please interpret?"}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    inputs = processor(images=[[Image.new("RGB", (40, 24), "red")]], text=[text], return_tensors="pt")
    return model.eval()(**inputs).logits[0, -1].tolist()


def test_a_model_with_code_of_its_own_is_refused_before_any_picture_is_asked_for(served, run, web):
    before = len(web.requests)
    status, body = run(PAGE.replace(OVIS, "ovis-itself"), captions(web))
    assert status == 400, body
    assert "'ovis' is not a vision-language model known here. It brings code of its own" in body["error"]
    assert len(web.requests) == before


def test_a_picture_that_is_not_there_fails_the_job_with_its_line(served, run, web):
    web.answers["/0.png"] = serve_file(png("red"))
    web.answers.pop("/1.png", None)
    status, created = run(PAGE, captions(web, 2))
    assert status == 200, created
    job = wait_for(lambda: ended(served, created["request_id"]), seconds=60)
    assert job["status"] == "failed"
    assert "Line 3" in job["error"]
    assert "1.png" in job["error"]


def test_a_language_model_is_trained_to_the_end_on_the_columns_of_a_table(served, run, trained):
    status, created = run(TEXT, QUESTIONS)
    assert status == 200, created
    assert created == {**created, "status": "pending", "message": "Training job submitted successfully."}
    assert set(created) == {"request_id", "status", "message"}
    trained["request_id"] = created["request_id"]
    job = wait_for(lambda: ended(served, created["request_id"]), seconds=240)
    assert (job["status"], job["error"], job["progress"]) == ("completed", None, 100)
    assert (job["name"], job["config"]["adapter"]) == ("my_first_llm_job", {"r": 16})
    assert job["output_model"]
    assert any("float16" in note for note in job["notes"])


def test_its_figures_are_those_of_the_rows_that_the_split_column_gives_to_training(served, trained):
    found = get(served, "get/mlflow-metrics", trained["request_id"])["metrics"]
    assert all(set(entry) == {"key", "value", "timestamp", "step"} for entry in found)
    steps = {entry["key"]: entry["step"] for entry in found}
    # 32 of the 40 rows, 16 a step.
    assert (steps["train_loss"], steps["eval_loss"], steps["learning_rate"]) == (2, 2, 2)
    assert all(entry["timestamp"] > 1_600_000_000_000 for entry in found)


def test_the_row_that_the_model_saw_has_the_template_filled(served, trained):
    hexadecimal = trained["request_id"].replace("-", "")
    events = served.http.get(f"/tunesmith/v1/jobs/{hexadecimal}/events").json()["data"]
    [prepared] = [event for event in events if event["kind"] == "prepared"]
    assert "In English: What comes after 0, please?" in prepared["data"]["sample"]


def test_the_list_has_the_job(served, trained):
    jobs = served.http.get("/api/llm/training_job/list", params={"org_id": ORG}).json()["training_jobs"]
    [job] = [job for job in jobs if job["id"] == trained["request_id"]]
    assert job["status"] == "completed"
    assert set(job) == {"id", "name", "status", "created_at", "updated_at"}


def test_json_lines_are_taken_too_whatever_the_file_is_called(served, run):
    rows = [{"question": f"After {n}?", "language": "Dutch", "answer": f"{n + 1}."} for n in range(8)]
    status, created = run(TEXT, "".join(json.dumps(row) + "\n" for row in rows))
    assert status == 200, created
    assert wait_for(lambda: ended(served, created["request_id"]), seconds=240)["status"] == "completed"


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ('"output_column": "answer"', '"output_column": "reply"', 400, "`reply`"),
        ("{language}", "{tongue}", 400, "`tongue`"),
        ("{language}", "{", 400, "training_config_json.prompt.template"),
        ('"llm"', '"ecd"', 400, "encoders"),
        ('"llm"', '"clip"', 400, "pictures with texts"),
        ('"finetune"', '"grpo"', 400, "training_config_json.trainer.type"),
        (
            '"lora_r": 16',
            '"lora_r": 16, "target_modules": ["query"]',
            400,
            "training_config_json.adapter.target_modules",
        ),
        ('"lora_r": 16', '"lora_r": 16, "target_modules": ["query"]', 400, "q_proj, up_proj, v_proj"),
        ('"base_model": "tiny"', '"base_model": "nobody/has-this"', 404, "training_config_json.base_model"),
        ('"adapter": {\n    "lora_r": 16\n  },', "", 400, "training_config_json.quantization"),
        ("csv_file='@example-file'", "csv_file=text", 400, "csv_file"),
        ("csv_file='@example-file'", "other='@example-file'", 400, "csv_file is required"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name_and_leaves_no_file(served, run, old, new, status, words):
    assert old in TEXT
    before = len(files(served))
    answered, body = run(TEXT.replace(old, new), QUESTIONS)
    assert (answered, words in body["error"]) == (status, True), body
    assert len(files(served)) == before


@pytest.mark.parametrize("content", ["", "question,language,answer\n", "\x89PNG\r\n", '{"question": 1'])
def test_files_without_usable_rows_are_refused(served, run, content):
    before = len(files(served))
    status, body = run(TEXT, content)
    assert (status, body["error"] == body["detail"]) == (400, True)
    assert len(files(served)) == before


def test_a_row_without_an_answer_is_refused_with_its_line(served, run):
    before = len(files(served))
    status, body = run(TEXT, "question,language,answer\nWhat?,English,This.\nAnd then?,English,\n")
    assert (status, "line 3" in body["error"]) == (400, True), body
    assert len(files(served)) == before


def test_unknown_jobs_are_404(served):
    for request_id in ("550e8400-e29b-41d4-a716-446655440000", "nonsense"):
        for path in ("get", "get/mlflow-metrics"):
            answer = served.http.get(f"/api/llm/training_job/{path}", params={"org_id": ORG, "request_id": request_id})
            assert answer.status_code == 404
            assert set(answer.json()) == {"error", "detail"}


def test_the_example_runs_to_the_end(served):
    environment = {**os.environ, "TUNESMITH_URL": served.url, "TUNESMITH_MODEL": "tiny"}
    done = subprocess.run([str(EXAMPLE)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "completed 100.0 %" in done.stdout
