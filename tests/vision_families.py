"""Tiny random models of vision-language families, each written as its makers publish theirs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    MllamaConfig,
    MllamaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from tunesmith.training import tiny_vision_model
from tunesmith.training.tiny_model import SPECIALS, tiny_tokenizer

_EDGE = 32
_PATCH = 8

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
    "initializer_range": 0.2,
}
_SEES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def _tokenizer(*of_pictures: str, shown: str = "<image>") -> Any:
    """`shown` is what the template writes where a picture is."""
    template = tiny_vision_model.CHAT_TEMPLATE.replace("<image>", shown)
    return tiny_tokenizer((*SPECIALS, *of_pictures), template)


def _reads(tokenizer: Any, **others: Any) -> dict[str, Any]:
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {**_SIZES, "vocab_size": len(tokenizer), **ends, **others}


def _write(folder: Path, kind: Any, config: Any) -> None:
    torch.manual_seed(3)
    kind(config).save_pretrained(folder)


def _write_parts(folder: Path, kind: str, pictures: Any, tokenizer: Any) -> None:
    """A processor that cannot be built here, as it lies beside published models."""
    pictures.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processor_class": kind}))


def _llava(folder: Path) -> None:
    tokenizer = _tokenizer("<image>")
    pictures = CLIPImageProcessorPil(size={"shortest_edge": _EDGE}, crop_size={"height": _EDGE, "width": _EDGE})
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **_SEES, "image_size": _EDGE, "patch_size": _PATCH},
        text_config={"model_type": "llama", **_reads(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    _write(folder, LlavaForConditionalGeneration, config)


def _llava_next(folder: Path) -> None:
    tokenizer = _tokenizer("<image>")
    points = [[_EDGE, 2 * _EDGE], [2 * _EDGE, _EDGE], [2 * _EDGE, 2 * _EDGE]]
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": _EDGE}, crop_size={"height": _EDGE, "width": _EDGE}, image_grid_pinpoints=points
    )
    LlavaNextProcessor(
        pictures,
        tokenizer,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    config = LlavaNextConfig(
        vision_config={"model_type": "clip_vision_model", **_SEES, "image_size": _EDGE, "patch_size": _PATCH},
        text_config={"model_type": "llama", **_reads(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=points,
    )
    _write(folder, LlavaNextForConditionalGeneration, config)


def _gemma3(folder: Path) -> None:
    tokenizer = _tokenizer("<boi>", "<eoi>", "<soft>", shown="<boi>")
    names = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<soft>"}
    tokenizer._set_model_specific_special_tokens(names)
    pictures = Gemma3ImageProcessorPil(size={"height": _EDGE, "width": _EDGE})
    Gemma3Processor(pictures, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4).save_pretrained(
        folder
    )
    config = Gemma3Config(
        vision_config={"model_type": "siglip_vision_model", **_SEES, "image_size": _EDGE, "patch_size": _PATCH},
        text_config=_reads(tokenizer, head_dim=8, query_pre_attn_scalar=8, sliding_window=16),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<boi>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<eoi>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<soft>"),
    )
    _write(folder, Gemma3ForConditionalGeneration, config)


_OF_QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def _qwen_parts(folder: Path, kind: str, patch: int) -> tuple[Any, dict[str, int]]:
    """The tokenizer, and ids of tokens by their names in the model's configuration."""
    tokenizer = _tokenizer(*_OF_QWEN, shown="<|vision_start|><|image_pad|><|vision_end|>")
    edges = {"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}
    _write_parts(folder, kind, Qwen2VLImageProcessorPil(patch_size=patch, size=edges), tokenizer)
    names = ("vision_start", "image", "vision_end", "video")
    ids = tokenizer.convert_tokens_to_ids(list(_OF_QWEN))
    return tokenizer, {f"{name}_token_id": number for name, number in zip(names, ids, strict=True)}


def _qwen2_5_vl(folder: Path) -> None:
    tokenizer, ids = _qwen_parts(folder, "Qwen2_5_VLProcessor", _PATCH)
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": _PATCH,
            "out_hidden_size": 32, "window_size": 4 * _PATCH, "fullatt_block_indexes": [1],
        },
        text_config=_reads(tokenizer, rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]}),
        **ids,
    )  # fmt: skip
    _write(folder, Qwen2_5_VLForConditionalGeneration, config)


def _qwen3_vl(folder: Path) -> None:
    tokenizer, ids = _qwen_parts(folder, "Qwen3VLProcessor", _PATCH)
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": _PATCH,
            "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        text_config=_reads(
            tokenizer, head_dim=8, rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2]}
        ),
        **ids,
    )  # fmt: skip
    _write(folder, Qwen3VLForConditionalGeneration, config)


def _smolvlm(folder: Path) -> None:
    of_pictures = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = _tokenizer(*of_pictures)
    edge = {"longest_edge": 2 * _EDGE}
    pictures = SmolVLMImageProcessorPil(
        size=edge, max_image_size={"longest_edge": _EDGE}, do_image_splitting=True, video_sampling=None
    )
    _write_parts(folder, "SmolVLMProcessor", pictures, tokenizer)
    path = folder / "processor_config.json"
    path.write_text(json.dumps({"processor_class": "SmolVLMProcessor", "image_seq_len": 4}))
    config = SmolVLMConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
        vision_config={**_SEES, "image_size": _EDGE, "patch_size": _PATCH},
        text_config={"model_type": "llama", **_reads(tokenizer)},
    )
    _write(folder, SmolVLMForConditionalGeneration, config)


def _mllama(folder: Path) -> None:
    tokenizer = _tokenizer("<|image|>", "<|python_tag|>", shown="<|image|>")
    pictures = MllamaImageProcessorPil(size={"height": _EDGE, "width": _EDGE}, max_image_tiles=2)
    _write_parts(folder, "MllamaProcessor", pictures, tokenizer)
    config = MllamaConfig(
        vision_config={
            **_SEES, "attention_heads": 4, "num_global_layers": 1, "vision_output_dim": 64, "image_size": _EDGE,
            "patch_size": _PATCH, "max_num_tiles": 2, "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        },
        text_config=_reads(tokenizer, bos_token_id=3, num_hidden_layers=3, cross_attention_layers=[1]),
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )  # fmt: skip
    _write(folder, MllamaForConditionalGeneration, config)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "idefics3": tiny_vision_model.build,
    "smolvlm": _smolvlm,
    "llava": _llava,
    "llava_next": _llava_next,
    "gemma3": _gemma3,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
}
"""How each is written into a folder."""

write_mllama = _mllama
