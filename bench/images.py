"""Image training with LoRA: our engine against a plain loop like that of diffusers' training examples.

Both train the same random FLUX.1 transformer on the same pictures in turn (A, B, A, B), with latents and embeddings
encoded beforehand. That their losses are the same formula, a test shows; here only time counts. Prints medians of whole
steps as pictures a second, and the ratio. The shape `tiny` takes a minute on two cores.

Then the time from a worker's start to encoded pictures, of a first job and of a second one on the same pictures, with a
random autoencoder of the size of FLUX.1's.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from emoji_pictures import Emoji, write_set

from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Failed, Metrics, Prepared, Started
from tunesmith.spec.job import AttemptSpec
from tunesmith.worker import main as work

RANK = 16
RATE = 1e-4
WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Shape:
    """A transformer."""

    blocks: tuple[int, int]
    """Double and single ones."""

    heads: int
    head_width: int
    rotary: tuple[int, int, int]
    text_width: int
    pooled_width: int
    latent_channels: int


SHAPES = {
    "tiny": Shape((2, 2), 4, 32, (8, 12, 12), 32, 32, 4),
    "flux-dev": Shape((19, 38), 24, 128, (16, 56, 56), 4096, 768, 16),
}
"""`flux-dev` is that of the published configuration of FLUX.1-dev."""


@dataclass(frozen=True)
class Case:
    """One comparison."""

    shape: str
    edge: int
    """Of the pictures, in pixels."""

    batch: int
    dtype: str
    caption_tokens: int = 512


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        case = Case("tiny", 128, 4, "float32", caption_tokens=64)
        report = {"tiny": compare(case, Path(scratch), arguments.steps, arguments.rounds), "kept": keep(Path(scratch))}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def compare(case: Case, folder: Path, steps: int, rounds: int) -> dict[str, float]:
    """Medians of pictures a second."""
    model = folder / case.shape
    if not model.exists():
        build_model(SHAPES[case.shape], model)
    pictures = write_set(folder / f"{case.edge}.zip", _pictures(case), edge=case.edge)
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(rounds):
        run = RunDirectory(folder / f"{case.shape}-{case.edge}-{number}")
        speeds["ours"].append(_ours(case, model, pictures, run, folder / "cache", steps))
        speeds["plain"].append(_plain(case, model, pictures, run, folder / "cache", steps))
        print(
            f"round {number + 1}: ours {speeds['ours'][-1]:.3f}, plain {speeds['plain'][-1]:.3f} pictures/s", flush=True
        )
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    medians["ratio"] = medians["ours"] / medians["plain"]
    print(f"{case.shape} at {case.edge} pixels, {case.batch} a step: ours / plain {medians['ratio']:.2f}", flush=True)
    return medians


def keep(folder: Path) -> dict[str, float]:
    """Seconds until eight pictures of 256 pixels are encoded: first, and again."""
    case = Case("tiny", 256, 8, "float32", caption_tokens=64)
    model = folder / "large-autoencoder"
    build_model(SHAPES["tiny"], model, flux_vae(SHAPES["tiny"].latent_channels))
    pictures = write_set(folder / "kept.zip", _pictures(case), edge=case.edge)
    seconds = {}
    for name in ("first", "again"):
        run = RunDirectory(folder / f"kept-{name}")
        run.write_spec(_order(case, model, pictures, folder / "kept-cache", 1))
        if work(run.path):
            raise SystemExit(f"the {name} job failed")
        events, _ = run.read_events(0)
        moments = {type(event): event.at.timestamp() for event in events}
        seconds[name] = moments[Prepared] - moments[Started]
        print(f"{case.batch} pictures at {case.edge} pixels encoded, {name}: {seconds[name]:.2f} s", flush=True)
    return seconds


def flux_vae(latent_channels: int) -> Any:
    """An autoencoder as large as FLUX.1's."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        layers_per_block=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    )


