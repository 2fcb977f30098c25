"""Pictures that the model draws of the job's prompts, to see how it changes."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.family import Condition, Drawing, Family
from tunesmith.training.reporting import Reporter


@dataclass(frozen=True, eq=False)
class Easel:
    """All that drawing needs."""

    family: Family
    folder: Path
    vae: Any
    run: RunDirectory
    prompts: Sequence[str]
    conditions: Sequence[Condition]
    unwanted: Condition
    drawing: Drawing
    """The seed is that of the first prompt; each further one has the next."""

    def draw(
        self,
        transformer: Any,
        arithmetic: Callable[[], AbstractContextManager[Any]],
        step: int,
        reporter: Reporter,
        poll: Callable[[], None],
    ) -> None:
        """Draw every prompt and report the files. Random numbers come from generators of their own."""
        pipeline = self.family.sampling_pipeline(self.folder, transformer, self.vae)
        pipeline.set_progress_bar_config(disable=True)
        self.run.samples.mkdir(exist_ok=True)
        for number, (prompt, condition) in enumerate(zip(self.prompts, self.conditions, strict=True)):
            poll()
            start = time.monotonic()
            drawing = Drawing(**vars(self.drawing) | {"seed": self.drawing.seed + number})
            with torch.no_grad(), torch.random.fork_rng(_devices(transformer)), arithmetic():
                picture = self.family.draw(
                    pipeline, _on(condition, transformer), _on(self.unwanted, transformer), drawing
                )
            file = self.run.samples / f"{step:09d}_{number}.png"
            aside = file.with_suffix(".part")
            picture.save(aside, format="PNG")
            aside.replace(file)
            reporter.write(
                events.Sampled,
                step=step,
                number=number,
                prompt=prompt[:2000],
                file=file.relative_to(self.run.path).as_posix(),
                seed=drawing.seed,
                seconds=time.monotonic() - start,
            )


def easel_vae(family: Family, folder: Path, device: torch.device) -> Any:
    """The autoencoder that turns latents into pictures.

    Raises:
        ModelLoadError: it cannot be loaded.
    """
    return parts.load_part(family.vae_class, folder, "vae", torch.float32).to(device)


def _on(condition: Condition, transformer: Any) -> Condition:
    return {name: tensor.to(transformer.device) for name, tensor in condition.items()}


def _devices(transformer: Any) -> list[torch.device]:
    return [transformer.device] if transformer.device.type == "cuda" else []
