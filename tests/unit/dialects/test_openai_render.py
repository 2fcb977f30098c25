import pytest

from stored_jobs import job_spec, stored_job
from tunesmith.dialects import openai
from tunesmith.dialects.openai import answers
from tunesmith.dialects.openai.events import render_event
from tunesmith.dialects.openai.mounts import MOUNTS, NEBIUS, OPENAI
from tunesmith.dialects.openai.reading import NebiusRequestError
from tunesmith.dialects.openai.render import render_job
from tunesmith.spec.errors import DatasetError, InvalidRequestError, JobNotFoundError
from tunesmith.spec.job import (
    AdapterSpec,
    DataSource,
    ImagesSpec,
    IntegrationSpec,
    MethodSpec,
    Submission,
)
from tunesmith.spec.lifecycle import State
from tunesmith.store.events import Event

HYPERPARAMETERS = {"n_epochs": 1}


def submission(flavour="openai", **request):
    return Submission(dialect="openai", flavour=flavour, request={"model": "m", **request})


def spec_of(*, source="file", images=None, **changes):
    spec = job_spec(**changes)
    train = DataSource(kind=source, id="s3://bucket/key" if source != "file" else "a" * 32, sha256=None)
    return spec.model_copy(update={"data": spec.data.model_copy(update={"train": train, "images": images})})


IMAGES = ImagesSpec(sources=("http://a/b.png",), trigger_word="t", captioning="trigger_only", resolution=(512,))


@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.flavour)
@pytest.mark.parametrize(
    "spec",
    [
        spec_of(),
        spec_of(source="s3"),
        spec_of(source="images", images=IMAGES, method=MethodSpec(kind="image_sft")),
        spec_of(adapter=AdapterSpec(rank=4, alpha=0.5, dropout=0.1, targets=("q_proj",))),
        spec_of(method=MethodSpec(kind="kto", parameters={"beta": 0.1})),
    ],
)
@pytest.mark.parametrize("state", list(State))
def test_any_job_is_a_job_of_the_documented_shape(mount, spec, state):
    error = DatasetError("no").info if state is State.FAILED else None
    answers.Job.model_validate(render_job(stored_job(state, spec, error=error), mount))


def test_the_model_is_told_as_the_user_named_it():
    job = stored_job(State.QUEUED, job_spec(), submission=submission(model="ft:m:local::12345678:ckpt-step-3"))
    assert render_job(job)["model"] == "ft:m:local::12345678:ckpt-step-3"


def test_a_preference_job_tells_its_beta_within_its_method():
    spec = job_spec(method=MethodSpec(kind="dpo", parameters={"beta": 0.1}))
    rendered = render_job(stored_job(State.QUEUED, spec, submission=submission(method={"type": "dpo"})))
    assert rendered["hyperparameters"] == {}
    assert rendered["method"]["dpo"]["hyperparameters"]["beta"] == 0.1


def test_numbers_are_told_by_the_rules_that_the_request_was_read_by():
    for flavour, mount, name in (
        ("openai", OPENAI, "learning_rate_multiplier"),
        ("openai", NEBIUS, "learning_rate"),
        ("nebius", OPENAI, "learning_rate"),
    ):
        job = stored_job(State.QUEUED, job_spec(), submission=submission(flavour, method={"type": "supervised"}))
        rendered = render_job(job, mount)
        assert name in rendered["hyperparameters"]
        assert rendered["method"]["supervised"]["hyperparameters"] == rendered["hyperparameters"]


def test_integrations_are_told_in_the_vendors_shape_without_their_credentials():
    specs = (
        IntegrationSpec(kind="mlflow", settings={"tracking_uri": "https://m"}),
        IntegrationSpec(kind="hub", settings={"output_repo_name": "o/n"}),
    )
    job = stored_job(State.QUEUED, job_spec(), submission=submission().model_copy(update={"integrations": specs}))
    assert render_job(job)["integrations"] == [
        {"type": "mlflow", "mlflow": {"tracking_uri": "https://m"}},
        {"type": "hf", "hf": {"output_repo_name": "o/n"}},
    ]


def test_notes_and_metadata_are_told():
    sent = submission(metadata={"a": "b"}).model_copy(update={"notes": ("No.",), "labels": {"a": "b", "tag": "true"}})
    rendered = render_job(stored_job(State.QUEUED, job_spec(), submission=sent))
    assert (rendered["metadata"], rendered["notes"]) == ({"a": "b"}, ["No."])


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"hyperparameters": HYPERPARAMETERS}, "hyperparameters.lora_r"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}}},
            "method.supervised.hyperparameters.lora_r",
        ),
    ],
)
def test_a_jobs_error_names_the_field_where_it_was_typed(request_, param):
    error = InvalidRequestError("no", param="adapter.rank").info
    job = stored_job(State.FAILED, job_spec(), submission=submission(**request_), error=error)
    assert render_job(job)["error"]["param"] == param


def event(kind, at=2.0, **data):
    return Event(number=1, id="e", job_id="j", attempt=None, at=at, level="info", kind=kind, message="Ours.", data=data)


@pytest.mark.parametrize(
    ("event", "openai_words", "nebius_words"),
    [
        (event("state", at=1.5, state="queued"), f"Created fine-tuning job: ftjob-{'b' * 32}", "Job submitted"),
        (event("state", state="queued"), "Ours.", "Ours."),
        (event("state", state="running"), "Fine-tuning job started", "Ours."),
        (event("state", state="succeeded"), "The job has successfully completed", "Training completed"),
        (event("prepared"), "Ours.", "Dataset 'training' processed. Ours."),
        (
            event("checkpoint_saved", step=3),
            "Checkpoint created at step 3 with Snapshot ID: ft:m:local::bbbbbbbb:ckpt-step-3",
            "Ours.",
        ),
        (event("note"), "Ours.", "Ours."),
    ],
)
def test_each_vendor_has_its_own_words(event, openai_words, nebius_words):
    job = stored_job(State.RUNNING, job_spec())
    assert render_event(event, job, "openai")["message"] == openai_words
    assert render_event(event, job, "nebius")["message"] == nebius_words


@pytest.mark.parametrize(
    ("error", "path", "status"),
    [
        (InvalidRequestError("x"), "/v1/fine_tuning/jobs", 400),
        (InvalidRequestError("x"), "/nebius/v1/fine_tuning/jobs", 422),
        (NebiusRequestError("x"), "/v1/fine_tuning/jobs", 422),
        (DatasetError("x"), "/nebius/v1/fine_tuning/jobs", 400),
        (JobNotFoundError("x"), "/nebius/v1/fine_tuning/jobs", 404),
    ],
)
def test_each_vendor_has_its_own_status_and_every_body_has_both_shapes(error, path, status):
    found, body = openai.render_error(error, path)
    assert found == status
    answers.ErrorAnswer.model_validate(body)
