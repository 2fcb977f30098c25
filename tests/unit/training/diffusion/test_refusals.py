"""What image training cannot do is refused at the check, which loads no weights."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from attempts import run
from tiny_pictures import picture_attempt, write_pictures
from tunesmith.spec.events import Checked

SIZES = [(64, 64), (64, 32)]


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "set.zip", SIZES)


def refusal(order, folder):
    """Code, path and message of what a check answers."""
    code, events = run(order.model_copy(update={"purpose": "check"}), folder / "check")
    assert code == 1, events
    error = events[-1].error
    return error.code, error.param, error.message


def test_what_can_be_trained_passes_the_check(flux, pictures, tmp_path, signals_kept):
    code, events = run(picture_attempt(flux, pictures, purpose="check"), tmp_path / "run")
    assert (code, type(events[-1])) == (0, Checked)


def test_a_check_imports_no_diffusers(flux, pictures, tmp_path):
    order = picture_attempt(flux, pictures, purpose="check")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.json").write_text(order.model_dump_json())
    program = "import sys; from pathlib import Path; from tunesmith.worker import main; code = main(Path(sys.argv[1]));"
    program += "sys.exit(code or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, env=os.environ)


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"packing": True}, "data.packing", "packed"),
        ({"over_long": "drop"}, "data.over_long", "'drop'"),
        ({"sample_ratio": 0.5}, "data.sample_ratio", "All pictures"),
        ({"max_samples": 1}, "data.max_samples", "All pictures"),
        ({"images": None}, "data.images", "pictures"),
        ({"resolution": ()}, "data.images.resolution", "0 resolutions"),
        ({"adapter": None, "quantization": {"bits": 4}}, "model.quantization", "frozen"),
        ({"resources": {"gpus_per_node": 2, "nodes": 1}}, "resources.gpus_per_node", "2 GPUs"),
        ({"sampling": {"prompts": ["a"], "every": 1}}, "sampling.denoising_steps", "nothing"),
        ({"targets": ["q_proj"]}, "adapter.targets", "'q_proj'"),
        ({"targets": ["proj_out_of_nowhere", "to_q"]}, "adapter.targets", "'proj_out_of_nowhere'"),
        ({"rank": 33}, "adapter.rank", "33"),
        ({"parameters": {"training_type": "full"}}, "method.parameters.training_type", "an adapter"),
        ({"init_from": {"kind": "model", "id": "m"}}, "init_from", "go on"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_its_path(
    changes, param, words, flux, pictures, tmp_path, signals_kept
):
    _, found, message = refusal(picture_attempt(flux, pictures, **changes), tmp_path)
    assert found == param
    assert words in message


def test_samples_of_a_size_that_the_model_has_not_are_refused(flux, pictures, tmp_path, signals_kept):
    sampling = {"prompts": ["a"], "every": 1, "denoising_steps": 2}
    order = picture_attempt(flux, pictures, sampling=sampling, parameters={"sample_height": 72})
    assert refusal(order, tmp_path)[1:] == (
        "method.parameters.sample_height",
        "FLUX.1 draws pictures whose edges are multiples of 16 pixels; sample_height is 72.",
    )


def test_a_guidance_embedding_that_is_not_there_cannot_be_bypassed(schnell, pictures, tmp_path, signals_kept):
    order = picture_attempt(schnell, pictures, parameters={"bypass_guidance_embedding": True})
    assert refusal(order, tmp_path)[1] == "method.parameters.bypass_guidance_embedding"


def test_a_shift_that_the_schedule_has_not_is_refused(schnell, pictures, tmp_path, signals_kept):
    order = picture_attempt(schnell, pictures, parameters={"timestep_shift": "by_size"})
    assert refusal(order, tmp_path)[1] == "method.parameters.timestep_shift"


def test_a_job_whose_weights_alone_do_not_fit_is_told_so(flux, pictures, tmp_path, signals_kept):
    small = {"name": "cpu", "memory": 300_000_000}
    code, _, message = refusal(picture_attempt(flux, pictures, adapter=None, device=small), tmp_path)
    assert code == "does_not_fit"
    assert "Weights, gradients and the optimizer take at least" in message


def test_a_set_without_pictures_is_refused(flux, tmp_path, signals_kept):
    empty = write_pictures(tmp_path / "set.zip", [])
    assert refusal(picture_attempt(flux, empty), tmp_path)[:2] == ("nothing_to_train", "data.train")


def test_a_set_of_pictures_that_are_all_too_narrow_is_refused_with_what_the_model_needs(flux, tmp_path, signals_kept):
    narrow = write_pictures(tmp_path / "set.zip", [(8, 64), (64, 8)])
    code, param, message = refusal(picture_attempt(flux, narrow), tmp_path)
    assert (code, param) == ("invalid_dataset", "data.train")
    assert "'red.png' of 8x64 pixels: this model needs 16 pixels along each edge" in message


def test_a_file_that_is_no_set_of_pictures_is_refused(flux, tmp_path, signals_kept):
    (tmp_path / "set.zip").write_bytes(b"no archive")
    assert refusal(picture_attempt(flux, tmp_path / "set.zip"), tmp_path)[0] == "invalid_dataset"


def test_a_language_model_is_no_text_to_image_model(tiny_model, pictures, tmp_path, signals_kept):
    _, param, message = refusal(picture_attempt(tiny_model, pictures), tmp_path)
    assert param == "model.base"
    assert "no model_index.json" in message


def test_an_unknown_family_is_told_which_are_known(flux, pictures, tmp_path, signals_kept):
    model = tmp_path / "model"
    shutil.copytree(flux, model)
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionXLPipeline"}))
    run(picture_attempt(model, pictures, purpose="check"), tmp_path / "run")
    _, _, message = refusal(picture_attempt(model, pictures), tmp_path)
    assert "'StableDiffusionXLPipeline'" in message


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("transformer/diffusion_pytorch_model.safetensors", "transformer/*.safetensors"),
        ("transformer/config.json", "transformer/config.json"),
        ("vae/diffusion_pytorch_model.safetensors", "vae/*.safetensors"),
        ("text_encoder_2/model.safetensors", "text_encoder_2/*.safetensors"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json"),
    ],
)
def test_a_missing_part_is_named(missing, words, flux, pictures, tmp_path, signals_kept):
    shutil.copytree(flux, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    code, param, message = refusal(picture_attempt(tmp_path / "model", pictures), tmp_path)
    assert (code, param) == ("model_load", "model.base")
    assert words in message


def test_a_missing_piece_of_a_list_of_weights_is_named(flux, pictures, tmp_path, signals_kept):
    shutil.copytree(flux, tmp_path / "model")
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    path = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index))
    assert "diffusion_pytorch_model-00001-of-00002" in refusal(picture_attempt(path.parents[1], pictures), tmp_path)[2]


def test_pickled_weights_are_never_loaded(flux, pictures, tmp_path, signals_kept):
    shutil.copytree(flux, tmp_path / "model")
    weights = tmp_path / "model" / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "unpickling runs code" in refusal(picture_attempt(tmp_path / "model", pictures), tmp_path)[2]


def test_damaged_weights_are_named(flux, pictures, tmp_path, signals_kept):
    shutil.copytree(flux, tmp_path / "model")
    weights = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert "is damaged" in refusal(picture_attempt(tmp_path / "model", pictures), tmp_path)[2]


def test_a_transformer_of_another_class_is_refused(flux, pictures, tmp_path, signals_kept):
    shutil.copytree(flux, tmp_path / "model")
    path = tmp_path / "model" / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"transformer": ["diffusers", "Flux2Transformer2DModel"]}))
    assert "'Flux2Transformer2DModel'" in refusal(picture_attempt(tmp_path / "model", pictures), tmp_path)[2]
