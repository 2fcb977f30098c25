"""A random FLUX.1 pipeline of some two hundred thousand parameters, for tests and demonstrations.

python -m tunesmith.training.diffusion.tiny_model DIRECTORY
"""

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.utils import logging as diffusers_logging
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel
from transformers.utils import logging as transformers_logging

_WIDTH = 32
_VOCABULARY = 384
_CORPUS = (
    "a photo of a red bicycle leaning on a white wall",
    "a small painting of a cat asleep on a blue chair",
    "portrait of an old man with a hat, studio light",
    "a bowl of green apples on a wooden table, from above",
)


def build(folder: Path, *, guidance: bool = True) -> None:
    """Write a pipeline in diffusers' layout. One latent is 8x8 pixels, one token 16x16, as in FLUX.1; with `guidance`
    the transformer has a guidance embedding, as dev, without it none, as schnell."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        parts = {
            "vae": tiny_vae(),
            "text_encoder": clip(CLIPTextModel),
            "text_encoder_2": t5(),
            "transformer": _transformer(guidance),
        }
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance),
        tokenizer=tokenizer(77),
        tokenizer_2=tokenizer(512),
        **parts,
    )
    pipeline.save_pretrained(folder)


def tiny_vae(latent_channels: int = 4) -> AutoencoderKL:
    """An autoencoder of 8x8 pixels a latent."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        norm_num_groups=4,
        layers_per_block=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1,
        scaling_factor=0.4,
    )


def clip(kind: Any, width: int = _WIDTH) -> Any:
    """A text encoder of a class of transformers' CLIP."""
    config = CLIPTextConfig(
        vocab_size=_VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return kind(config)


def t5(width: int = _WIDTH) -> T5EncoderModel:
    """A text encoder."""
    config = T5Config(
        vocab_size=_VOCABULARY, d_model=width, d_kv=16, d_ff=2 * width, num_layers=1, num_heads=2, pad_token_id=0
    )
    return T5EncoderModel(config)


def tokenizer(longest: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose last token ends the text, as CLIP's and T5's do."""
    specials = ["<pad>", "<start>", "<end>"]
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    raw.train_from_iterator(
        _CORPUS,
        BpeTrainer(
            vocab_size=_VOCABULARY,
            show_progress=False,
            initial_alphabet=sorted(ByteLevel.alphabet()),
            special_tokens=specials,
        ),
    )
    raw.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<start>", eos_token="<end>", model_max_length=longest
    )


def _transformer(guidance: bool) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=_WIDTH,
        pooled_projection_dim=_WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance,
    )


def main(arguments: list[str]) -> int:
    """The command line."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    build(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
