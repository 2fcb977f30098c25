"""Image training on the one loop: exact, resumable, sampled, averaged, exported."""

import json
import shutil

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from PIL import Image, ImageChops
from safetensors import safe_open
from safetensors.torch import load_file

from attempts import LORA, checkpoint, losses, of_kind, run
from tiny_pictures import picture_attempt, write_pictures
from tunesmith.spec.events import Evaluated, Failed, Note, Prepared, Resumed, Sampled, StoppedEarly, Succeeded

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("libraries_are_no_garbage")]

SIZES = [(64, 64), (64, 32), (64, 64), (40, 64), (64, 64)]
SAMPLING = {"prompts": ["sks flag", ""], "every": 2, "denoising_steps": 2}


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "set.zip", SIZES)


def with_cache(order, folder):
    return order.model_copy(update={"inputs": order.inputs.model_copy(update={"cache": folder})})


@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("decay", [None, 0.9], ids=["plain", "average"])
def test_a_resumed_training_is_the_undisturbed_one_bit_for_bit(adapter, decay, flux, pictures, tmp_path, signals_kept):
    recipe = {"ema_decay": decay, "caption_dropout": 0.3}
    changes = {"parameters": recipe, "adapter": adapter, "save_steps": 2, "micro_batch_size": 1, "sampling": SAMPLING}
    code, whole = run(picture_attempt(flux, pictures, **changes), tmp_path / "whole")
    assert code == 0
    folder = checkpoint(whole, tmp_path / "whole", 2)
    _, resumed = run(picture_attempt(flux, pictures, resume_from=[folder], **changes), tmp_path / "resumed")
    assert of_kind(resumed, Resumed)[0].step == 2
    assert losses(resumed) == losses(whole)[2:]
    assert [event.step for event in of_kind(resumed, Sampled)] == [4, 4, 6, 6]
    for name in ("job.safetensors",) if adapter else ("diffusion_pytorch_model.safetensors",):
        one, other = (load_file(tmp_path / run_folder / "artifact" / name) for run_folder in ("whole", "resumed"))
        assert all(torch.equal(one[key], other[key]) for key in one)
    for step in (4, 6):
        name = f"samples/{step:09d}_0.png"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_a_resumed_8_bit_optimizer_goes_on_exactly(flux, pictures, tmp_path, signals_kept):
    changes = {"optimizer": "adamw_8bit", "save_steps": 2, "rank": 16, "alpha": 16.0}
    _, whole = run(picture_attempt(flux, pictures, **changes), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", 2)
    _, resumed = run(picture_attempt(flux, pictures, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(whole)[2:]


def test_sampling_changes_no_loss(flux, pictures, tmp_path, signals_kept):
    _, quiet = run(picture_attempt(flux, pictures, dropout=0.1), tmp_path / "quiet")
    _, asked = run(picture_attempt(flux, pictures, dropout=0.1, sampling=SAMPLING), tmp_path / "asked")
    assert losses(quiet) == losses(asked)
    shown = of_kind(asked, Sampled)
    assert [(event.step, event.number) for event in shown] == [(step, n) for step in (0, 2, 4, 6) for n in (0, 1)]
    with Image.open(tmp_path / "asked" / shown[0].file) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))
    assert shown[0].prompt == "sks flag"
    assert shown[0].text is None


def test_the_size_of_a_pass_changes_no_loss(flux, pictures, tmp_path, signals_kept):
    changes = {"batch_size": 4, "learning_rate": 1e-3, "parameters": {"caption_dropout": 0.5}}
    _, one = run(picture_attempt(flux, pictures, micro_batch_size=1, **changes), tmp_path / "one")
    _, four = run(picture_attempt(flux, pictures, micro_batch_size=4, **changes), tmp_path / "four")
    assert losses(one) == pytest.approx(losses(four), rel=1e-4)


def test_activations_that_are_computed_again_change_no_loss(flux, pictures, tmp_path, signals_kept):
    _, kept = run(picture_attempt(flux, pictures), tmp_path / "kept")
    _, again = run(picture_attempt(flux, pictures, gradient_checkpointing=True), tmp_path / "again")
    assert losses(kept) == pytest.approx(losses(again), rel=1e-5)


def told(events):
    return [event.message for event in of_kind(events, Note) if event.message.startswith("Encoded")]


def test_a_second_job_encodes_only_what_is_new(flux, pictures, tmp_path, signals_kept):
    _, first = run(with_cache(picture_attempt(flux, pictures), tmp_path / "cache"), tmp_path / "first")
    written = {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert told(first) == [
        "Encoded 6 of 6 captions; the others were kept.",
        "Encoded 5 of 5 latents; the others were kept.",
    ]
    larger = write_pictures(tmp_path / "larger.zip", [*SIZES, (48, 48)])
    _, again = run(with_cache(picture_attempt(flux, pictures), tmp_path / "cache"), tmp_path / "again")
    _, more = run(with_cache(picture_attempt(flux, larger), tmp_path / "cache"), tmp_path / "more")
    assert told(again) == [
        "Encoded 0 of 6 captions; the others were kept.",
        "Encoded 0 of 5 latents; the others were kept.",
    ]
    assert told(more) == [
        "Encoded 1 of 7 captions; the others were kept.",
        "Encoded 1 of 6 latents; the others were kept.",
    ]
    assert losses(first) == losses(again)
    assert all(path.stat().st_ino == file for path, file in written.items())
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".safetensors"]


def test_a_damaged_file_of_the_cache_is_encoded_anew(flux, pictures, tmp_path, signals_kept):
    cache = tmp_path / "cache"
    _, first = run(with_cache(picture_attempt(flux, pictures), cache), tmp_path / "first")
    for path in cache.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    code, again = run(with_cache(picture_attempt(flux, pictures), cache), tmp_path / "again")
    assert code == 0
    assert losses(first) == losses(again)


def test_other_encoders_are_not_taken_for_these(flux, pictures, tmp_path, signals_kept):
    cache, other = tmp_path / "cache", tmp_path / "other"
    shutil.copytree(flux, other)
    config = other / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.9}))
    run(with_cache(picture_attempt(flux, pictures), cache), tmp_path / "first")
    _, events = run(with_cache(picture_attempt(other, pictures), cache), tmp_path / "second")
    messages = [event.message for event in of_kind(events, Note)]
    assert "Encoded 0 of 6 captions; the others were kept." in messages
    assert "Encoded 5 of 5 latents; the others were kept." in messages


