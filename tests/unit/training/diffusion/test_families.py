"""Every family's loss is that of diffusers' training examples, and every family trains, samples and exports."""

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

from attempts import losses, of_kind, run
from tiny_families import build_sd3
from tiny_pictures import picture_attempt, write_pictures
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.events import Sampled, Succeeded
from tunesmith.training.diffusion.flux import Flux
from tunesmith.training.diffusion.folder import family_of
from tunesmith.training.diffusion.opening import Recipe, open_task
from tunesmith.training.reporting import Reporter
from tunesmith.training.workplace import Workplace

pytestmark = pytest.mark.usefixtures("libraries_are_no_garbage")

PIPELINES = {"flux": FluxPipeline, "schnell": FluxPipeline, "sd3": StableDiffusion3Pipeline, "qwen": QwenImagePipeline}
SIZES = [(64, 64), (64, 64)]
HELD_OUT = {"by": "sequential", "ratios": [0.75, 0.25]}


def opened(folder, pictures, tmp_path, family=None, **recipe):
    """A task in full precision, with nothing random but what the loop draws."""
    settings = {
        "sampling": "sigmoid",
        "weighting": "none",
        "shift_by_size": False,
        "caption_dropout": 0.0,
        "ema_decay": None,
        "sample_width": 64,
        "sample_height": 64,
        "sample_guidance": 3.0,
        **recipe,
    }
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir(exist_ok=True)
    reporter = Reporter(EventWriter(directory))
    workplace = Workplace(device=torch.device("cpu"), run=directory, reporter=reporter, poll=lambda: None)
    order = picture_attempt(folder, pictures)
    return open_task(order, workplace, family or family_of(folder), Recipe(**settings))


def example_noise(scheduler, batch, weighting):
    """Times, sigmas and weights as in diffusers' examples, for the times of a batch of ours."""
    indices = [(scheduler.timesteps == time).nonzero().item() for time in batch.timesteps]
    sigmas = scheduler.sigmas[indices].flatten()[:, None, None, None]
    return scheduler.timesteps[indices], sigmas, compute_loss_weighting_for_sd3(weighting, sigmas)


def example_loss(prediction, batch, weights):
    """The last lines of the step of diffusers' examples."""
    target = batch.noise - batch.latents
    squares = (weights.float() * (prediction.float() - target.float()) ** 2).reshape(target.shape[0], -1)
    return torch.mean(squares, 1).mean()


def flux_prediction(folder, pipeline, batch, captions, sigmas, timesteps):
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer").eval()
    text, pooled, text_ids = pipeline.encode_prompt(captions, captions, max_sequence_length=64)
    mixed = (1.0 - sigmas) * batch.latents + sigmas * batch.noise
    count, channels, height, width = mixed.shape
    guidance = torch.tensor([1.0]).expand(count) if transformer.config.guidance_embeds else None
    prediction = transformer(
        hidden_states=FluxPipeline._pack_latents(mixed, count, channels, height, width),
        timestep=timesteps / 1000,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=text,
        txt_ids=text_ids,
        img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, "cpu", torch.float32),
        return_dict=False,
    )[0]
    return FluxPipeline._unpack_latents(prediction, height * 8, width * 8, 8)


def sd3_prediction(folder, pipeline, batch, captions, sigmas, timesteps):
    transformer = SD3Transformer2DModel.from_pretrained(folder / "transformer").eval()
    text, _, pooled, _ = pipeline.encode_prompt(captions, captions, captions, max_sequence_length=64)
    return transformer(
        hidden_states=(1.0 - sigmas) * batch.latents + sigmas * batch.noise,
        timestep=timesteps,
        encoder_hidden_states=text,
        pooled_projections=pooled,
        return_dict=False,
    )[0]


