import pytest
from pydantic import ValidationError

from tunesmith.data.imaging.captions import with_places_filled, with_trigger
from tunesmith.data.imaging.vocabulary import TRANSFORMS
from tunesmith.dialects.image_training.transforms import canonical_transforms
from tunesmith.dialects.image_training.translate import to_spec, to_submission
from tunesmith.dialects.image_training.wire import TrainingTaskCreate
from tunesmith.spec.errors import InvalidRequestError

NULLABLE = {
    "entity_id", "rank", "steps", "learning_rate", "sample_prompts", "source_images", "base_model_path",
    "bypass_guidance_embedding", "webhook_url", "origin_instance", "origin_zone", "origin_version", "origin_tenant_id",
    "preprocessing_transforms", "preprocessing_captioning_strategy", "preprocessing_captioning_prompt",
}  # fmt: skip


def request(**fields):
    return TrainingTaskCreate.model_validate({"trigger_word": "sks", **fields})


def spec(**fields):
    return to_spec(request(**fields))


def submission(**fields):
    return to_submission(request(**fields), spec(**fields))


def refused(**fields):
    """The path and the sentence of a request that the translation refuses."""
    with pytest.raises(InvalidRequestError) as caught:
        submission(**fields)
    return caught.value.param, caught.value.info.sentence()


def test_a_trigger_word_alone_has_the_pages_defaults():
    result = spec()
    assert (result.model.base, result.model.modality) == ("black-forest-labs/FLUX.1-dev", "image")
    assert result.method.kind == "text_to_image"
    assert result.method.parameters["training_type"] == "lora"
    assert result.method.parameters["bypass_guidance_embedding"] is False
    assert (result.adapter.rank, result.adapter.alpha, result.adapter.targets) == (16, 16, ("all-linear",))
    assert (result.optimization.optimizer, result.optimization.schedule) == ("adamw_8bit", "constant")
    assert (result.optimization.learning_rate, result.optimization.max_steps) == (1e-4, 1000)
    assert (result.optimization.batch_size, result.optimization.micro_batch_size) == (1, 1)
    assert (result.cadence.save_steps, result.cadence.keep_checkpoints) == (2000, 4)
    assert (result.data.train.kind, result.data.train.sha256) == ("images", None)
    assert result.data.images.captioning == "trigger_only"
    assert result.sampling is None


def test_null_means_the_default_in_every_field_that_may_be_null():
    assert request(**dict.fromkeys(NULLABLE)) == request()
    assert spec(**dict.fromkeys(NULLABLE)) == spec()
    assert submission(**dict.fromkeys(NULLABLE)) == submission()


@pytest.mark.parametrize("field", ["training_type", "entity_type", "trigger_word"])
def test_null_is_refused_where_the_page_does_not_allow_it(field):
    with pytest.raises(ValidationError) as caught:
        request(**{field: None})
    assert caught.value.errors()[0]["loc"] == (field,)


@pytest.mark.parametrize("steps", [1, 10_000])
def test_the_steps_end_the_training_even_with_a_single_picture(steps):
    optimization = spec(steps=steps, source_images=["https://example.org/a.jpg"]).optimization
    steps_of_all_passes = optimization.epochs * 1 // optimization.batch_size
    assert optimization.max_steps == steps <= steps_of_all_passes


def test_full_training_has_no_adapter_and_says_that_the_rank_has_no_effect():
    full = {"training_type": "FULL", "rank": 8}
    assert spec(**full).adapter is None
    assert spec(**full).method.parameters["training_type"] == "full"
    assert any("rank" in note for note in submission(**full).notes)
    assert not submission(training_type="FULL", rank=None).notes