def test_a_plain_pipeline_loads_the_adapter_and_draws_the_last_sample(flux, pictures, tmp_path, signals_kept):
    order = picture_attempt(flux, pictures, sampling=SAMPLING, epochs=10.0, alpha=3.0).model_copy(
        update={"name": "product sks/№1"}
    )
    code, events = run(order, tmp_path / "run")
    assert code == 0
    pipeline = FluxPipeline.from_pretrained(flux)
    pipeline.set_progress_bar_config(disable=True)

    def draw():
        generator = torch.Generator().manual_seed(order.spec.optimization.seed)
        sizes = {"width": 64, "height": 64, "num_inference_steps": 2, "max_sequence_length": 64}
        return pipeline("sks flag", guidance_scale=4.0, generator=generator, **sizes).images[0]

    by_base = draw()
    pipeline.load_lora_weights(tmp_path / "run" / "artifact")
    drawn = draw()
    last = of_kind(events, Sampled)[-2]
    with Image.open(tmp_path / "run" / last.file) as picture:
        # Some numbers lie on the edge between two of the 256 levels.
        assert max(most for _, most in ImageChops.difference(picture, drawn).getextrema()) <= 1
        assert max(most for _, most in ImageChops.difference(picture, by_base).getextrema()) > 8
    file = tmp_path / "run" / "artifact" / "product_sks_1.safetensors"
    with safe_open(file, "pt") as tensors:
        facts = tensors.metadata()
    assert facts["trigger_word"] == "sks"
    assert facts["step"] == str(of_kind(events, Succeeded)[0].step)
    assert json.loads(facts["recipe"])["adapter"]["rank"] == LORA["rank"]
    names = {path.name for path in (tmp_path / "run").rglob("*.safetensors")}
    assert "product_sks_1_000000003.safetensors" in names
    texts = [path.read_bytes() for path in (tmp_path / "run" / "artifact").iterdir()]
    assert not any(b"canary" in text for text in texts)


