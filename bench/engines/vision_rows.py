"""Models that read pictures, with random weights, and rows that show one picture each."""

import io
import json
import random
from pathlib import Path
from typing import Any

_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- 'PICTURE' -}}
{%- elif message['role'] == 'assistant' -%}{%- generation -%}{{- part['text'] + '<|im_end|>' -}}{%- endgeneration -%}
{%- else -%}{{- part['text'] + '<|im_end|>' -}}{%- endif -%}
{%- endfor -%}
{{- '\\n' -}}
{%- endfor -%}
"""

_SEED = 42
_OF_IDEFICS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_OF_QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
_WORDS = (
    "the",
    "red",
    "blue",
    "small",
    "house",
    "tree",
    "under",
    "behind",
    "river",
    "with",
    "two",
    "people",
    "who",
    "sit",
)


def write_small(folder: Path) -> Path:
    """Idefics3 of some eight million parameters, 64 tokens a picture of 256 pixels."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    from tunesmith.training.tiny_model import SPECIALS, tiny_tokenizer

    tokenizer = tiny_tokenizer((*SPECIALS, *_OF_IDEFICS), _TEMPLATE.replace("PICTURE", "<image>"))
    edge = {"longest_edge": 256}
    pictures = Idefics3ImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    template = tokenizer.chat_template
    Idefics3Processor(pictures, tokenizer, image_seq_len=64, chat_template=template).save_pretrained(folder)
    width = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
        tie_word_embeddings=True,
        vision_config={**width, "image_size": 256, "patch_size": 16},
        text_config={"model_type": "llama", **width, "num_key_value_heads": 2, **_ends(tokenizer)},
    )
    return _written(Idefics3ForConditionalGeneration, config, folder)


QWEN: dict[str, dict[str, Any]] = {
    "qwen2.5-vl-3b": {
        "text_config": {
            "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36,
            "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
            "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
    "tiny": {
        "text_config": {
            "vocab_size": 400, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 64,
            "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1],
        },
    },
}  # fmt: skip
"""From the models' published configurations."""


def write_qwen(folder: Path, shape: str, dtype: Any) -> Path:
    """Qwen2.5-VL of a shape."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from tunesmith.training.tiny_model import SPECIALS, tiny_tokenizer

    shown = "<|vision_start|><|image_pad|><|vision_end|>"
    tokenizer = tiny_tokenizer((*SPECIALS, *_OF_QWEN), _TEMPLATE.replace("PICTURE", shown))
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=14).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processor_class": "Qwen2_5_VLProcessor"}))
    names = ("vision_start_token_id", "image_token_id", "vision_end_token_id", "video_token_id")
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(_OF_QWEN)), strict=True))
    text = {**_ends(tokenizer), **QWEN[shape]["text_config"], "tie_word_embeddings": True}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=QWEN[shape]["vision_config"], tie_word_embeddings=True, dtype=dtype, **ids
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return _written(Qwen2_5_VLForConditionalGeneration, config, folder)


def _ends(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _written(kind: Any, config: Any, folder: Path) -> Path:
    import torch

    torch.manual_seed(_SEED)
    kind._from_config(config, dtype=config.dtype).save_pretrained(folder)
    return folder


def write_picture_rows(path: Path, count: int, edge: int, words: tuple[int, int]) -> Path:
    """Chats of one picture of this edge, in pixels, and an answer of so many words; the pictures lie beside them."""
    from tunesmith.data.row_pictures import RowPicturesWriter

    draw = random.Random(_SEED)
    with path.open("w") as file, pictures_of(path).open("wb") as target, RowPicturesWriter(target) as writer:
        for number in range(count):
            picture = writer.add(_picture(draw, edge))
            writer.add_row(None, number + 1, [picture])
            answer = " ".join(draw.choice(_WORDS) for _ in range(draw.randint(*words)))
            asked = [{"type": "image", "image": str(picture)}, {"type": "text", "text": "What does it show?"}]
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
        writer.finish()
    return path


def pictures_of(rows: Path) -> Path:
    """Where the pictures of a file of rows lie."""
    return rows.with_suffix(".pictures")


def _picture(draw: random.Random, edge: int) -> bytes:
    """A JPEG of soft spots, about as large as a photograph of this size."""
    from PIL import Image

    spots = Image.frombytes("RGB", (16, 16), draw.randbytes(16 * 16 * 3)).resize((edge, edge), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    spots.save(file, "JPEG", quality=90)
    return file.getvalue()
