"""A model and its tokenizer as one GGUF file.

The format, the names of tensors and the quantized number formats are those of the `gguf` package, which llama.cpp
publishes. What is written here is which values of transformers' configuration and tokenizer go where.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray

from tunesmith.spec.errors import ArtifactError
from tunesmith.spec.export import Quantization
from tunesmith.spec.gguf import ARCHITECTURES, pre_tokenizer

_Type = gguf.GGMLQuantizationType

_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q5_1": gguf.LlamaFileType.MOSTLY_Q5_1,
    "q5_0": gguf.LlamaFileType.MOSTLY_Q5_0,
    "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}

# Errors of these two matrices reach every token, so they are kept in at least 8 bits.
_ENDS = ("token_embd.weight", "output.weight")
_FEW_BITS = (_Type.Q5_1, _Type.Q5_0, _Type.Q4_1, _Type.Q4_0)


def write_gguf(
    model: Any,
    tokenizer: Any,
    tokenizer_folder: Path,
    quantization: Quantization,
    name: str,
    path: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Write a merged model in float32. Vectors stay in float32, and matrices whose rows do not fill whole blocks of the
    quantized format are written in float16. `progress` is told the tensors written, and all of them.

    Raises:
        UnsupportedError: the tokenizer cuts text in a way that llama.cpp has no known name for.
        ArtifactError: a weight has no place in the format.
    """
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, architecture)
    try:
        writer.add_name(name)
        writer.add_file_type(_FILE_TYPES[quantization])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(writer, config, architecture)
        _add_tokenizer(writer, tokenizer, tokenizer_folder, config.vocab_size)
        tensors = [(place, weight, _type_of(place, weight, quantization)) for place, weight in _placed(model)]
        for place, weight, kind in tensors:
            shape = gguf.quant_shape_to_byte_shape(weight.shape, kind)
            writer.add_tensor_info(place, shape, np.dtype(np.uint8), int(np.prod(shape)), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, (_, weight, kind) in enumerate(tensors, start=1):
            writer.write_tensor_data(_encoded(weight, kind))
            progress(done, len(tensors))
    finally:
        writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: Any, architecture: str) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    positions = config.rope_parameters
    writer.add_rope_freq_base(positions["rope_theta"])
    if architecture == "llama":
        writer.add_rope_dimension_count(head)
    if positions["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(positions["factor"])


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, folder: Path, vocabulary: int) -> None:
    by_id = {number: text for text, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(vocabulary):
        if number not in by_id:
            tokens.append(f"[PAD{number}]")
            kinds.append(gguf.TokenType.UNUSED)
        elif number in added:
            tokens.append(added[number].content)
            kinds.append(gguf.TokenType.CONTROL if added[number].special else gguf.TokenType.USER_DEFINED)
        else:
            tokens.append(by_id[number])
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer(folder))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=vocabulary)
    special.special_token_ids = {
        kind: known for kind in ("bos", "eos", "unk", "pad") if (known := _id_of(tokenizer, kind)) is not None
    }
    special.add_special_token = {"bos": _puts_bos(tokenizer)}
    special.chat_template = tokenizer.chat_template
    special.add_to_gguf(writer, quiet=True)


def _id_of(tokenizer: Any, kind: str) -> int | None:
    number: int | None = getattr(tokenizer, f"{kind}_token_id")
    return number


def _puts_bos(tokenizer: Any) -> bool:
    """Whether plain text is given the token that begins a text."""
    ids = tokenizer("a").input_ids
    return tokenizer.bos_token_id is not None and bool(ids) and ids[0] == tokenizer.bos_token_id


def _placed(model: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every weight under its name in the format, [out, in] as in torch."""
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # the reader takes the embedding
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise ArtifactError(
                f"The weight {name!r} has no place in a GGUF file of the architecture {architecture!r}."
            )
        weight = tensor.float().numpy()
        if architecture == "llama" and ".q_proj." in name:
            weight = _interleaved(weight, config.num_attention_heads)
        elif architecture == "llama" and ".k_proj." in name:
            weight = _interleaved(weight, config.num_key_value_heads)
        yield place, weight
    if config.rope_parameters["rope_type"] == "llama3":
        yield "rope_freqs.weight", _slowed(model)


def _interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """llama.cpp turns neighbouring pairs of a head's numbers, transformers the first half with the second."""
    rest = weight.shape[1:]
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *rest).swapaxes(1, 2).reshape(weight.shape)


def _slowed(model: Any) -> NDArray[np.float32]:
    """By what each frequency of the positions is divided."""
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = config.rope_parameters["rope_theta"] ** -(torch.arange(0, head, 2, dtype=torch.float64) / head)
    factors: NDArray[np.float32] = (plain / model.model.rotary_emb.inv_freq.double()).float().numpy()
    return factors


def _type_of(place: str, weight: NDArray[np.float32], quantization: Quantization) -> gguf.GGMLQuantizationType:
    if weight.ndim == 1 or quantization == "f32":
        return _Type.F32
    kind = _Type[quantization.upper()]
    if place in _ENDS and kind in _FEW_BITS:
        kind = _Type.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if weight.shape[-1] % block == 0 else _Type.F16


def _encoded(weight: NDArray[np.float32], kind: gguf.GGMLQuantizationType) -> NDArray[np.uint8]:
    return np.ascontiguousarray(gguf.quants.quantize(np.ascontiguousarray(weight), kind)).view(np.uint8)
