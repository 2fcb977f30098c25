"""FLUX.1: dev, which is distilled for guidance, schnell, and models made from them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.family import Condition, Drawing, Grid

_PACKED = 2  # latents along the edge of one token

_TRAINING_GUIDANCE = 1.0
"""What a model that is distilled for guidance is told while it is trained: no guidance."""


@dataclass(frozen=True)
class Flux:
    """Double and single blocks over packed latents; T5 reads the caption, CLIP sums it up."""

    bypass_guidance: bool = False
    """Whether the guidance embedding is left out of training, as for models that were freed of their distillation."""

    name: str = "FLUX.1"
    pipeline_class: str = "FluxPipeline"
    transformer_class: str = "FluxTransformer2DModel"
    vae_class: str = "AutoencoderKL"
    encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    optional: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ("transformer_blocks", "single_transformer_blocks")
    caption_tokens: int = 512
    caption_tokenizer: str = "tokenizer_2"

    def grid(self, folder: Path) -> Grid:
        """Any size: positions are rotations."""
        return Grid(_PACKED * parts.kl_scale(folder))

    def text_pipeline(self, folder: Path, dtype: Any) -> Any:
        """The pipeline with its text encoders alone."""
        return parts.load_pipeline(self, folder, dtype, transformer=None, vae=None)

    def encode_caption(self, pipeline: Any, caption: str, tokens: int) -> Condition:
        """`text` [T, D] and `pooled` [P]."""
        device = pipeline.text_encoder.device
        text, pooled, _ = pipeline.encode_prompt(caption, None, device, max_sequence_length=tokens)
        return {"text": text[0], "pooled": pooled[0]}

    def encode_picture(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents."""
        return parts.encode_kl(vae, pixels)

    def collate(self, conditions: Sequence[Condition]) -> dict[str, Tensor]:
        """Conditions as one batch: captions are filled up to one length."""
        return parts.stacked(conditions)

    def predict(self, transformer: Any, noisy: Tensor, timesteps: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The flow at noisy latents."""
        from diffusers import FluxPipeline

        count, channels, height, width = noisy.shape
        text = condition["text"]
        with _without_guidance(transformer, self.bypass_guidance):
            packed = transformer(
                hidden_states=FluxPipeline._pack_latents(noisy, count, channels, height, width),
                timestep=timesteps / 1000,
                guidance=_guidance(transformer, noisy),
                pooled_projections=condition["pooled"],
                encoder_hidden_states=text,
                txt_ids=torch.zeros(text.shape[1], 3, device=noisy.device),
                img_ids=FluxPipeline._prepare_latent_image_ids(
                    count, height // _PACKED, width // _PACKED, noisy.device, torch.float32
                ),
                return_dict=False,
            )[0]
        flow: Tensor = FluxPipeline._unpack_latents(packed, height, width, vae_scale_factor=1)
        return flow

    def sampling_pipeline(self, folder: Path, transformer: Any, vae: Any) -> Any:
        """The pipeline without its text encoders."""
        from diffusers import FluxPipeline

        return FluxPipeline(parts.load_scheduler(folder), vae, None, None, None, None, transformer)

    def draw(self, pipeline: Any, wanted: Condition, unwanted: Condition, drawing: Drawing) -> Any:  # noqa: ARG002
        """A picture of a caption. Guidance is an input of models distilled for it, and has no effect on others."""
        return pipeline(
            prompt_embeds=parts.single(wanted, "text"),
            pooled_prompt_embeds=parts.single(wanted, "pooled"),
            guidance_scale=drawing.guidance,
            **parts.common_arguments(drawing),
        ).images[0]


def _guidance(transformer: Any, noisy: Tensor) -> Tensor | None:
    if not transformer.config.guidance_embeds:
        return None
    return torch.full((len(noisy),), _TRAINING_GUIDANCE, device=noisy.device)


@contextmanager
def _without_guidance(transformer: Any, bypass: bool) -> Iterator[None]:
    """While open, the embedding of guidance adds nothing."""
    if not bypass:
        yield
        return
    embedder = transformer.time_text_embed.guidance_embedder
    hook = embedder.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
    try:
        yield
    finally:
        hook.remove()
