"""What every dialect owes: it renders any job in any state, and any error in its own shape."""

import dataclasses

import pytest
from fastapi import FastAPI

from stored_jobs import EMPTY_SERVICES, job_spec, optimization, stored_job
from tunesmith.plugins import load_plugins
from tunesmith.spec.errors import ERRORS, InvalidRequestError
from tunesmith.spec.exactness import Resume
from tunesmith.spec.job import CadenceSpec, DataSource, ModelSpec, SamplingSpec, SelectionSpec, Turn
from tunesmith.spec.lifecycle import State

DIALECTS = load_plugins("tunesmith.dialects")


class NoModels:
    def find(self, _id):
        return None


SERVICES = dataclasses.replace(EMPTY_SERVICES, produced_models=NoModels())


def job(state, source):
    return stored_job(
        state,
        job_spec(
            DataSource(kind=source, id="a" * 32, sha256="0" * 64),
            model=ModelSpec(base="owner/m", dtype="float32"),
            optimization=optimization(epochs=1.5, batch_size=4, micro_batch_size=2),
            cadence=CadenceSpec(eval_steps=5, save_steps="epoch", keep_checkpoints=None, evaluate_first=True),
            selection=SelectionSpec(patience=3, result="best"),
            sampling=SamplingSpec(prompts=("Hello", (Turn(role="user", content="Hello"),)), every=5, temperature=0.5),
        ),
        resumes=(Resume(at=2.5, attempt=2, step=4, exactness="approximate", differences=("torch 3 instead of 2",)),),
        error=InvalidRequestError("no", hint="do").info if state is State.FAILED else None,
        model_id="ft:m:local::12345678" if state is State.SUCCEEDED else None,
    )


@pytest.fixture(params=DIALECTS, ids=str)
def dialect(request):
    return DIALECTS[request.param]


@pytest.mark.parametrize("source", ["file", "dataset"])
@pytest.mark.parametrize("state", list(State))
def test_a_job_of_another_dialect_is_rendered_in_every_state(dialect, state, source):
    rendered = dialect.render_job(job(state, source), SERVICES)
    word = rendered.get("status") or rendered.get("state")
    assert isinstance(word, str)
    assert any("b" * 8 in str(value) for value in rendered.values())


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.code)
def test_every_error_has_a_status_and_keeps_its_sentence(dialect, kind):
    status, body = dialect.render_error(kind("What is wrong.", param="data.train", hint="What to do."), "/")
    assert 400 <= status < 600
    assert "What is wrong." in str(body)
    assert "What to do." in str(body)


def test_a_bad_request_is_the_clients_fault(dialect):
    status, _ = dialect.render_error(InvalidRequestError("x"), "/")
    assert 400 <= status < 500


def test_its_paths_lie_below_its_prefixes_and_have_no_trailing_slash(dialect):
    app = FastAPI()
    app.include_router(dialect.routes())
    paths = list(app.openapi()["paths"])
    assert paths
    for path in paths:
        assert path == "/" or not path.endswith("/")
        assert any(path == prefix or path.startswith(f"{prefix.rstrip('/')}/") for prefix in dialect.PREFIXES)


def test_no_two_dialects_own_the_same_prefix():
    prefixes = [prefix for dialect in DIALECTS.values() for prefix in dialect.PREFIXES]
    assert len(set(prefixes)) == len(prefixes)
