"""GGUF files of every architecture that is converted, held against llama.cpp itself."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from llama_cpp_answers import greedy
from tunesmith.rundir import EventWriter, RunDirectory
from tunesmith.spec.errors import ArtifactError, UnsupportedError
from tunesmith.spec.events import Exported, Exporting
from tunesmith.spec.export import ExportOptions, ExportSpec
from tunesmith.spec.gguf import pre_tokenizer, require_convertible
from tunesmith.training import exporting
from tunesmith.training.exporting import make_export
from tunesmith.training.reporting import Reporter

pytestmark = pytest.mark.filterwarnings("ignore")

SLOWED = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
TEXT = "What is the capital of France? In 1789 there were 12 wizards."


def build(kind: str, tiny_model: Path, folder: Path) -> Path:
    """A random model of a kind, with the tokenizer of the tiny one."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 3, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "initializer_range": 0.2,
    }  # fmt: skip
    config = {
        "llama": lambda: LlamaConfig(**shape, rope_parameters=SLOWED),
        "mistral": lambda: MistralConfig(**shape, head_dim=32, sliding_window=None, tie_word_embeddings=False),
        "qwen2": lambda: Qwen2Config(**shape, tie_word_embeddings=False),
        "qwen3": lambda: Qwen3Config(**shape, head_dim=32, tie_word_embeddings=True),
    }[kind]()
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapt(base: Path, folder: Path, **variant: Any) -> Path:
    """An adapter with effect."""
    torch.manual_seed(2)
    config = LoraConfig(
        r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False, **variant
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    for file in base.glob("token*"):
        shutil.copy(file, folder)
    return folder


def order(base: Path, adapter: Path | None, quantization: str | None = "f32", **changes: Any) -> ExportSpec:
    dtype = None if quantization else "float32"
    options = ExportOptions(format="gguf" if quantization else "merged", dtype=dtype, quantization=quantization)
    return ExportSpec(
        model="ft:x", base_name="x", base_revision=None, base=base, adapter=adapter, options=options,
        trained_dtype="float32", origin=None, held_out=None, texts=(TEXT,),
    ).model_copy(update=changes)  # fmt: skip


def export(wish: ExportSpec, folder: Path) -> Exported:
    run = RunDirectory(folder)
    run.write_spec(wish)
    writer = EventWriter(run)
    make_export(run.read_spec(), run, Reporter(writer), lambda: None)
    told, _ = run.read_events(0)
    assert {each.stage for each in told if isinstance(each, Exporting)} == {"asking", "merging", "writing", "verifying"}
    assert isinstance(told[-1], Exported)
    return told[-1]


def merged_answer(base: Path, adapter: Path, folder: Path, tokens: int) -> tuple[int, str]:
    export(order(base, adapter, None), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "artifact")
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder / "artifact")
    answer = model.generate(input_ids=ids, max_new_tokens=tokens, do_sample=False)[0, ids.shape[1] :]
    return ids.shape[1], tokenizer.decode(answer, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_llama_cpp_reads_a_file_as_the_trained_model(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    base = build(kind, tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter")
    found = export(order(base, adapter), tmp_path / "gguf").verification
    assert found.kl_divergence < 1e-5
    assert (found.base_kl_divergence or 0) > 0.1
    answer = greedy(tmp_path / "gguf/artifact/model-f32.gguf", TEXT, 8)
    assert (answer.prompt_tokens, answer.text) == merged_answer(base, adapter, tmp_path / "merged", 8)


@pytest.mark.parametrize("quantization", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_every_number_format_is_read_by_llama_cpp_and_smaller(
    quantization: str, tiny_model: Path, tmp_path: Path
) -> None:
    base = build("llama", tiny_model, tmp_path / "base")
    found = export(order(base, None, quantization), tmp_path / "run")
    file = tmp_path / f"run/artifact/model-{quantization}.gguf"
    assert greedy(file, TEXT, 4).prompt_tokens > 10
    whole = (base / "model.safetensors").stat().st_size
    assert file.stat().st_size < whole
    assert found.verification.base_kl_divergence is None


@pytest.mark.parametrize("variant", [{"use_rslora": True}, {"use_dora": True}], ids=str)
def test_variants_of_lora_are_merged_by_peft(variant: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    base = build("llama", tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter", **variant)
    found = export(order(base, adapter, None), tmp_path / "run").verification
    assert found.kl_divergence < 1e-4


@pytest.mark.parametrize("variant", [{"use_rslora": True}, {"use_dora": True}], ids=str)
def test_llama_cpp_reads_variants_of_lora_as_merged(variant: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    base = build("mistral", tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter", **variant)
    export(order(base, adapter), tmp_path / "gguf")
    answer = greedy(tmp_path / "gguf/artifact/model-f32.gguf", TEXT, 8)
    assert (answer.prompt_tokens, answer.text) == merged_answer(base, adapter, tmp_path / "merged", 8)


def test_an_export_that_lost_its_adapter_fails_with_its_figures_and_leaves_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build("llama", tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter")
    merge = exporting.load_merged
    monkeypatch.setattr(exporting, "load_merged", lambda wish: merge(wish.model_copy(update={"adapter": None})))
    with pytest.raises(ArtifactError, match=r"nats away, and 0\.001 are allowed"):
        export(order(base, adapter), tmp_path / "run")
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["events.jsonl", "spec.json"]


def test_matrices_whose_rows_fill_no_block_stay_in_16_bits(tiny_model: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    base = tmp_path / "base"
    build("llama", tiny_model, base)
    config = LlamaConfig.from_pretrained(base, intermediate_size=80)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    export(order(base, None, "q8_0"), tmp_path / "run")
    kinds = {each.name: each.tensor_type.name for each in GGUFReader(tmp_path / "run/artifact/model-q8_0.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "gpt2"}, "its architecture is 'gpt2'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scales positions by 'yarn'"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding window"),
    ],
)
def test_a_model_that_no_file_can_hold_is_refused_with_the_reason(
    changes: dict[str, Any], reason: str, tiny_model: Path, tmp_path: Path
) -> None:
    described = json.loads((tiny_model / "config.json").read_bytes()) | changes
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedError, match=reason) as error:
        require_convertible(tmp_path, tiny_model)
    assert error.value.param == "format"


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def written(tmp_path: Path, *steps: dict[str, Any], **model: Any) -> Path:
    described = {"model": {"type": "BPE", **model}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(steps)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    return tmp_path


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def test_how_a_tokenizer_cuts_words_is_told_by_llama_cpps_name(tiny_model: Path, tmp_path: Path) -> None:
    assert pre_tokenizer(tiny_model) == "gpt-2"
    assert pre_tokenizer(written(tmp_path, split(LLAMA3), BYTES, ignore_merges=True)) == "llama-bpe"
    assert pre_tokenizer(written(tmp_path, split(LLAMA3), BYTES)) == "smaug-bpe"
    assert pre_tokenizer(written(tmp_path, split(LLAMA3.replace("{1,3}", "")), BYTES)) == "qwen2"
    assert pre_tokenizer(written(tmp_path, DIGITS, BYTES | {"use_regex": True})) == "smollm"


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"has no tokenizer\.json"):
        pre_tokenizer(tmp_path)
    for folder in (written(tmp_path, split(r"\w+"), BYTES), written(tmp_path, DIGITS, BYTES)):
        with pytest.raises(UnsupportedError, match="no known name"):
            pre_tokenizer(folder)
    with pytest.raises(UnsupportedError, match="of the kind SentencePiece"):
        pre_tokenizer(written(tmp_path, byte_fallback=True))
    with pytest.raises(UnsupportedError, match="of the kind Unigram"):
        pre_tokenizer(written(tmp_path, type="Unigram"))
