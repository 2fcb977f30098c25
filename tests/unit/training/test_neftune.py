"""NEFTune: the noise is that of transformers for a row alone, goes by each row's own length, and leaves no trace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.integrations import activate_neftune

from attempts import LORA, attempt, chat, checkpoint, labelled, losses, of_kind, preferences, run, write_rows
from tunesmith.spec.events import Evaluated
from tunesmith.training.language_model import LanguageModel
from tunesmith.training.model import load_model
from tunesmith.training.text import TokenRow

pytestmark = pytest.mark.usefixtures("signals_kept")

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "train.jsonl", chat(14))


def _language_model(folder: Path, alpha: float | None, layout: Any = None) -> LanguageModel:
    language_model = LanguageModel(load_model(folder, torch.float32, CPU), CPU, torch.float32)
    language_model.settle()
    if layout in ("single", "padded"):
        language_model.core.set_attn_implementation("sdpa")
        language_model.layout = layout
    if alpha is not None:
        language_model.add_noise(alpha)
    return language_model


def _row(length: int) -> TokenRow:
    return TokenRow(0, (np.arange(length) % 60 + 3).astype(np.int32), np.arange(length) > 0)


def _embedded(language_model: LanguageModel, batch: Any) -> torch.Tensor:
    """What the first layer gets of a batch."""
    seen: list[torch.Tensor] = []
    handle = language_model.core.get_input_embeddings().register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.detach())
    )
    language_model.sums(batch)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("length", [2, 3, 40])
def test_a_row_alone_gets_the_noise_of_transformers(tiny_model: Path, length: int) -> None:
    ours = _language_model(tiny_model, 5.0, "single")
    row = _row(length)
    theirs = load_model(tiny_model, torch.float32, CPU).train()
    activate_neftune(theirs, 5.0)
    ours.core.train()
    ids = torch.tensor(row.ids[None].astype("int64"))
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = cross_entropy(theirs(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="sum")
        torch.manual_seed(seed)
        assert ours.sums(ours.batch([row])).loss.item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("layout", ["concatenated", "padded"])
def test_the_noise_goes_by_the_length_of_each_row_and_not_of_the_batch(tiny_model: Path, layout: str) -> None:
    noisy, plain = _language_model(tiny_model, 5.0, layout), _language_model(tiny_model, None, layout)
    noisy.core.train()
    lengths = (9, 100)
    batch = noisy.batch([_row(length) for length in lengths])
    noise = (_embedded(noisy, batch) - _embedded(plain, batch)).abs()
    parts = noise[0].split(lengths) if layout == "concatenated" else [noise[0, :9], noise[1]]
    for part, length in zip(parts, lengths, strict=True):
        most = 5.0 / (length * part.shape[-1]) ** 0.5
        assert 0.9 * most < part.max() <= most * 1.0001
    if layout == "padded":
        assert noise[0, 9:].max() == 0


def test_evaluation_and_the_final_check_see_no_noise(tiny_model: Path, tmp_path: Path, rows: Path) -> None:
    found = []
    for alpha in (None, 30.0):
        order = attempt(tiny_model, rows, learning_rate=1e-9, neftune_noise_alpha=alpha, validation=rows)
        code, events = run(order, tmp_path / str(alpha))
        assert code == 0
        found.append((losses(events), [event.loss for event in of_kind(events, Evaluated)]))
    (quiet, scored), (noisy, scored_too) = found
    assert scored == pytest.approx(scored_too, abs=1e-6)
    assert quiet != pytest.approx(noisy, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{}, {"adapter": None}, {"dtype": "bfloat16", "packing": True, "max_length": 96}, {"gradient_checkpointing": True}],
    ids=["lora", "full", "packed", "recomputed"],
)
def test_a_noisy_training_resumes_bit_for_bit(tiny_model: Path, tmp_path: Path, rows: Path, changes: Any) -> None:
    changes = {"neftune_noise_alpha": 5.0, "save_steps": 1} | changes
    _, whole = run(attempt(tiny_model, rows, **changes), tmp_path / "whole")
    folder = checkpoint(whole, tmp_path / "whole", 3)
    _, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **changes), tmp_path / "resumed")
    assert losses(resumed) == losses(whole)[3:]


def test_the_reference_and_the_first_rewards_of_dpo_are_without_noise(tiny_model: Path, tmp_path: Path) -> None:
    pairs = write_rows(tmp_path / "pairs.jsonl", preferences(8))
    method = {"kind": "dpo", "parameters": {"beta": 0.1}}
    changes: Any = {"method": method, "neftune_noise_alpha": 5.0, "learning_rate": 1e-9, "validation": pairs}
    code, events = run(attempt(tiny_model, pairs, adapter=LORA, **changes), tmp_path / "run")
    assert code == 0
    assert all(abs(event.extra["rewards/chosen"]) < 1e-4 for event in of_kind(events, Evaluated))


def test_scores_of_texts_are_trained_with_noise_too(tiny_model: Path, tmp_path: Path) -> None:
    texts = write_rows(tmp_path / "texts.jsonl", labelled(12))
    changes: Any = {"task": "sequence_classification", "method": {"kind": "classification", "parameters": {}}}
    found = []
    for alpha in (None, 10.0):
        _, events = run(attempt(tiny_model, texts, neftune_noise_alpha=alpha, **changes), tmp_path / str(alpha))
        found.append(losses(events))
    assert found[0] != pytest.approx(found[1], abs=1e-4)