def qwen_prediction(folder, pipeline, batch, captions, sigmas, timesteps):
    transformer = QwenImageTransformer2DModel.from_pretrained(folder / "transformer").eval()
    text, mask = pipeline.encode_prompt(captions, max_sequence_length=64)
    # The example's latents have a dimension for the frames of a film.
    latents, noise = batch.latents[:, :, None], batch.noise[:, :, None]
    mixed = (1.0 - sigmas[..., None]) * latents + sigmas[..., None] * noise
    count, channels, _, height, width = mixed.shape
    mixed = mixed.permute(0, 2, 1, 3, 4)
    prediction = transformer(
        hidden_states=QwenImagePipeline._pack_latents(mixed, count, channels, height, width),
        encoder_hidden_states=text,
        encoder_hidden_states_mask=mask,
        timestep=timesteps / 1000,
        img_shapes=[[(1, height // 2, width // 2)]] * count,
        return_dict=False,
    )[0]
    return QwenImagePipeline._unpack_latents(prediction, height * 8, width * 8, 8)[:, :, 0]


PREDICTIONS = {"flux": flux_prediction, "schnell": flux_prediction, "sd3": sd3_prediction, "qwen": qwen_prediction}


@pytest.mark.parametrize("weighting", ["none", "sigma_sqrt", "cosmap"])
@pytest.mark.parametrize("name", PREDICTIONS)
@torch.no_grad()
def test_the_loss_is_that_of_the_training_examples_of_diffusers(name, weighting, request, tmp_path):
    folder = request.getfixturevalue(name)
    captions = ["sks red flag", "a bowl of green apples, from above"]
    task = opened(folder, write_pictures(tmp_path / "set.zip", SIZES, captions), tmp_path, weighting=weighting)
    [batch] = task.micro_batches([0, 1])
    found = task.forward(batch).loss / batch.trained
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    timesteps, sigmas, weights = example_noise(scheduler, batch, weighting)
    pipeline = PIPELINES[name].from_pretrained(folder)
    prediction = PREDICTIONS[name](folder, pipeline, batch, captions, sigmas, timesteps)
    torch.testing.assert_close(found, example_loss(prediction, batch, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["flux", "sd3"])
@torch.no_grad()
def test_latents_are_those_that_the_pipeline_turns_back_into_the_picture(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    task = opened(folder, write_pictures(tmp_path / "set.zip", SIZES), tmp_path)
    mean, std = task.encoder.latents(task.examples[0].latents)
    vae = PIPELINES[name].from_pretrained(folder).vae
    found = vae.encode(_red_with_a_gray_stripe()).latent_dist
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    torch.testing.assert_close(mean, (found.mean[0] - shift) * scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(std, found.std[0] * scale, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_latents_of_qwen_image_are_those_that_its_pipeline_turns_back_into_the_picture(qwen, tmp_path):
    task = opened(qwen, write_pictures(tmp_path / "set.zip", SIZES), tmp_path)
    mean, std = task.encoder.latents(task.examples[0].latents)
    vae = QwenImagePipeline.from_pretrained(qwen).vae
    found = vae.encode(_red_with_a_gray_stripe()[:, :, None]).latent_dist
    # As the last lines of the pipeline have it.
    shift, scale = (torch.tensor(each)[:, None, None] for each in (vae.config.latents_mean, vae.config.latents_std))
    torch.testing.assert_close(mean * scale + shift, found.mean[0, :, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(std * scale, found.std[0, :, 0], rtol=1e-4, atol=1e-4)


def _red_with_a_gray_stripe():
    """The first picture of the set, as the autoencoder reads it."""
    pixels = torch.ones(1, 3, 64, 64) * torch.tensor([1.0, -1.0, -1.0])[None, :, None, None]
    pixels[:, :, 0:2] = 2 * 128 / 255 - 1
    return pixels


@torch.no_grad()
def test_times_are_drawn_as_diffusers_draws_them(flux, tmp_path):
    task = opened(flux, write_pictures(tmp_path / "set.zip", SIZES), tmp_path)
    torch.manual_seed(5)
    found = [task.noise.draw(16)[0].item() for _ in range(200)]
    torch.manual_seed(5)
    shares = [compute_density_for_timestep_sampling("logit_normal", 1, 0.0, 1.0).item() for _ in range(200)]
    timesteps = task.noise.scheduler.timesteps
    assert found == [timesteps[int(share * 1000)].item() for share in shares]


@torch.no_grad()
def test_a_shift_by_size_is_that_of_the_pipeline(flux, tmp_path):
    task = opened(flux, write_pictures(tmp_path / "set.zip", SIZES), tmp_path, shift_by_size=True)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(flux / "scheduler")
    sigmas = [1.0 - share for share in (0.1, 0.4, 0.8)]
    config = scheduler.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    scheduler.set_timesteps(sigmas=sigmas, mu=config.base_shift + slope * (1024 - config.base_image_seq_len))
    found = [task.noise.at(share, 1024) for share in (0.1, 0.4, 0.8)]
    torch.testing.assert_close(torch.stack([sigma for _, sigma in found]), scheduler.sigmas[:3], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.stack([time for time, _ in found]), scheduler.timesteps, rtol=1e-3, atol=1)


@torch.no_grad()
def test_a_bypassed_guidance_embedding_adds_nothing_and_is_back_afterwards(flux, tmp_path):
    pictures = write_pictures(tmp_path / "set.zip", SIZES)
    plain, bypassing = (opened(flux, pictures, tmp_path, family) for family in (Flux(), Flux(bypass_guidance=True)))
    torch.manual_seed(3)
    [batch] = plain.micro_batches([0, 1])
    transformer = FluxTransformer2DModel.from_pretrained(flux / "transformer").eval()
    mixed = [(1 - batch.sigmas[:, None, None, None]) * batch.latents + batch.sigmas[:, None, None, None] * batch.noise]
    arguments = (transformer, mixed[0], batch.timesteps, batch.condition)
    before = plain.encoder.family.predict(*arguments)
    without = bypassing.encoder.family.predict(*arguments)
    assert not torch.equal(before, without)
    assert torch.equal(before, plain.encoder.family.predict(*arguments))
    for parameter in transformer.time_text_embed.guidance_embedder.linear_2.parameters():
        parameter.zero_()
    torch.testing.assert_close(without, plain.encoder.family.predict(*arguments))


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_a_family_trains_samples_and_exports(name, request, tmp_path, signals_kept):
    captions = ["sks", "a longer caption", "", "sks again"]
    pictures = write_pictures(tmp_path / "set.zip", [(64, 64), (64, 32), (100, 100), (64, 64)], captions)
    sampling = {"prompts": ["sks flag"], "every": 100, "denoising_steps": 2}
    changes = {"epochs": 20.0, "sampling": sampling, "batch_size": 3, "split": HELD_OUT}
    code, events = run(picture_attempt(request.getfixturevalue(name), pictures, **changes), tmp_path / "run")
    assert code == 0
    curve = losses(events)
    assert sum(curve[-5:]) < sum(curve[:5])
    assert [event.step for event in of_kind(events, Sampled)] == [0, 20]
    assert of_kind(events, Succeeded)[0].logit_change > 0


@pytest.mark.slow
def test_stable_diffusion_3_trains_without_its_largest_text_encoder(tmp_path, signals_kept):
    build_sd3(tmp_path / "sd3", with_t5=False)
    pictures = write_pictures(tmp_path / "set.zip", SIZES)
    code, _ = run(picture_attempt(tmp_path / "sd3", pictures), tmp_path / "run")
    assert code == 0