def test_a_wholly_trained_transformer_is_a_folder_of_diffusers(flux, pictures, tmp_path, signals_kept):
    code, events = run(picture_attempt(flux, pictures, adapter=None, dtype="bfloat16"), tmp_path / "run")
    assert code == 0
    transformer, report = FluxTransformer2DModel.from_pretrained(
        tmp_path / "run" / "artifact", output_loading_info=True, dtype="auto"
    )
    assert not report["missing_keys"]
    weights = load_file(tmp_path / "run" / "artifact" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert of_kind(events, Succeeded)[0].logit_change > 0
    assert transformer.config.guidance_embeds


@pytest.mark.parametrize("quantization", [{"bits": 4}, {"bits": 8}], ids=["4bit", "8bit"])
def test_an_adapter_is_trained_over_a_quantized_base(quantization, flux, pictures, tmp_path, signals_kept):
    changes = {"quantization": quantization, "dtype": "bfloat16", "save_steps": 2}
    code, events = run(picture_attempt(flux, pictures, **changes), tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    folder = checkpoint(events, tmp_path / "run", 2)
    _, resumed = run(picture_attempt(flux, pictures, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(events)[2:]
    weights = load_file(tmp_path / "run" / "artifact" / "job.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_named_layers_alone_get_an_adapter(flux, pictures, tmp_path, signals_kept):
    run(picture_attempt(flux, pictures, targets=["to_q", "attn.to_k"]), tmp_path / "run")
    names = load_file(tmp_path / "run" / "artifact" / "job.safetensors").keys()
    assert {name.rpartition(".lora")[0].rpartition(".")[2] for name in names} == {"to_q", "to_k"}


def test_an_average_follows_the_weights_by_its_decay(flux, pictures, tmp_path, signals_kept):
    changes = {"save_steps": 1, "max_steps": 3}
    run(picture_attempt(flux, pictures, **changes), tmp_path / "plain")
    run(picture_attempt(flux, pictures, parameters={"ema_decay": 0.2}, **changes), tmp_path / "average")

    def weights(kind, step):
        return load_file(tmp_path / kind / "checkpoints" / f"step-{step:08d}" / f"job_{step:09d}.safetensors")

    average = weights("plain", 1)  # the average begins with the first step
    for step, decay in ((2, 2 / 11), (3, 0.2)):
        own = weights("plain", step)
        average = {name: decay * average[name] + (1 - decay) * own[name] for name in own}
        found = weights("average", step)
        for name, tensor in average.items():
            torch.testing.assert_close(found[name], tensor)


def test_a_picture_too_narrow_for_the_model_is_left_out_by_name(flux, tmp_path, signals_kept):
    pictures = write_pictures(tmp_path / "set.zip", [(64, 64), (8, 64), (64, 64)])
    split = {"by": "sequential", "ratios": [0.5, 0.5]}
    code, events = run(picture_attempt(flux, pictures, split=split), tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    [left_out] = [note.message for note in of_kind(events, Note) if note.message.startswith("Left out")]
    assert "green.png: it has 8 x 64 pixels, and this model needs 16" in left_out
    [prepared] = of_kind(events, Prepared)
    assert (prepared.rows, prepared.validation_rows) == (1, 1)


def test_the_report_counts_pictures_once_per_resolution(flux, tmp_path, signals_kept):
    captions = ["sks", "word " * 100]
    pictures = write_pictures(tmp_path / "set.zip", [(64, 64), (128, 32)], captions)
    _, events = run(picture_attempt(flux, pictures, resolution=(32, 64)), tmp_path / "run")
    [prepared] = of_kind(events, Prepared)
    assert (prepared.rows, prepared.sequences) == (2, 4)
    assert prepared.tokens == 2 * 2 + 4 * 4 + 4 * 1 + 8 * 2
    assert (prepared.truncated, prepared.truncated_lines) == (1, (2,))
    assert prepared.sample == "sks"


def test_held_out_pictures_are_scored_alike_at_every_evaluation(flux, pictures, tmp_path, signals_kept):
    changes = {"split": {"by": "random", "ratios": [0.6, 0.4]}, "learning_rate": 1e-30}
    _, events = run(picture_attempt(flux, pictures, **changes), tmp_path / "run")
    first, second = of_kind(events, Evaluated)
    assert first.loss == pytest.approx(second.loss, rel=1e-6)
    [prepared] = of_kind(events, Prepared)
    assert (prepared.rows, prepared.validation_rows) == (3, 2)


def test_the_pictures_of_a_split_are_where_its_shares_put_them(flux, tmp_path, signals_kept):
    captions = ["sks", "word " * 100, "word " * 200, "never encoded"]
    pictures = write_pictures(tmp_path / "set.zip", [(64, 64), (64, 32), (64, 64), (64, 64)], captions)
    split = {"by": "sequential", "ratios": [0.5, 0.25, 0.25]}
    _, events = run(with_cache(picture_attempt(flux, pictures, split=split), tmp_path / "cache"), tmp_path / "run")
    [prepared] = of_kind(events, Prepared)
    assert (prepared.rows, prepared.sequences, prepared.validation_rows, prepared.test_rows) == (2, 2, 1, 1)
    assert prepared.truncated_lines == (2,)
    assert told(events) == [
        "Encoded 4 of 4 captions; the others were kept.",  # the empty one, too
        "Encoded 3 of 3 latents; the others were kept.",
    ]


def test_a_training_ends_early_and_its_result_is_the_best_by_held_out_pictures(flux, pictures, tmp_path, signals_kept):
    changes = {
        "split": {"by": "sequential", "ratios": [0.6, 0.4]},
        "epochs": 60.0,
        "learning_rate": 0.05,
        "eval_steps": 2,
        "patience": 2,
        "result": "best",
    }
    code, events = run(picture_attempt(flux, pictures, **changes), tmp_path / "run")
    assert code == 0, of_kind(events, Failed)
    [stopped] = of_kind(events, StoppedEarly)
    scores = {event.step: event.loss for event in of_kind(events, Evaluated)}
    assert stopped.step < 120
    assert scores[stopped.best_step] == min(scores.values())
    [done] = of_kind(events, Succeeded)
    assert done.weights_of == stopped.best_step
    best, result = (
        load_file(path)
        for path in (
            next((tmp_path / "run" / "checkpoints").glob(f"step-{stopped.best_step:08d}/job_*.safetensors")),
            tmp_path / "run" / "artifact" / "job.safetensors",
        )
    )
    assert all(torch.equal(best[name], result[name]) for name in best)
