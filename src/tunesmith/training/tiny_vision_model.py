"""A random vision-language model of some eighty thousand parameters (Idefics3), for tests and demonstrations.

python -m tunesmith.training.tiny_vision_model DIRECTORY
"""

import sys
from pathlib import Path

import torch
from transformers import GenerationConfig, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from tunesmith.training.tiny_model import SPECIALS, tiny_tokenizer

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_OF_PICTURES = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")

EDGE = 64
"""Pixels: pictures are scaled to squares of this edge."""

_PATCH = 8
_MERGED = 2
"""Patches along each edge that become one token: a picture has (64 / 8 / 2)² = 16."""


def build(folder: Path) -> None:
    """Write model and processor in transformers' layout. The same bytes every time, apart from library versions."""
    tokenizer = tiny_tokenizer((*SPECIALS, *_OF_PICTURES), CHAT_TEMPLATE)
    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": EDGE}, max_image_size={"longest_edge": EDGE}, do_image_splitting=False
    )
    tokens = (EDGE // _PATCH // _MERGED) ** 2
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=tokens, chat_template=CHAT_TEMPLATE)
    processor.save_pretrained(folder)
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=_MERGED,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": EDGE,
            "patch_size": _PATCH,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        model = Idefics3ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=64
    )
    model.save_pretrained(folder)


def main(arguments: list[str]) -> int:
    """The command line."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    build(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