def test_enumerations_are_read_in_any_letter_case_and_kept_in_their_own():
    echo = submission(training_type="full", entity_type="Subject", preprocessing_captioning_strategy="FileName").request
    assert (echo["training_type"], echo["entity_type"]) == ("FULL", "SUBJECT")
    assert echo["preprocessing_captioning_strategy"] == "filename"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("training_type", "QLORA", "'FULL' or 'LORA'"),
        ("entity_type", "PLACE", "'SUBJECT', 'PRODUCT' or 'STYLE'"),
        ("preprocessing_captioning_strategy", "magic", "'trigger_only', 'filename', 'existing', 'custom' or 'auto'"),
        ("rank", 0, "greater than or equal to 1"),
        ("rank", 1025, "less than or equal to 1024"),
        ("rank", "16", "integer"),
        ("steps", 0, "greater than or equal to 1"),
        ("steps", 10_001, "less than or equal to 10000"),
        ("learning_rate", -1e-4, "greater than 0"),
        ("learning_rate", 1e9, "less than or equal to 1"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", "1e-4", "number"),
        ("trigger_word", "  ", "blank"),
        ("sample_prompts", "a cat", "list"),
        ("sample_prompts", ["x"] * 21, "20"),
        ("source_images", [3], "string"),
        ("base_model_path", "", "1 character"),
        ("bypass_guidance_embedding", "yes", "boolean"),
        ("entity_id", "not-a-uuid", "UUID"),
        ("preprocessing_transforms", ["resize"], "dictionary"),
        ("priority", 4, "0, 1, 2 or 3"),
        ("priority", True, "0, 1, 2 or 3"),
        ("save_every", 5, "not permitted"),
    ],
)
def test_a_bad_field_is_refused_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValidationError) as caught:
        request(**{name: value})
    fault = caught.value.errors()[0]
    assert fault["loc"][0] == name
    assert allowed in fault["msg"]


def test_priority_and_labels_travel_beside_the_spec():
    made = submission(priority=3, origin_instance="staging", origin_zone="eu", entity_type="STYLE")
    assert made.priority == 3
    assert made.labels == {"origin_instance": "staging", "origin_zone": "eu"}
    assert made.name == "style sks"
    assert spec(priority=3, origin_zone="eu") == spec()


# --- prompts and captions --------------------------------------------------------------------------------------------


def test_places_in_sample_prompts_are_filled_and_nothing_is_put_in_front():
    sampling = spec(sample_prompts=["[trigger] on a beach", "a [name] cup", "a horse"]).sampling
    assert sampling.prompts == ("sks on a beach", "a sks cup", "a horse")
    assert (sampling.every, sampling.denoising_steps) == (250, 25)


@pytest.mark.parametrize(
    ("caption", "expected"),
    [("a photo of [trigger]", "a photo of sks"), ("a photo", "sks a photo"), ("the sks cup", "the sks cup")],
)
def test_a_caption_holds_the_trigger_word_in_its_place_or_in_front(caption, expected):
    assert with_trigger(caption, "sks") == expected


def test_filling_places_leaves_a_text_without_any_alone():
    assert with_places_filled("a horse", "sks") == "a horse"


def test_a_custom_caption_is_the_same_for_all_pictures():
    images = spec(
        preprocessing_captioning_strategy="custom", preprocessing_captioning_prompt="a photo of [trigger]"
    ).data.images
    assert (images.captioning, images.caption_prompt) == ("custom", "a photo of sks")


@pytest.mark.parametrize("prompt", [None, "", " "])
def test_a_custom_caption_is_required(prompt):
    param, sentence = refused(preprocessing_captioning_strategy="custom", preprocessing_captioning_prompt=prompt)
    assert param == "preprocessing_captioning_prompt"
    assert "[trigger]" in sentence


def test_the_instruction_of_automatic_captions_gets_no_trigger_word_in_front():
    images = spec(preprocessing_captioning_strategy="auto", preprocessing_captioning_prompt="Describe it.").data.images
    assert images.caption_prompt == "Describe it."


def test_a_caption_prompt_that_no_strategy_reads_is_noted():
    notes = submission(preprocessing_captioning_prompt="x").notes
    assert len(notes) == 1
    assert "preprocessing_captioning_prompt" in notes[0]


# --- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"type": "resize", "width": 512, "height": 768},
        {"name": "Resize", "width": 512, "height": 768},
        {"method": "RESIZE", "params": {"width": 512, "height": 768}},
    ],
)
def test_a_transform_is_named_in_three_ways_and_kept_in_one(wish):
    assert canonical_transforms([wish]) == ({"type": "resize", "width": 512, "height": 768},)


def test_parameters_that_are_left_out_are_filled_in():
    assert canonical_transforms([{"type": "pad_to_square"}, {"type": "dedupe"}]) == (
        {"type": "pad_to_square", "color": "#ffffff"},
        {"type": "dedupe", "max_distance": 0},
    )


