"""Rows of one forward pass never see each other, in any architecture, and the fast paths give the model's own loss."""

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from tunesmith.training import attention
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.text import TokenRow

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
GEMMA = SHAPE | {"head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
MODELS = {
    "LlamaConfig": (SHAPE, "concatenated"),
    "MistralConfig": (SHAPE | {"sliding_window": 5}, "concatenated"),
    "Qwen3Config": (SHAPE | {"head_dim": 8}, "concatenated"),
    "GPT2Config": (GPT2, "concatenated"),
    "Gemma2Config": (GEMMA, "padded"),
    "Gemma3TextConfig": (GEMMA | {"layer_types": ["sliding_attention", "full_attention"]}, "concatenated"),
    "CohereConfig": (SHAPE, "concatenated"),
    "GraniteConfig": (SHAPE | {"logits_scaling": 3.0, "embedding_multiplier": 2.0}, "concatenated"),
    "MixtralConfig": (SHAPE | {"num_local_experts": 4}, "concatenated"),
    "BloomConfig": ({"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 4}, "padded"),
    "MambaConfig": (SMALL | {"state_size": 4}, "padded"),
    "Lfm2Config": (SHAPE | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}, "padded"),
}
LENGTHS = (9, 14, 4)

pytestmark = pytest.mark.filterwarnings("ignore")


def _model(name, dtype=torch.float32):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(getattr(transformers, name)(**MODELS[name][0]), dtype=dtype)
    language_model = LanguageModel(model, torch.device("cpu"), dtype)
    language_model.settle()
    return language_model


def _rows(first=5):
    starts = (first, 7, 11)
    return [
        TokenRow(1, (np.arange(length) * step % 300).astype(np.int32), np.arange(length) > 2)
        for length, step in zip(LENGTHS, starts, strict=True)
    ]


def _reference_loss(model, rows):
    """The model's own loss, one row at a time."""
    model.set_attn_implementation("eager")
    total = 0.0
    for row in rows:
        ids = torch.tensor(row.ids[None], dtype=torch.int64)
        labels = torch.where(torch.tensor(row.trained[None]), ids, -100)
        total += model(input_ids=ids, labels=labels).loss.item() * row.trained_count
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_a_batch_is_that_of_its_rows_alone(name, dtype):
    language_model = _model(name, dtype)
    assert language_model.layout == MODELS[name][1]
    batched = language_model.sums(language_model.batch(_rows())).loss.item()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert batched == pytest.approx(_reference_loss(language_model.core, _rows()), rel=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_changing_one_row_leaves_the_others_logits_bit_identical(name):
    language_model = _model(name)
    kept, changed = (language_model.logits(language_model.batch(_rows(first))) for first in (5, 6))
    width = max(LENGTHS) if language_model.layout == "padded" else LENGTHS[0]
    assert torch.equal(kept[width:], changed[width:])
    assert not torch.equal(kept[: LENGTHS[0]], changed[: LENGTHS[0]])


def test_a_slower_layout_says_why():
    assert "softcap" in _model("Gemma2Config").slow_reason
    assert _model("LlamaConfig").slow_reason is None


def test_tokens_outside_the_mask_carry_no_gradient():
    language_model = _model("LlamaConfig")
    rows = _rows()
    batch = language_model.batch(rows)
    logits = language_model.logits(batch)
    logits.retain_grad()
    from tunesmith.training.losses import loss_from_logits

    loss_from_logits(logits[batch.predictors], batch.targets).loss.backward()
    touched = logits.grad.abs().sum(-1) > 0
    trained = torch.tensor(np.concatenate([np.append(row.trained[1:], False) for row in rows]))
    assert torch.equal(touched, trained)


def test_hits_are_counted_over_trained_tokens_only():
    language_model = _model("LlamaConfig")
    (row, *_) = _rows()
    batch = language_model.batch([row])
    best = language_model.logits(batch).argmax(-1)[batch.predictors]
    assert language_model.sums(batch).correct.item() == (best == batch.targets).sum().item()


def test_dropout_of_attention_weights_is_honoured():
    language_model = _model("LlamaConfig")
    language_model.core.train()
    for layer in language_model.core.model.layers:
        layer.self_attn.attention_dropout = 0.5
    batch = language_model.batch(_rows())
    assert not torch.equal(language_model.logits(batch), language_model.logits(batch))


def test_layers_that_want_more_than_lengths_are_refused():
    query = torch.zeros(1, 2, 4, 8)
    with attention.attending_within([4], torch.device("cpu")):
        for wish in ({"softcap": 3.0}, {"s_aux": query}, {"is_causal": False}, {"attention_mask": query}):
            with pytest.raises(attention.UnsupportedAttentionError):
                attention.attend(torch.nn.Module(), query, query, query, **({"attention_mask": None} | wish))
    with pytest.raises(attention.UnsupportedAttentionError):
        attention.attend(torch.nn.Module(), query, query, query, None)
