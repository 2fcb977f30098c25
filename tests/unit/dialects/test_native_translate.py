"""From a request of the native dialect to a spec."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from stored_jobs import stored_job
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.dialects.native import wire
from tunesmith.dialects.native.effects import notes_on, refuse_contradictions
from tunesmith.dialects.native.render import to_job, to_remote
from tunesmith.dialects.native.translate import filled, kind_of, to_submission
from tunesmith.spec import job as spec
from tunesmith.spec.errors import InvalidRequestError
from tunesmith.spec.lifecycle import State
from tunesmith.spec.reading import Reading, SplitSpec
from tunesmith.store.database import Database

BODY = TypeAdapter(wire.JobBody)
ROWS = spec.DataSource(kind="file", id="a" * 32, sha256="0" * 64)

texts = st.text(min_size=1, max_size=20)
counts = st.integers(1, 10_000)
shares = st.floats(0, 1)
positive = st.floats(1e-6, 1, exclude_min=True)
steps = st.one_of(counts, st.just("epoch"))


def maybe(strategy):
    return st.none() | strategy


def sources():
    stored = st.builds(spec.DataSource, kind=st.sampled_from(["file", "dataset"]), id=texts, sha256=st.just("0" * 64))
    elsewhere = {
        "id": texts,
        "sha256": maybe(st.just("f" * 64)),
        "revision": maybe(texts),
        "secret": maybe(texts),
    }
    remote = st.builds(spec.DataSource, kind=st.sampled_from(["gcs", "http", "hub"]), **elsewhere)
    bucket = st.builds(spec.DataSource, kind=st.just("s3"), region=maybe(texts), **elsewhere)
    return stored | remote | bucket


def starts():
    ours = st.builds(spec.StartSpec, kind=st.sampled_from(["model", "checkpoint"]), id=texts)
    return ours | st.builds(spec.StartSpec, kind=st.just("hub"), id=texts, revision=maybe(texts), secret=maybe(texts))


def with_pictures(shown):
    """The same spec for image training."""
    source = spec.DataSource(kind="images", id="source_images", sha256=None)
    images = spec.ImagesSpec(
        sources=("https://pictures.localhost/1",),
        trigger_word="sks",
        captioning="existing",
        transforms=({"flip": True},),
        resolution=(512,),
    )
    return shown.model_copy(
        update={
            "model": shown.model.model_copy(update={"modality": "image"}),
            "data": shown.data.model_copy(update={"train": source, "images": images}),
        }
    )


text_specs = st.builds(
    spec.JobSpec,
    model=st.builds(
        spec.ModelSpec,
        base=texts,
        dtype=st.sampled_from(["bfloat16", "float32"]),
        modality=st.sampled_from(["text", "vision_language"]),
        source=st.sampled_from(["any", "local", "hub"]),
        revision=maybe(texts),
        secret=maybe(texts),
        quantization=maybe(st.builds(spec.QuantizationSpec, bits=st.sampled_from([4, 8]))),
    ),
    init_from=maybe(starts()),
    data=st.builds(
        spec.DataSpec,
        train=sources(),
        validation=maybe(sources()),
        max_length=st.integers(8, 1_048_576),
        over_long=st.sampled_from(["drop", "truncate", "refuse"]),
        packing=st.booleans(),
        max_samples=maybe(counts),
        sample_ratio=positive,
        reading=st.builds(Reading, columns=st.just({"prompt": "question"}) | st.just({}), system=maybe(texts)),
        split=maybe(st.builds(SplitSpec, by=st.just("random"), ratios=st.just((0.8, 0.2)))),
    ),
    method=st.builds(spec.MethodSpec, kind=texts, parameters=st.dictionaries(texts, counts)),
    adapter=maybe(
        st.builds(
            spec.AdapterSpec,
            rank=st.integers(1, 1024),
            alpha=positive,
            dropout=st.just(0.5),
            targets=st.tuples(texts),
            scaling=st.sampled_from(["standard", "rank_stabilized"]),
            init=st.sampled_from(["random", "pissa"]),
        )
    ),
    optimization=st.builds(
        spec.OptimizationSpec,
        learning_rate=positive,
        optimizer=st.sampled_from(["adamw", "adamw_8bit", "adam", "adafactor", "sgd"]),
        schedule=st.sampled_from(["linear", "cosine", "constant", "inverse_sqrt"]),
        neftune_noise_alpha=maybe(positive),
        warmup_ratio=shares,
        weight_decay=shares,
        max_grad_norm=maybe(positive),
        epochs=positive,
        max_steps=maybe(counts),
        batch_size=st.just(16),
        micro_batch_size=maybe(st.integers(1, 16)),
        gradient_checkpointing=maybe(st.booleans()),
        on_out_of_memory=st.sampled_from(["fail", "shrink"]),
        seed=st.integers(0, 2**63 - 1),
    ),
    cadence=st.builds(
        spec.CadenceSpec, eval_steps=steps, save_steps=steps, keep_checkpoints=maybe(counts), log_steps=counts
    ),
    sampling=maybe(
        st.builds(
            spec.SamplingSpec,
            prompts=st.tuples(texts, st.tuples(st.builds(spec.Turn, role=st.just("user"), content=texts))),
            every=counts,
            max_new_tokens=st.integers(1, 4096),
            temperature=st.floats(0.01, 2),
            top_p=positive,
            seed=maybe(counts),
        )
    ),
    resources=maybe(
        st.builds(
            spec.ResourcesSpec, gpus_per_node=st.integers(1, 1024), nodes=st.integers(1, 1024), gpu_type=maybe(texts)
        )
    ),
)


def request(**parts):
    """A request with these parts of the spec beside what must be said."""
    asked = {"model": {"base": "m"}, "data": {"train": {"file": "a" * 32}}, **parts}
    return BODY.validate_python({"spec": asked})


def spec_of(**parts):
    return filled(request(**parts).spec, train=ROWS, validation=None, secrets={})


class EveryName(dict):
    """Looks up secrets that are named by their ids already."""

    def __missing__(self, name):
        return name


@given(text_specs | text_specs.map(with_pictures))
def test_a_spec_that_an_answer_showed_is_accepted_unchanged(shown):
    body = BODY.validate_python({"spec": json.loads(shown.model_dump_json())})
    refuse_contradictions(body.spec)
    again = filled(body.spec, train=shown.data.train, validation=shown.data.validation, secrets=EveryName())
    assert again == shown


def test_what_is_not_said_has_the_documented_defaults():
    assert spec_of() == spec.JobSpec(
        model=spec.ModelSpec(base="m", dtype="bfloat16"),
        init_from=None,
        data=spec.DataSpec(
            train=ROWS, validation=None, max_length=2048, over_long="drop", packing=False, max_samples=None
        ),
        method=spec.MethodSpec(kind="sft"),
        adapter=spec.AdapterSpec(rank=16, alpha=32, dropout=0, targets=("all-linear",)),
        optimization=spec.OptimizationSpec(
            learning_rate=2e-4,
            schedule="linear",
            warmup_ratio=0.03,
            weight_decay=0,
            max_grad_norm=1,
            epochs=3,
            max_steps=None,
            batch_size=8,
            micro_batch_size=None,
            seed=42,
        ),
        cadence=spec.CadenceSpec(eval_steps="epoch", save_steps="epoch", keep_checkpoints=None),
    )


def test_a_part_of_an_object_leaves_the_other_defaults():
    adapter = spec_of(adapter={"rank": 4}).adapter
    assert (adapter.rank, adapter.alpha, adapter.targets) == (4, 32, ("all-linear",))


def test_tuning_all_weights_has_a_rate_of_its_own():
    assert spec_of(adapter=None).optimization.learning_rate == 1e-5
    assert spec_of(adapter=None, optimization={"learning_rate": 0.5}).optimization.learning_rate == 0.5


def test_counting_steps_does_not_end_with_the_default_epochs():
    assert spec_of(optimization={"max_steps": 7}).optimization.epochs == 10_000
    assert spec_of(optimization={"max_steps": 7, "epochs": 2}).optimization.epochs == 2


@pytest.mark.parametrize(("said", "expected"), [({}, 0.1), ({"decay_ratio": None}, 0.1), ({"decay_ratio": 0.4}, 0.4)])
def test_a_stable_schedule_decays_at_the_end(said, expected):
    assert spec_of(optimization={"schedule": "wsd"} | said).optimization.decay_ratio == expected


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"optimization": {"decay_ratio": 0.1}}, "belongs to the schedule 'wsd'"),
        ({"optimization": {"schedule": "wsd", "warmup_ratio": 0.95}}, "exceed 1 together"),
        ({"optimization": {"optimizer": "lion"}}, "'adamw', 'adamw_8bit', 'adam', 'adafactor' or 'sgd'"),
        ({"optimization": {"neftune_noise_alpha": 0}}, "greater than 0"),
        ({"adapter": {"targets": []}}, "at least 1 item"),
        ({"adapter": {"init": "pissa", "decomposed": True}}, "exclude each other"),
        ({"adapter": {"init": "olora"}}, "'random' or 'pissa'"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_can(part, words):
    with pytest.raises(ValidationError, match=words):
        request(**part)


def test_settings_without_effect_are_noted(services):
    asked = request(
        model={"base": "m", "quantization": {"bits": 8, "kind": "fp4"}}, cadence={"eval_steps": 5}, adapter={}
    )
    told = notes_on(services, asked.spec)
    assert any("quantization.kind has no effect on 8 bits" in note for note in told)
    assert any("eval_steps has no effect" in note for note in told)
    assert not notes_on(services, request(model={"base": "m", "quantization": {"bits": 8}}).spec)


def test_secrets_are_named_by_id_in_the_spec():
    asked = request(model={"base": "m", "secret": "hub"}, init_from={"kind": "hub", "id": "o/n", "secret": "hub"}).spec
    found = filled(asked, train=ROWS, validation=None, secrets={"hub": "5" * 32})
    assert found.model.secret == found.init_from.secret == "5" * 32


@pytest.mark.parametrize(
    ("address", "kind"),
    [("s3://b/k", "s3"), ("gs://b/k", "gcs"), ("https://h/f", "http"), ("HTTP://h/f", "http"), ("owner/name", "hub")],
)
def test_an_address_tells_what_it_leads_to(address, kind):
    assert kind_of(wire.SourceRequest(address=address)) == kind


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"optimization": {"epochs": "3"}}, ("spec", "optimization", "epochs")),
        ({"optimization": {"batch_size": 8.0}}, ("spec", "optimization", "batch_size")),
        ({"optimization": {"learning_rate": None}}, ("spec", "optimization", "learning_rate")),
        ({"adapter": {"rang": 8}}, ("spec", "adapter", "rang")),
        ({"adapter": {"targets": "all-linear"}}, ("spec", "adapter", "targets")),
        ({"data": {"train": {}}}, ("spec", "data", "train")),
        ({"data": {"train": {"file": "a", "dataset": "b"}}}, ("spec", "data", "train")),
        ({"data": {"train": {"kind": "file"}}}, ("spec", "data", "train")),
        ({"data": {"train": {"file": "a", "secret": "s"}}}, ("spec", "data", "train")),
        ({"data": {"train": {"file": "a"}, "max_length": 7}}, ("spec", "data", "max_length")),
        ({"cadence": {"eval_steps": 0}}, ("spec", "cadence", "eval_steps")),
        ({"model": {}}, ("spec", "model", "base")),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_fault_is_named_by_its_path(change, path):
    with pytest.raises(ValidationError) as caught:
        request(**change)
    assert caught.value.errors()[0]["loc"] == path


@pytest.mark.parametrize("body", [[], "text", b"bytes", None, 3])
def test_only_an_object_is_a_request(body):
    with pytest.raises(ValidationError) as caught:
        BODY.validate_python(body)
    assert caught.value.errors()[0]["loc"] == ()


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"data": {"train": {"address": "https://h/f", "region": "eu-west-1"}}}, "spec.data.train.region"),
        ({"data": {"train": {"file": "a"}, "validation": {"address": "o/n", "region": "x"}}},
         "spec.data.validation.region"),
        ({"data": {"train": {"kind": "images", "id": "i"}}}, "spec.data.train.kind"),
        ({"data": {"train": {"file": "a"}, "validation": {"kind": "images", "id": "i"}}}, "spec.data.validation.kind"),
        ({"model": {"base": "m", "modality": "image"}, "data": {"train": {"kind": "images", "id": "i"}}},
         "spec.data.images"),
        ({"data": {"train": {"file": "a"}, "images": {"sources": [], "trigger_word": "s", "captioning": "existing",
         "resolution": [512]}}}, "spec.data.images"),
        ({"init_from": {"kind": "model", "id": "m", "revision": "main"}}, "spec.init_from.revision"),
        ({"init_from": {"kind": "checkpoint", "id": "c", "secret": "hub"}}, "spec.init_from.secret"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_parts_that_rule_each_other_out_are_refused_by_their_path(parts, path):
    with pytest.raises(InvalidRequestError) as caught:
        refuse_contradictions(request(**parts).spec)
    assert caught.value.param == path


@pytest.fixture
def services(tmp_path):
    """A server with one base model and no produced one."""
    model = tmp_path / "here"
    model.mkdir()
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield SimpleNamespace(
        base_models=BaseModels({"here": model}, ()), produced_models=ProducedModels(database, "local")
    )
    database.close()


def noted(services, **parts):
    return [note.split()[0] for note in notes_on(services, request(**parts).spec)]


def test_what_has_no_effect_on_an_address_is_noted(services):
    train = {"kind": "s3", "id": "s3://b/k", "sha256": "0" * 64, "revision": "etag"}
    assert noted(services, data={"train": train}) == ["spec.data.train.revision", "spec.data.train.sha256"]
    assert noted(services) == []


HALVES = {"by": "random", "ratios": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"selection": {"metric": "accuracy", "best": "highest"}}, ["spec.selection.metric", "spec.selection.best"]),
        ({"cadence": {"eval_steps": 5}}, ["spec.cadence.eval_steps"]),
        (
            {"method": {"kind": "text_to_image", "parameters": {"sample_width": 64, "ema_decay": 0.9}}},
            ["spec.method.parameters.sample_width"],
        ),
        ({"selection": {"min_improvement": 0.1}}, ["spec.selection.min_improvement"]),
        ({"data": {"train": {"file": "a"}, "split": {"by": "random"}}, "cadence": {"eval_steps": 5}},
         ["spec.cadence.eval_steps"]),
        ({"data": {"train": {"file": "a"}, "split": HALVES}, "selection": {"metric": "accuracy"}}, []),
        ({"data": {"train": {"file": "a"}, "validation": {"file": "b"}}, "selection": {"best": "highest"}}, []),
        ({"data": {"train": {"file": "a"}, "split": HALVES}, "selection": {"patience": 1, "min_improvement": 1.0}}, []),
    ],
    ids=str,
)  # fmt: skip
def test_what_nothing_follows_from_without_rows_to_evaluate_is_noted(services, parts, expected):
    assert noted(services, **parts) == expected


def test_pictures_may_name_the_credentials_that_they_are_fetched_with():
    assert wire.SourceRequest(kind="images", id="source_images", secret="shop").secret == "shop"
    with pytest.raises(ValidationError):
        wire.SourceRequest(kind="file", id="a" * 32, secret="shop")


@pytest.mark.parametrize(
    ("base", "source", "is_here"),
    [("here", "any", True), ("here", "hub", False), ("o/n", "any", False), ("o/n", "local", True)],
)
def test_a_revision_and_a_token_for_a_model_of_this_server_are_noted(services, base, source, is_here):
    model = {"base": base, "source": source, "revision": "main", "secret": "hub"}
    expected = ["spec.model.revision", "spec.model.secret"] if is_here else []
    assert noted(services, model=model) == expected


SIGNED = "https://h/rows.jsonl?X-Signature=canary"


@pytest.mark.parametrize("train", [{"address": SIGNED}, {"kind": "http", "id": SIGNED}, {"address": SIGNED.upper()}])
def test_a_signed_address_is_stored_without_its_query(train):
    images = {"sources": [SIGNED], "trigger_word": "s", "captioning": "existing", "resolution": [512]}
    asked = request(data={"train": train, "validation": train, "images": images})
    kept = to_submission(asked, notes=(), idempotency_key=None).request
    assert "canary" not in json.dumps(kept).lower()
    assert json.dumps(kept).lower().count("https://h/rows.jsonl") == 3


def test_no_answer_shows_the_query_of_an_address_that_was_not_fetched_yet():
    data = spec_of().data.model_copy(update={"train": spec.DataSource(kind="http", id=SIGNED, sha256=None)})
    job = stored_job(State.VALIDATING, spec_of().model_copy(update={"data": data}))
    assert to_job(job).spec.data.train.id == SIGNED.partition("?")[0]
    assert to_remote(job.spec)[0].address == SIGNED.partition("?")[0]
    assert job.spec.data.train.id == SIGNED


PAIRS = (
    (wire.ModelRequest, spec.ModelSpec),
    (wire.DataRequest, spec.DataSpec),
    (wire.MethodRequest, spec.MethodSpec),
    (wire.AdapterRequest, spec.AdapterSpec),
    (wire.OptimizationRequest, spec.OptimizationSpec),
    (wire.CadenceRequest, spec.CadenceSpec),
    (wire.SpecRequest, spec.JobSpec),
)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


@pytest.mark.parametrize(("wired", "canonical"), PAIRS, ids=lambda kind: kind.__name__)
def test_requests_have_the_fields_and_ranges_of_the_spec(wired, canonical):
    asked, stored = (_ranges(kind) for kind in (wired, canonical))
    assert asked.keys() == stored.keys()
    for name, bounds in stored.items():
        assert bounds.items() <= asked[name].items(), name


def _ranges(kind: type[BaseModel]):
    properties = kind.model_json_schema()["properties"]
    return {
        name: {bound: part[bound] for part in [schema, *schema.get("anyOf", ())] for bound in BOUNDS if bound in part}
        for name, schema in properties.items()
    }


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": [""]}, "a text of 1 to 32768 characters, or a list of 1 to 64 turns"),
        ({"prompts": [5]}, "a text of 1 to 32768 characters, or a list of 1 to 64 turns"),
        ({"prompts": [[]]}, "a text of 1 to 32768 characters, or a list of 1 to 64 turns"),
        ({"prompts": [[{"role": "tool", "content": "x"}]]}, "a text of 1 to 32768 characters, or a list of 1 to 64"),
        ({"prompts": ["x"] * 65}, "prompts"),
        ({"prompts": ["x"], "max_new_tokens": 0}, "max_new_tokens"),
        ({"prompts": ["x"], "top_p": 0.5}, "top_p 0.5 has no effect at temperature 0"),
        ({"prompts": ["x"], "seed": 0}, "seed 0 has no effect at temperature 0"),
        ({"prompts": ["x"], "temperature": -1.0}, "temperature"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_in_one_sentence(sampling, words):
    with pytest.raises(ValidationError) as refused:
        request(sampling={"every": 5, **sampling})
    told = refused.value.errors()[0]
    assert "text" not in told["loc"]
    assert words in f"{told['loc']} {told['msg']}"


def test_a_prompt_is_a_text_or_a_conversation():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    asked = spec_of(sampling={"prompts": ["Hello", turns], "every": 5}).sampling
    assert asked == spec.SamplingSpec(
        prompts=("Hello", tuple(spec.Turn(**turn) for turn in turns)),
        every=5,
        max_new_tokens=128,
        temperature=0.0,
        top_p=1.0,
        seed=None,
    )
