"""How much noise is put on a picture at which step of its training: flow matching."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3
from torch import Tensor

Sampling = Literal["sigmoid", "uniform"]
Weighting = Literal["none", "sigma_sqrt", "cosmap"]

_DENSITIES = {"sigmoid": "logit_normal", "uniform": "none"}  # diffusers' names


@dataclass(frozen=True)
class NoisePlan:
    """Draws times and weighs losses."""

    scheduler: Any
    """diffusers' `FlowMatchEulerDiscreteScheduler`, with the model's own shift."""

    sampling: Sampling
    weighting: Weighting
    shift_by_size: bool

    def draw(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Time (up to 1000) and sigma, both scalars, for a picture of so many tokens; from the global generator."""
        share = compute_density_for_timestep_sampling(_DENSITIES[self.sampling], 1, logit_mean=0.0, logit_std=1.0)
        return self.at(float(share), tokens)

    def at(self, share: float, tokens: int) -> tuple[Tensor, Tensor]:
        """Time and sigma at a share of the schedule, from 0 (all noise) to below 1."""
        index = min(int(share * len(self.scheduler.timesteps)), len(self.scheduler.timesteps) - 1)
        sigma = self.scheduler.sigmas[index].float()
        if not self.shift_by_size:
            return self.scheduler.timesteps[index].float(), sigma
        shifted = self.scheduler.time_shift(_shift(self.scheduler.config, tokens), 1.0, sigma)
        return shifted * self.scheduler.config.num_train_timesteps, shifted

    def weights(self, sigmas: Tensor) -> Tensor:
        """What each picture's loss is multiplied by."""
        weights: Tensor = compute_loss_weighting_for_sd3(self.weighting, sigmas)
        return weights


def _shift(config: Mapping[str, Any], tokens: int) -> float:
    """As the pipelines shift their schedule for a picture of so many tokens."""
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    mu: float = calculate_shift(tokens, *(config[name] for name in names))
    return mu


def noisy(latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """Latents [B, C, H, W] on their way to noise."""
    share = sigmas[:, None, None, None]
    return (1 - share) * latents + share * noise


def flow_errors(flow: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error [B] of each picture's predicted flow."""
    return (flow.float() - (noise - latents)).square().flatten(1).mean(1)


def validation_shares(count: int) -> list[float]:
    """Shares of the schedule in the middles of so many equal parts."""
    return [(part + 0.5) / count for part in range(count)]


def fixed_noise(shape: torch.Size, seed: int) -> Tensor:
    """The same noise each time, apart from the training's own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
