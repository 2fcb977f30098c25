"""The plug-ins of CONTRIBUTING.md, taken from the page, put into a copy of the package and used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import tunesmith
from rows import chat_rows
from running_server import RunningServer, wait_for
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Checked, Metrics, Succeeded
from tunesmith.spec.job import (
    AdapterSpec,
    AttemptSpec,
    CadenceSpec,
    DataSource,
    DataSpec,
    Inputs,
    JobSpec,
    MethodSpec,
    ModelSpec,
    OptimizationSpec,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the package with the files of the page in it; its path is what `PYTHONPATH` has to name."""
    folder = tmp_path_factory.mktemp("source") / "src"
    shutil.copytree(Path(tunesmith.__file__).parent, folder / "tunesmith", ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in _files().items():
        file = folder.parent / name
        assert not file.exists(), f"{name} is no new file"
        file.write_text(code)
    return folder


def _files():
    blocks = re.findall(r"^```python\n(# (src/tunesmith/\S+\.py)\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return {name: code for code, name in blocks}


def _run(source, *arguments, **settings):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
        **settings,
    )


def test_the_page_shows_one_new_file_for_each_kind_of_plug_in():
    assert [Path(name).parent.name for name in _files()] == ["dialects", "methods", "runners"]


def test_the_files_of_the_page_pass_the_linter(source):
    files = [str(source.parent / name) for name in _files()]
    config = ("--config", str(ROOT / "pyproject.toml"))
    for command in (("check", *config), ("format", "--check", *config)):
        done = _run(source, "-m", "ruff", *command, *files)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_side_loads_them_without_a_training_library(source):
    code = (
        "import sys; from tunesmith.plugins import load_plugins;"
        "print([name for kind in ('dialects', 'methods', 'runners') for name in load_plugins(f'tunesmith.{kind}')]);"
        "print(sorted({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    )
    names, heavy = _run(source, "-c", code).stdout.splitlines()
    for name in _files():
        assert f"'{Path(name).stem}'" in names
    assert heavy == "[]"


@pytest.mark.slow
def test_the_dialect_passes_the_conformance_suite(source):
    done = _run(
        source, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance/test_dialects.py", "-k", "greeting",
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d* passed", done.stdout)


@pytest.mark.slow
def test_the_dialect_trains_a_model_with_workers_of_the_runner(source, home):
    server = RunningServer(home, PYTHONPATH=str(source), TUNESMITH_RUNNER="polite")
    try:
        form = {"data": {"name": "greetings"}, "files": {"file": ("rows.jsonl", chat_rows(40))}}
        assert server.http.post("/tunesmith/v1/datasets", **form).status_code == 200

        answer = server.http.post("/greeting/jobs/", json={"model": "tiny", "dataset": "greetings", "passes": 20})
        assert answer.status_code == 200, answer.text
        job = answer.json()
        assert job["status"] == "patience"
        [pid] = wait_for(server.worker_pids)
        assert psutil.Process(pid).nice() == max(5, psutil.Process().nice())

        def ended():
            found = server.http.get(f"/greeting/jobs/{job['id']}").json()
            return found if found["status"] != "patience" else None

        done = wait_for(ended)
        assert (done["status"], done["steps"]) == ("succeeded", [200, 200]), done
        assert done["model"].startswith("ft:tiny:local::")
        assert server.http.get(f"/v1/fine_tuning/jobs/ftjob-{job['id']}").json()["status"] == "succeeded"
    finally:
        server.stop()


@pytest.mark.slow
def test_the_dialect_words_errors_in_its_own_way(source, home):
    server = RunningServer(home, PYTHONPATH=str(source), TUNESMITH_WARM_WORKERS="false")
    try:
        for body, status, about in (
            ({"model": "tiny", "dataset": "nothing"}, 404, "dataset"),
            ({"model": "tiny", "dataset": "nothing", "passes": 0}, 400, "passes"),
            ({"model": "tiny"}, 400, "dataset"),
        ):
            answer = server.http.post("/greeting/jobs", json=body)
            assert (answer.status_code, answer.json()["about"]) == (status, about)
        answer = server.http.get("/greeting/nowhere")
        assert (answer.status_code, answer.json()["about"]) == (404, None)
    finally:
        server.stop()


@pytest.mark.slow
def test_the_method_checks_and_trains(source, tiny_model, tmp_path):
    checked = _attempt(source, tiny_model, tmp_path / "check", purpose="check", share=0.1)
    assert isinstance(checked[-1], Checked)
    plain, smoothed = (_losses(source, tiny_model, tmp_path / str(share), share) for share in (0.0, 0.2))
    assert plain[-1] < plain[0]
    assert smoothed[-1] < smoothed[0]
    assert smoothed[0] != plain[0]


def _losses(source, model, folder, share):
    events = _attempt(source, model, folder, purpose="train", share=share)
    assert isinstance(events[-1], Succeeded), events[-1]
    return [event.loss for event in events if isinstance(event, Metrics)]


def _attempt(source, model, folder, *, purpose, share):
    """Carry out one attempt of the method in a worker, and give its events."""
    rows = folder.with_suffix(".jsonl")
    rows.write_bytes(chat_rows(16))
    spec = JobSpec(
        model=ModelSpec(base="tiny", dtype="float32"),
        init_from=None,
        data=DataSpec(
            train=DataSource(kind="file", id="a" * 32, sha256="0" * 64),
            validation=None,
            max_length=256,
            over_long="drop",
            packing=False,
            max_samples=None,
        ),
        method=MethodSpec(kind="smoothed", parameters={"share": share}),
        adapter=AdapterSpec(rank=8, alpha=16, dropout=0, targets=("all-linear",)),
        optimization=OptimizationSpec(
            learning_rate=1e-2,
            schedule="constant",
            warmup_ratio=0,
            weight_decay=0,
            max_grad_norm=None,
            epochs=3,
            max_steps=None,
            batch_size=16,
            micro_batch_size=None,
            seed=1,
        ),
        cadence=CadenceSpec(eval_steps="epoch", save_steps="epoch", keep_checkpoints=None),
    )
    run = RunDirectory(folder)
    inputs = Inputs(model=model, train=rows, validation=None, adapter=None)
    run.write_spec(AttemptSpec(job_id="job", attempt=1, purpose=purpose, spec=spec, inputs=inputs))
    done = _run(source, "-m", "tunesmith.worker", str(folder))
    events, _ = run.read_events(0)
    assert done.returncode == 0, (done.stderr, events)
    return events