def test_transforms_reach_the_spec_in_their_order():
    wishes = [{"type": "exif_orient"}, {"type": "max_side", "pixels": 1024}, {"type": "grayscale"}]
    assert spec(preprocessing_transforms=wishes).data.images.transforms == tuple(wishes)
    assert submission(preprocessing_transforms=wishes).request["preprocessing_transforms"] == wishes


def test_an_unknown_transform_is_named_with_all_known_ones():
    param, sentence = refused(preprocessing_transforms=[{"type": "grayscale"}, {"type": "vaporise"}])
    assert param == "preprocessing_transforms.1.type"
    assert "vaporise" in sentence
    assert all(name in sentence for name in TRANSFORMS)


@pytest.mark.parametrize(
    ("wish", "param", "word"),
    [
        ({}, "0", "'type'"),
        ({"type": "resize", "name": "resize"}, "0", "'type'"),
        ({"type": 5}, "0.type", "'5'"),
        ({"type": "resize", "width": 512}, "0.height", "required"),
        ({"type": "resize", "width": 0, "height": 5}, "0.width", "greater than or equal to 1"),
        ({"type": "resize", "width": 5.5, "height": 5}, "0.width", "integer"),
        ({"type": "grayscale", "strength": 1}, "0.strength", "not a field"),
        ({"type": "blur", "params": {"radius": -1}}, "0.params.radius", "greater than 0"),
        ({"type": "blur", "params": {"radius": 1}, "radius": 2}, "0.radius", "params"),
        ({"type": "blur", "params": 3}, "0.params", "object"),
        ({"type": "pad_to_square", "color": "red"}, "0.color", "#"),
        ({"type": "auto_contrast", "cutoff": 50}, "0.cutoff", "less than 50"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_path(wish, param, word):
    found, sentence = refused(preprocessing_transforms=[wish])
    assert found == f"preprocessing_transforms.{param}"
    assert word in sentence


# --- addresses -------------------------------------------------------------------------------------------------------


def test_pictures_lie_on_the_web_in_a_bucket_or_among_the_uploads():
    sources = ["https://example.org/a.jpg", "http://example.org:8080/b", "s3://bucket/c.png", "gs://bucket/d.zip",
               "file-" + "0" * 32]  # fmt: skip
    assert spec(source_images=sources).data.images.sources == tuple(sources)


@pytest.mark.parametrize(
    "address",
    ["", "cat.jpg", "/etc/passwd", "file:///etc/passwd", "ftp://example.org/a", "data:image/png;base64,AAAA", "https://",
     "https:///a.jpg", "s3://bucket", "s3://bucket/", "https://user:canary@example.org/a", "https://example.org\\@evil/a",
     "https://example.org/a b", "https://[::1/a", "https://example.org:99999/", "file-123", "https://example.org/\n",
     "https://example.org/" + "a" * 2048],
)  # fmt: skip
def test_an_address_that_cannot_be_fetched_is_refused_by_its_place_and_not_repeated(address):
    param, sentence = refused(source_images=["https://example.org/a.jpg", address])
    assert param == "source_images.1"
    assert "canary" not in sentence


def test_answers_show_addresses_without_the_query_in_which_signatures_stand():
    signed = "https://example.org/a.jpg?X-Amz-Signature=canary"
    assert spec(source_images=[signed]).data.images.sources == (signed,)
    assert submission(source_images=[signed]).request["source_images"] == ["https://example.org/a.jpg"]


def test_of_a_webhook_only_its_host_is_kept():
    made = submission(webhook_url="https://hooks.example.org:8443/canary/path?token=canary#canary")
    assert made.request["webhook_url"] == "https://hooks.example.org:8443"
    assert "canary" not in made.model_dump_json()


@pytest.mark.parametrize(
    "address",
    ["", "canary", "s3://canary/a", "https://user:canary@example.org", "https://canary@example.org", "//canary"],
)
def test_a_webhook_that_cannot_be_posted_to_is_refused_and_not_repeated(address):
    param, sentence = refused(webhook_url=address)
    assert param == "webhook_url"
    assert "canary" not in sentence
