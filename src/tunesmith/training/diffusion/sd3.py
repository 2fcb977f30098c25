"""Stable Diffusion 3 and 3.5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tunesmith.training.diffusion import parts
from tunesmith.training.diffusion.family import Condition, Drawing, Grid


@dataclass(frozen=True)
class StableDiffusion3:
    """Joint blocks over latents; two CLIPs and, where it is there, T5 read the caption."""

    name: str = "Stable Diffusion 3"
    pipeline_class: str = "StableDiffusion3Pipeline"
    transformer_class: str = "SD3Transformer2DModel"
    vae_class: str = "AutoencoderKL"
    encoders: tuple[str, ...] = (
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
    )
    optional: tuple[str, ...] = ("text_encoder_3", "tokenizer_3")
    blocks: tuple[str, ...] = ("transformer_blocks",)
    caption_tokens: int = 512
    caption_tokenizer: str = "tokenizer_3"

    def grid(self, folder: Path) -> Grid:
        """As far as its table of positions goes."""
        config = parts.config_of(folder, "transformer")
        patch = parts.kl_scale(folder) * int(config["patch_size"])
        return Grid(patch, patch * int(config["pos_embed_max_size"]))

    def text_pipeline(self, folder: Path, dtype: Any) -> Any:
        """The pipeline with its text encoders alone. What stands for a missing T5 is as wide as the transformer reads,
        so the transformer is there, too, without weights."""
        absent = {part: None for part in self.optional if not (folder / part).is_dir()}
        return parts.load_pipeline(self, folder, dtype, transformer=parts.hollow(self, folder), vae=None, **absent)

    def encode_caption(self, pipeline: Any, caption: str, tokens: int) -> Condition:
        """`text` [T, D] and `pooled` [P]."""
        device = pipeline.text_encoder.device
        text, _, pooled, _ = pipeline.encode_prompt(
            caption, None, None, device, do_classifier_free_guidance=False, max_sequence_length=tokens
        )
        return {"text": text[0], "pooled": pooled[0]}

    def encode_picture(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents."""
        return parts.encode_kl(vae, pixels)

    def collate(self, conditions: Sequence[Condition]) -> dict[str, Tensor]:
        """Conditions as one batch: captions are filled up to one length."""
        return parts.stacked(conditions)

    def predict(self, transformer: Any, noisy: Tensor, timesteps: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The flow at noisy latents."""
        flow: Tensor = transformer(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=condition["text"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]
        return flow

    def sampling_pipeline(self, folder: Path, transformer: Any, vae: Any) -> Any:
        """The pipeline without its text encoders."""
        from diffusers import StableDiffusion3Pipeline

        return StableDiffusion3Pipeline(transformer, parts.load_scheduler(folder), vae, *[None] * 6)

    def draw(self, pipeline: Any, wanted: Condition, unwanted: Condition, drawing: Drawing) -> Any:
        """A picture of a caption, guided away from the empty one."""
        return pipeline(
            prompt_embeds=parts.single(wanted, "text"),
            pooled_prompt_embeds=parts.single(wanted, "pooled"),
            negative_prompt_embeds=parts.single(unwanted, "text"),
            negative_pooled_prompt_embeds=parts.single(unwanted, "pooled"),
            guidance_scale=drawing.guidance,
            **parts.common_arguments(drawing),
        ).images[0]
