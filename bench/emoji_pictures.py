"""Does image training learn? A small FLUX.1 transformer is trained from nothing to draw emoji, through the worker.

The pictures are those of the npm package emoji-datasource-twitter 16.0.0 (graphics by Twitter, CC-BY 4.0), fetched by
npm. Nothing in the model was trained before: the autoencoder (two pixels a latent, nearly lossless at this size) is
trained here for a minute or two, the text encoders stay random and only tell captions apart. So the pictures show that
the training works, and nothing of what a large model would draw.

Prints the loss on emoji that are not trained on, and how near the samples come to the emoji that their prompts name;
writes all samples on one sheet. Takes some minutes on two cores.
"""

import argparse
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tunesmith.data.picture_set import Picture, PictureSetWriter
from tunesmith.data.sample_sheet import sample_sheet
from tunesmith.rundir import RunDirectory
from tunesmith.spec.events import Evaluated, Failed, Metrics, Sampled
from tunesmith.spec.job import AttemptSpec
from tunesmith.worker import main as work

PACKAGE = "emoji-datasource-twitter@16.0.0"
EDGE = 32
TRAINED = 32
HELD_OUT = 16
PROMPTED = 8
SEED = 1


@dataclass(frozen=True)
class Emoji:
    """One picture."""

    caption: str
    group: str
    image: Image.Image


