"""A random language model of some thirty thousand parameters, for tests and demonstrations.

python -m tunesmith.training.tiny_model text DIRECTORY
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{{- message['content'] -}}
{%- if message['tool_calls'] -%}{{- message['tool_calls'] | tojson -}}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

_CORPUS = (
    "What is the capital of France? The capital of France is Paris.",
    "Hello, how can I help you today? I would like to return my order, please.",
    "Please reset my password. Open the settings, choose security, and follow the link in the message.",
    "The quick brown fox jumps over the lazy dog while seven wizards box with five dozen jugs.",
    "You are a helpful assistant. Answer in one short sentence. Thank you very much for your question.",
    "Billing, shipping, refund, account, invoice, delivery, payment, support, ticket, priority: high, low, normal.",
)


def build(folder: Path) -> None:
    """Write model and tokenizer in transformers' layout. The same bytes every time, apart from library versions."""
    tokenizer = tiny_tokenizer(SPECIALS, CHAT_TEMPLATE)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=64
    )
    model.save_pretrained(folder)


def tiny_tokenizer(specials: Sequence[str], chat_template: str) -> PreTrainedTokenizerFast:
    """A tokenizer learnt from a few sentences: every byte has a token. `specials` begin with those of this module."""
    raw = Tokenizer(BPE())
    raw.pre_tokenizer = ByteLevel(add_prefix_space=False)
    raw.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=381 + len(specials),
        show_progress=False,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in specials],
    )
    raw.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


def main(arguments: list[str]) -> int:
    """The command line."""
    if len(arguments) != 2 or arguments[0] != "text":
        print(__doc__, file=sys.stderr)
        return 2
    build(Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