def build_model(shape: Shape, folder: Path, vae: Any = None) -> None:
    """Write a random pipeline of this shape, with small encoders that give embeddings of its widths, and with a small
    autoencoder unless one is given."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    from tunesmith.training.diffusion.tiny_model import clip, t5, tiny_vae, tokenizer

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        transformer = FluxTransformer2DModel(
            in_channels=4 * shape.latent_channels,
            num_layers=shape.blocks[0],
            num_single_layers=shape.blocks[1],
            attention_head_dim=shape.head_width,
            num_attention_heads=shape.heads,
            joint_attention_dim=shape.text_width,
            pooled_projection_dim=shape.pooled_width,
            axes_dims_rope=shape.rotary,
            guidance_embeds=True,
        ).to(torch.bfloat16)
    FluxPipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae or tiny_vae(shape.latent_channels),
        clip(CLIPTextModel, shape.pooled_width),
        tokenizer(77),
        t5(shape.text_width),
        tokenizer(512),
        transformer,
    ).save_pretrained(folder)


def _pictures(case: Case) -> list[Emoji]:
    from PIL import Image

    size = (case.edge, case.edge)
    return [Emoji(f"picture {number}", "", Image.effect_noise(size, 60).convert("RGB")) for number in range(case.batch)]


def _order(case: Case, model: Path, pictures: Path, cache: Path, steps: int) -> AttemptSpec:
    spec = {
        "model": {"base": case.shape, "dtype": case.dtype, "modality": "image"},
        "init_from": None,
        "data": {
            "train": {"kind": "images", "id": "bench", "sha256": None},
            "validation": None,
            "max_length": case.caption_tokens,
            "over_long": "truncate",
            "packing": False,
            "max_samples": None,
            "images": {"sources": [], "trigger_word": "", "captioning": "existing", "resolution": [case.edge]},
        },
        "method": {"kind": "text_to_image"},
        "adapter": {"rank": RANK, "alpha": RANK, "dropout": 0, "targets": ["all-linear"]},
        "optimization": {
            "learning_rate": RATE,
            "schedule": "constant",
            "warmup_ratio": 0,
            "weight_decay": 0,
            "max_grad_norm": 1.0,
            "epochs": steps,
            "max_steps": steps,
            "batch_size": case.batch,
            "micro_batch_size": case.batch,
            "seed": 0,
        },
        "cadence": {"eval_steps": steps, "save_steps": steps, "keep_checkpoints": 1},
    }
    inputs = {"model": model, "train": pictures, "validation": None, "adapter": None, "cache": cache}
    return AttemptSpec.model_validate(
        {"job_id": "bench", "attempt": 1, "purpose": "train", "spec": spec, "inputs": inputs}
    )


def _ours(case: Case, model: Path, pictures: Path, run: RunDirectory, cache: Path, steps: int) -> float:
    """Pictures a second, by the times of the events of whole steps."""
    run.write_spec(_order(case, model, pictures, cache, steps))
    code = work(run.path)
    events, _ = run.read_events(0)
    if code:
        raise SystemExit(next(event.error.message for event in events if isinstance(event, Failed)))
    ends = [event.at.timestamp() for event in events if isinstance(event, Metrics)]
    return _speed(ends, case.batch)


def _plain(case: Case, model: Path, pictures: Path, run: RunDirectory, cache: Path, steps: int) -> float:
    """Pictures a second of the loop of the examples, on what our engine has encoded."""
    from tunesmith.methods import text_to_image
    from tunesmith.rundir import EventWriter
    from tunesmith.training.model import pick_device
    from tunesmith.training.reporting import Reporter
    from tunesmith.training.workplace import Workplace

    device = pick_device()
    place = Workplace(device=device, run=run, reporter=Reporter(EventWriter(run)), poll=lambda: None)
    task: Any = text_to_image.build(_order(case, model, pictures, cache, steps), place)
    transformer = task.model.train()
    latents = [task.encoder.latents(example.latents) for example in task.examples]
    conditions = task.encoder.family.collate([task.encoder.condition(each.condition) for each in task.examples])
    parameters = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    mean, std = (torch.stack(each).to(device) for each in zip(*latents, strict=True))
    conditions = {name: tensor.to(device) for name, tensor in conditions.items()}
    ends = []
    for _ in range(steps):
        _plain_step(task, transformer, mean + std * torch.randn_like(mean), conditions, optimizer, parameters)
        if device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.time())
    return _speed(ends, case.batch)


def _plain_step(
    task: Any, transformer: Any, latents: torch.Tensor, conditions: Any, optimizer: Any, parameters: Any
) -> None:
    from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

    noise = torch.randn_like(latents)
    shares = compute_density_for_timestep_sampling("logit_normal", len(latents), logit_mean=0.0, logit_std=1.0)
    indices = (shares * len(task.noise.scheduler.timesteps)).long()
    timesteps = task.noise.scheduler.timesteps[indices].to(latents.device)
    sigmas = task.noise.scheduler.sigmas[indices].to(latents.device)[:, None, None, None]
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=task.dtype == torch.bfloat16):
        mixed = (1.0 - sigmas) * latents + sigmas * noise
        flow = task.encoder.family.predict(transformer, mixed, timesteps, conditions)
    weights = compute_loss_weighting_for_sd3("none", sigmas)
    squares = (weights.float() * (flow.float() - (noise - latents).float()) ** 2).reshape(len(latents), -1)
    torch.mean(squares, 1).mean().backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _speed(ends: list[float], batch: int) -> float:
    """Pictures a second by the median step, without the first ones."""
    steps = [after - before for before, after in zip(ends[WARM_UP_STEPS:], ends[WARM_UP_STEPS + 1 :], strict=False)]
    return batch / statistics.median(steps)


if __name__ == "__main__":
    main()