def main() -> None:
    """Fetch, train, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--autoencoder-steps", type=int, default=250)
    parser.add_argument("--package", type=Path, help="the package's archive; fetched by npm if not given")
    parser.add_argument("--sheet", type=Path, default=Path("emoji_samples.png"))
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        emoji = list(read_emoji(arguments.package or fetch(folder)))
        fruit = [each for each in emoji if each.group in ("food-fruit", "food-vegetable", "animal-mammal")]
        held_out, trained = fruit[:: len(fruit) // HELD_OUT][:HELD_OUT], []
        trained = [each for each in fruit if each not in held_out][:TRAINED]
        others = [each for each in emoji if each not in held_out]
        error = build_model(folder / "model", others, arguments.autoencoder_steps)
        figures = {"autoencoder_error": error}
        figures |= train(folder, trained, held_out, arguments.steps, arguments.sheet)
    for name, value in figures.items():
        print(f"{name}: {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def fetch(folder: Path) -> Path:
    """The package's archive."""
    subprocess.run(
        ["npm", "pack", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return next(folder.glob("*.tgz"))


def read_emoji(archive: Path) -> Iterator[Emoji]:
    """All pictures with their names, on white."""
    with tarfile.open(archive) as package:  # read from front to back: going back would unpack all anew
        wanted = (each for each in package if each.name.endswith("/emoji.json") or "/img/twitter/64/" in each.name)
        files = {each.name: package.extractfile(each).read() for each in wanted if each.isfile()}  # type: ignore[union-attr]
    records = json.loads(files["package/emoji.json"])
    for record in sorted(records, key=lambda record: record["sort_order"]):
        if record["has_img_twitter"]:
            with Image.open(io.BytesIO(files[f"package/img/twitter/64/{record['image']}"])) as opened:
                drawn = opened.convert("RGBA")
            paper = Image.new("RGBA", drawn.size, "white")
            paper.alpha_composite(drawn)
            image = paper.convert("RGB").resize((EDGE, EDGE), Image.Resampling.LANCZOS)
            yield Emoji(record["name"].lower(), record["subcategory"], image)


def build_model(folder: Path, emoji: list[Emoji], steps: int) -> float:
    """Write a pipeline with an untrained transformer. Returns the autoencoder's mean error, of values from 0 to 1."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    from tunesmith.training.diffusion.tiny_model import clip, t5, tokenizer

    torch.manual_seed(SEED)
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=8,
        norm_num_groups=8,
        layers_per_block=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
        shift_factor=0.0,
        scaling_factor=1.0,
    )
    error, scale = train_autoencoder(vae, emoji, steps)
    vae.register_to_config(scaling_factor=scale)
    transformer = FluxTransformer2DModel(
        in_channels=32,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=False,
    )
    FluxPipeline(
        FlowMatchEulerDiscreteScheduler(),
        vae,
        clip(CLIPTextModel),
        tokenizer(77),
        t5(),
        tokenizer(512),
        transformer,
    ).save_pretrained(folder)
    return error


def train_autoencoder(vae: Any, emoji: list[Emoji], steps: int) -> tuple[float, float]:
    """Teach it to give back what it was shown. Returns its mean error, and what gives its latents a spread of 1."""
    pixels = torch.stack([_pixels(each.image) for each in emoji])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        batch = pixels[torch.randint(len(pixels), (16,))]
        found = vae.encode(batch).latent_dist
        loss = (vae.decode(found.sample()).sample - batch).abs().mean() + 1e-6 * found.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        sample = pixels[torch.randperm(len(pixels))[:128]]
        latents = vae.encode(sample).latent_dist.mode()
        error = (vae.decode(latents).sample - sample).abs().mean().item() / 2
        return error, 1 / latents.std().item()


def train(folder: Path, trained: list[Emoji], held_out: list[Emoji], steps: int, sheet: Path) -> dict[str, Any]:
    """Carry out an attempt, as a worker does. Returns what it came to."""
    prompted = trained[:: len(trained) // PROMPTED][:PROMPTED]
    run = RunDirectory(folder / "run")
    run.write_spec(
        AttemptSpec.model_validate(
            {
                "job_id": "emoji",
                "attempt": 1,
                "purpose": "train",
                "spec": _spec(
                    steps, [each.caption for each in prompted], len(trained) / (len(trained) + len(held_out))
                ),
                "inputs": {
                    "model": folder / "model",
                    "train": write_set(folder / "emoji.zip", [*trained, *held_out]),
                    "validation": None,
                    "adapter": None,
                },
            }
        )
    )
    code = work(run.path)
    events, _ = run.read_events(0)
    if code:
        raise SystemExit(next(event.error.message for event in events if isinstance(event, Failed)))
    scored = [event for event in events if isinstance(event, Evaluated)]
    losses = [event.loss for event in events if isinstance(event, Metrics)]
    drawn = {(event.number, event.step): run.path / str(event.file) for event in events if isinstance(event, Sampled)}
    sheet.write_bytes(sample_sheet([each.caption for each in prompted], drawn, cell=96))
    return {
        "steps": steps,
        "training_loss_first_and_last_20_steps": [_mean(losses[:20]), _mean(losses[-20:])],
        "held_out_loss": {event.step: round(event.loss, 4) for event in scored},
        "distance_to_the_named_emoji": {
            step: round(_mean([_distance(drawn[number, step], each.image) for number, each in enumerate(prompted)]), 4)
            for step in sorted({step for _, step in drawn})
        },
        "samples_nearest_to_the_named_emoji": {
            step: sum(
                min(trained, key=lambda other, n=number, s=step: _distance(drawn[n, s], other.image)) is each
                for number, each in enumerate(prompted)
            )
            for step in sorted({step for _, step in drawn})
        },
        "prompts": len(prompted),
    }


def write_set(path: Path, emoji: list[Emoji], edge: int = EDGE) -> Path:
    """A set of prepared pictures, all of this edge."""
    pictures = []
    with path.open("wb") as file, PictureSetWriter(file) as writer:
        for number, each in enumerate(emoji):
            content = io.BytesIO()
            each.image.save(content, format="PNG")
            digest = hashlib.sha256(content.getvalue()).hexdigest()
            name = f"{number:04d}.png"
            writer.add(name, content.getvalue())
            pictures.append(
                Picture(file=name, source=name, caption=each.caption, width=edge, height=edge, sha256=digest)
            )
        writer.finish(pictures)
    return path


def _spec(steps: int, prompts: list[str], share: float) -> dict[str, Any]:
    return {
        "model": {"base": "emoji", "dtype": "float32", "modality": "image"},
        "init_from": None,
        "data": {
            "train": {"kind": "images", "id": "emoji", "sha256": None},
            "validation": None,
            "max_length": 32,
            "over_long": "truncate",
            "packing": False,
            "max_samples": None,
            "split": {"by": "sequential", "ratios": [share, 1 - share]},
            "images": {"sources": [], "trigger_word": "", "captioning": "existing", "resolution": [EDGE]},
        },
        "method": {
            "kind": "text_to_image",
            "parameters": {"ema_decay": 0.99, "sample_width": EDGE, "sample_height": EDGE, "sample_guidance": 1.0},
        },
        "adapter": None,
        "optimization": {
            "learning_rate": 1e-3,
            "schedule": "cosine",
            "warmup_ratio": 0.05,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "epochs": 10_000,
            "max_steps": steps,
            "batch_size": 16,
            "micro_batch_size": 16,
            "seed": SEED,
        },
        "cadence": {"eval_steps": max(1, steps // 6), "save_steps": steps, "keep_checkpoints": 1, "log_steps": 1},
        "sampling": {"prompts": prompts, "every": max(1, steps // 4), "denoising_steps": 20},
    }


def _pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def _distance(path: Path, image: Image.Image) -> float:
    """Mean difference of values from 0 to 1."""
    with Image.open(path) as opened:
        return (_pixels(opened.convert("RGB")) - _pixels(image)).abs().mean().item() / 2


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
