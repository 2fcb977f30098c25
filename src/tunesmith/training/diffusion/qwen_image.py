"""Qwen-Image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.family import Condition, Drawing, Grid

_PACKED = 2  # latents along the edge of one token


@dataclass(frozen=True)
class QwenImage:
    """Double blocks over packed latents of a video autoencoder; a language model reads the caption."""

    name: str = "Qwen-Image"
    pipeline_class: str = "QwenImagePipeline"
    transformer_class: str = "QwenImageTransformer2DModel"
    vae_class: str = "AutoencoderKLQwenImage"
    encoders: tuple[str, ...] = ("text_encoder", "tokenizer")
    optional: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ("transformer_blocks",)
    caption_tokens: int = 1024
    caption_tokenizer: str = "tokenizer"

    def grid(self, folder: Path) -> Grid:
        """Any size: positions are rotations."""
        return Grid(_PACKED * 2 ** len(parts.config_of(folder, "vae")["temperal_downsample"]))

    def text_pipeline(self, folder: Path, dtype: Any) -> Any:
        """The pipeline with its text encoder alone."""
        return parts.load_pipeline(self, folder, dtype, transformer=None, vae=None)

    def encode_caption(self, pipeline: Any, caption: str, tokens: int) -> Condition:
        """`text` [T, D]: as many tokens as the caption has."""
        text, _ = pipeline.encode_prompt(caption, device=pipeline.text_encoder.device, max_sequence_length=tokens)
        return {"text": text[0]}

    def encode_picture(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of a film of one picture."""
        found = vae.encode(pixels[None, :, None]).latent_dist
        shift, scale = (
            torch.tensor(values, device=pixels.device)[:, None, None]
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        return (found.mean[0, :, 0] - shift) / scale, found.std[0, :, 0] / scale

    def collate(self, conditions: Sequence[Condition]) -> dict[str, Tensor]:
        """Conditions as one batch, with a mask [B, T] where captions differ in length."""
        texts = [each["text"] for each in conditions]
        lengths = [len(text) for text in texts]
        longest = max(lengths)
        batch = {"text": torch.stack([pad(text, (0, 0, 0, longest - len(text))) for text in texts])}
        if min(lengths) < longest:
            batch["mask"] = (torch.arange(longest)[None] < torch.tensor(lengths)[:, None]).long()
        return batch

    def predict(self, transformer: Any, noisy: Tensor, timesteps: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The flow at noisy latents."""
        from diffusers import QwenImagePipeline

        count, channels, height, width = noisy.shape
        packed = transformer(
            hidden_states=QwenImagePipeline._pack_latents(noisy, count, channels, height, width),
            timestep=timesteps / 1000,
            encoder_hidden_states=condition["text"],
            encoder_hidden_states_mask=condition.get("mask"),
            img_shapes=[[(1, height // _PACKED, width // _PACKED)]] * count,
            return_dict=False,
        )[0]
        flow: Tensor = QwenImagePipeline._unpack_latents(packed, height, width, vae_scale_factor=1)[:, :, 0]
        return flow

    def sampling_pipeline(self, folder: Path, transformer: Any, vae: Any) -> Any:
        """The pipeline without its text encoder."""
        from diffusers import QwenImagePipeline

        return QwenImagePipeline(parts.load_scheduler(folder), vae, None, None, transformer)

    def draw(self, pipeline: Any, wanted: Condition, unwanted: Condition, drawing: Drawing) -> Any:
        """A picture of a caption, guided away from the empty one."""
        texts = {"prompt": parts.single(wanted, "text"), "negative_prompt": parts.single(unwanted, "text")}
        masks = {f"{name}_embeds_mask": torch.ones(text.shape[:2]).long() for name, text in texts.items()}
        return pipeline(
            **{f"{name}_embeds": text for name, text in texts.items()},
            **{name: mask.to(texts["prompt"].device) for name, mask in masks.items()},
            true_cfg_scale=drawing.guidance,
            **parts.common_arguments(drawing),
        ).images[0]
