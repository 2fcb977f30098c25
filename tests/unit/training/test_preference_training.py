"""Trainings on preferences, judgements and classes: what they are measured against, and that nothing else matters."""

import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from attempts import LORA, attempt, chat, checkpoint, judged, labelled, losses, of_kind, preferences, run, write_rows
from tunesmith.spec.events import Checked, CheckpointSaved, Evaluated, Metrics, Prepared, Succeeded
from tunesmith.training.model import load_model, load_tokenizer

pytestmark = pytest.mark.usefixtures("signals_kept")

ROWS: dict[str, Any] = {
    "classification": labelled,
    "dpo": preferences,
    "kto": judged,
    "orpo": preferences,
    "reward": preferences,
}
PLAIN_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

DROPOUT = LORA | {"dropout": 0.3}


def _order(kind: str, model: Path, rows: Path, parameters: Any = None, **changes: Any) -> Any:
    task = "sequence_classification" if kind in ("classification", "reward") else "causal_lm"
    return attempt(model, rows, method={"kind": kind, "parameters": parameters or {}}, task=task, **changes)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "pairs.jsonl", preferences(14))


# --- resuming --------------------------------------------------------------------------------------------------------


def _bytes(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.suffix == ".safetensors" or path.name == "state.json"]
    assert len(files) >= 3
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("step", [1, 3, 4, 6])
@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
@pytest.mark.parametrize("kind", ROWS)
def test_resuming_is_bit_identical_for_every_method(
    kind: str, adapter: Any, step: int, tiny_model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "train.jsonl", ROWS[kind](14))
    changes = {"adapter": adapter, "save_steps": 1, "micro_batch_size": 2, "log_steps": 2, "validation": rows}
    _, whole = run(_order(kind, tiny_model, rows, **changes), tmp_path / "whole")
    source = tmp_path / "copy"
    shutil.copytree(checkpoint(whole, tmp_path / "whole", step), source)
    code, resumed = run(_order(kind, tiny_model, rows, **changes, resume_from=[source]), tmp_path / "resumed")
    assert code == 0
    last = of_kind(whole, Succeeded)[0].step
    end = _bytes(checkpoint(whole, tmp_path / "whole", last))
    assert _bytes(checkpoint(resumed, tmp_path / "resumed", last)) == end
    assert _reported(resumed) == [each for each in _reported(whole) if each[0] > step]


def _reported(events: Any) -> list[Any]:
    return [(event.step, event.loss, event.extra) for event in of_kind(events, Metrics)]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_preferences_interrupted_within_a_step_end_as_if_undisturbed(
    how: str, tiny_model: Path, tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training.dpo_task import DpoTask

    calls = []

    def interrupted(self: Any, batch: Any, real: Any = DpoTask.forward) -> Any:
        calls.append(batch)
        if len(calls) == 6:  # the second of two passes of the third step
            if how == "crash":
                raise MemoryError
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, batch)

    changes = {"adapter": DROPOUT, "save_steps": 1, "micro_batch_size": 2}
    _, whole = run(_order("dpo", tiny_model, pairs, **changes), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(DpoTask, "forward", interrupted)
        _, first = run(_order("dpo", tiny_model, pairs, **changes), tmp_path / "first")
    newest = of_kind(first, CheckpointSaved)[-1]
    assert newest.step == {"stop": 3, "crash": 2}[how]
    resume_from = [tmp_path / "first" / newest.path]
    _, second = run(_order("dpo", tiny_model, pairs, **changes, resume_from=resume_from), tmp_path / "second")
    assert losses(first)[: newest.step] + losses(second) == losses(whole)
    last = of_kind(whole, Succeeded)[0].step
    end = _bytes(checkpoint(whole, tmp_path / "whole", last))
    assert _bytes(checkpoint(second, tmp_path / "second", last)) == end


# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ROWS)
def test_a_batch_in_parts_is_the_same_batch(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", ROWS[kind](14))
    found = []
    for size in (6, 1, 4):
        order = _order(kind, tiny_model, rows, batch_size=6, micro_batch_size=size, warmup_ratio=0.0)
        code, events = run(order, tmp_path / f"run-{size}")
        assert code == 0
        found.append(events)
    for parts in found[1:]:
        assert losses(parts) == pytest.approx(losses(found[0]), abs=1e-4)
        for one, two in zip(of_kind(parts, Metrics), of_kind(found[0], Metrics), strict=True):
            assert one.extra == pytest.approx(two.extra, abs=2e-3)


# --- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_training_begins_at_its_reference(kind: str, adapter: Any, tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", ROWS[kind](14))
    changes = {"adapter": None if adapter is None else LORA, "max_steps": 1, "warmup_ratio": 0.0}
    _, events = run(_order(kind, tiny_model, rows, **changes), tmp_path / "run")
    first = of_kind(events, Metrics)[0]
    assert first.loss == pytest.approx({"dpo": math.log(2), "kto": 0.5}[kind], abs=1e-4)
    assert first.extra["rewards/chosen"] == pytest.approx(0, abs=1e-4)


def test_an_adapter_that_is_continued_is_its_own_reference(tiny_model: Path, tmp_path: Path, pairs: Path) -> None:
    code, _ = run(_order("dpo", tiny_model, pairs, max_steps=4, warmup_ratio=0.0), tmp_path / "first")
    assert code == 0
    order = _order("dpo", tiny_model, pairs, continue_from=tmp_path / "first/artifact", max_steps=3, warmup_ratio=0.0)
    code, events = run(order, tmp_path / "second")
    assert code == 0
    metrics = of_kind(events, Metrics)
    assert metrics[0].loss == pytest.approx(math.log(2), abs=1e-4)
    assert metrics[-1].extra["rewards/margins"] > 0.1


def test_only_the_pairs_that_a_short_training_reads_are_given_a_reference(
    tiny_model: Path, tmp_path: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training import reference

    seen = []

    def counted(opened: Any, rows: Any, poll: Any, real: Any = reference.reference_log_probs) -> Any:
        seen.append(len(rows))
        return real(opened, rows, poll)

    monkeypatch.setattr(reference, "reference_log_probs", counted)
    code, _ = run(_order("dpo", tiny_model, pairs, max_steps=2, batch_size=3), tmp_path / "run")
    assert code == 0
    assert seen == [12, 0]


def test_a_quantized_base_can_be_tuned_to_preferences(tiny_model: Path, tmp_path: Path) -> None:
    for kind, rows_of in ROWS.items():
        rows = write_rows(tmp_path / f"{kind}.jsonl", rows_of(8))
        order = _order(kind, tiny_model, rows, quantization={"bits": 4}, warmup_ratio=0.0, max_steps=2)
        code, events = run(order, tmp_path / kind)
        assert code == 0, (kind, events[-1])
        assert of_kind(events, Succeeded)


# --- losses ----------------------------------------------------------------------------------------------------------


def _mean_log_probs(model_folder: Path, rows: list[Any]) -> torch.Tensor:
    """By plain transformers, one row at a time: [rows, 2] mean log-probability of an answer's tokens."""
    model = load_model(model_folder, torch.float32, torch.device("cpu"))
    tokenizer = load_tokenizer(model_folder)
    found = []
    for row in rows:
        for key in ("chosen", "rejected"):
            prompt = tokenizer(row["prompt"])["input_ids"]
            answer = tokenizer(row[key] + tokenizer.eos_token)["input_ids"]
            ids = torch.tensor([prompt + answer])
            with torch.no_grad():
                logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            found.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).mean())
    return torch.stack(found).view(-1, 2)


def test_the_odds_ratio_loss_is_that_of_the_paper(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"After {n}?", "chosen": f"\nIt is {n + 1}." * (1 + n % 2), "rejected": "\nSorry, no idea."}
        for n in range(4)
    ]
    train = write_rows(tmp_path / "train.jsonl", rows)
    _, events = run(_order("orpo", tiny_model, train, {"beta": 0.5}, max_steps=1), tmp_path / "run")
    means = _mean_log_probs(tiny_model, rows).double()
    odds = means.exp() / (1 - means.exp())
    ratio = torch.log(torch.sigmoid(torch.log(odds[:, 0] / odds[:, 1])))
    expected = (-means[:, 0] - 0.5 * ratio).mean().item()
    assert losses(events) == pytest.approx([expected], abs=1e-4)


def test_smoothed_labels_hold_some_preferences_for_wrong() -> None:
    from tunesmith.training.dpo_task import sigmoid_loss

    ratios = torch.tensor([[2.0, -1.0], [0.5, 0.5]])
    plain, swapped = sigmoid_loss(0.3, 0.0)(ratios, ratios), sigmoid_loss(0.3, 0.0)(ratios.flip(1), ratios)
    smoothed = sigmoid_loss(0.3, 0.1)(ratios, ratios)
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * swapped)


def test_judging_one_answer_at_a_time_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", judged(4))
    code, events = run(_order("kto", tiny_model, rows, batch_size=1, purpose="check"), tmp_path / "run")
    assert code == 1
    assert events[-1].error.param == "optimization.batch_size"


# --- what is reported ------------------------------------------------------------------------------------------------


def test_both_answers_of_a_pair_are_shown_and_counted(tiny_model: Path, tmp_path: Path, pairs: Path) -> None:
    _, events = run(_order("dpo", tiny_model, pairs, max_steps=1), tmp_path / "run")
    [prepared] = of_kind(events, Prepared)
    assert "⟦After 0 comes 1.<|im_end|>⟧" in prepared.sample
    assert "⟦I do not know 0.<|im_end|>⟧" in prepared.sample
    assert prepared.rows == prepared.sequences == 14


def test_figures_of_preferences_are_reported_for_training_and_validation(
    tiny_model: Path, tmp_path: Path, pairs: Path
) -> None:
    _, events = run(_order("dpo", tiny_model, pairs, validation=pairs), tmp_path / "run")
    names = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"}
    for event in (*of_kind(events, Metrics), *of_kind(events, Evaluated)):
        assert event.token_accuracy is None
        assert set(event.extra) == names | {"logps/chosen", "logps/rejected"}
    assert of_kind(events, Evaluated)[-1].extra["rewards/accuracies"] == 1.0


def test_a_pair_too_long_in_one_answer_is_left_out_whole(tiny_model: Path, tmp_path: Path) -> None:
    rows = preferences(6)
    rows[2]["rejected"] = [{"role": "assistant", "content": "long " * 300}]
    train = write_rows(tmp_path / "train.jsonl", rows)
    _, events = run(_order("dpo", tiny_model, train, max_steps=1), tmp_path / "run")
    [prepared] = of_kind(events, Prepared)
    assert (prepared.rows, prepared.dropped_lines) == (5, (3,))


# --- classifiers -----------------------------------------------------------------------------------------------------


def _plain_scores(folder: Path, base: Path, adapted: bool, labels: int, texts: list[str]) -> torch.Tensor:
    """By plain transformers and PEFT, in one padded batch."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if adapted:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
        model = PeftModel.from_pretrained(model, folder)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        scores: torch.Tensor = model.eval()(**tokenizer(texts, return_tensors="pt", padding=True)).logits
    return scores


@PLAIN_PEFT
@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
def test_a_classifier_gives_the_same_scores_in_plain_libraries(adapter: Any, tiny_model: Path, tmp_path: Path) -> None:
    rows = labelled(12)
    train = write_rows(tmp_path / "train.jsonl", rows)
    order = _order("classification", tiny_model, train, adapter=adapter, validation=train, warmup_ratio=0.0, epochs=6.0)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    texts, labels = [row["text"] for row in rows], torch.tensor([row["label"] for row in rows])
    scores = _plain_scores(tmp_path / "run/artifact", tiny_model, adapter is not None, 3, texts)
    last = of_kind(events, Evaluated)[-1]
    assert torch.nn.functional.cross_entropy(scores, labels).item() == pytest.approx(last.loss, abs=1e-4)
    assert (scores.argmax(-1) == labels).float().mean().item() == last.extra["accuracy"] == 1.0
    card = (tmp_path / "run/artifact/README.md").read_text()
    assert "AutoModelForSequenceClassification.from_pretrained(" in card
    assert ("num_labels=3" in card) is (adapter is not None)


@PLAIN_PEFT
@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
def test_a_reward_model_gives_the_same_rewards_in_plain_libraries(
    adapter: Any, tiny_model: Path, tmp_path: Path, pairs: Path
) -> None:
    order = _order("reward", tiny_model, pairs, adapter=adapter, validation=pairs, warmup_ratio=0.0)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    tokenizer = load_tokenizer(tiny_model)
    texts = [
        tokenizer.apply_chat_template([*row["prompt"], *row[key]], tokenize=False)
        for row in preferences(14)
        for key in ("chosen", "rejected")
    ]
    rewards = _plain_scores(tmp_path / "run/artifact", tiny_model, adapter is not None, 1, texts).view(-1, 2)
    last = of_kind(events, Evaluated)[-1]
    assert rewards[:, 0].mean().item() == pytest.approx(last.extra["rewards/chosen"], abs=1e-4)
    assert rewards[:, 1].mean().item() == pytest.approx(last.extra["rewards/rejected"], abs=1e-4)


def test_a_finished_classifier_can_be_trained_further_with_its_head(tiny_model: Path, tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", labelled(12))
    changes = {"adapter": None, "validation": train, "warmup_ratio": 0.0}
    _, first = run(_order("classification", tiny_model, train, **changes, epochs=6.0), tmp_path / "first")
    code, second = run(_order("classification", tmp_path / "first/artifact", train, **changes), tmp_path / "second")
    assert code == 0
    assert losses(second)[0] == pytest.approx(of_kind(first, Evaluated)[-1].loss, abs=0.05)


def test_turns_can_be_classified(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"messages": row["messages"][:1], "label": number % 2} for number, row in enumerate(chat(8))]
    code, events = run(
        _order("classification", tiny_model, write_rows(tmp_path / "train.jsonl", rows)), tmp_path / "run"
    )
    assert code == 0
    assert of_kind(events, Prepared)[0].sample.startswith("<|im_start|>user\nWhat comes after 0?")


@pytest.mark.parametrize(
    ("parameters", "label", "words"),
    [({"labels": 3}, 3, "Line 2 has the class 3; 3 classes go from 0 to 2."), ({}, 0, "All rows have the class 0")],
)
def test_classes_that_cannot_be_told_apart_are_refused(
    parameters: Any, label: int, words: str, tiny_model: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "train.jsonl", [{"text": "a", "label": 0}, {"text": "b", "label": label}])
    code, events = run(_order("classification", tiny_model, rows, parameters), tmp_path / "run")
    assert code == 1
    assert words in events[-1].error.message


def test_a_text_that_ends_with_the_padding_token_is_scored_where_plain_libraries_score_it(tiny_model: Path) -> None:
    import numpy as np

    from tunesmith.training.model import load_classifier
    from tunesmith.training.score_model import ScoreModel
    from tunesmith.training.text import TokenRow

    core, other = (load_classifier(tiny_model, 2, 0, torch.float32, torch.device("cpu")) for _ in range(2))
    padding = core.config.pad_token_id
    model = ScoreModel(core, torch.device("cpu"), torch.float32)
    model.settle()
    assert model.layout == "concatenated"
    texts = [[5, 6, 7, padding, padding], [9, 8], [padding, 4], [3, padding]]
    rows = [TokenRow(1, np.array(ids, dtype=np.int32), np.zeros(len(ids), dtype=np.bool_)) for ids in texts]
    with torch.no_grad():
        ours = model.scores(model.batches(rows))
        plain = torch.cat([other(input_ids=torch.tensor([ids])).logits for ids in texts])
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


# --- continuing a head -----------------------------------------------------------------------------------------------

STILL: dict[str, Any] = {"learning_rate": 1e-9, "warmup_ratio": 0.0, "max_steps": 1}


@pytest.mark.parametrize("shape", [LORA, LORA | {"init": "pissa"}, LORA | {"decomposed": True}])
@pytest.mark.parametrize("kind", ["classification", "reward"])
def test_a_trained_head_is_continued_where_it_was_left(kind: str, shape: Any, tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", ROWS[kind](12))
    changes = {"validation": rows, "adapter": shape}
    _, first = run(_order(kind, tiny_model, rows, epochs=6.0, **changes), tmp_path / "first")
    trained = tmp_path / "first/artifact"
    _, checked = run(
        _order(kind, tiny_model, rows, continue_from=trained, purpose="check", **changes), tmp_path / "check"
    )
    assert of_kind(checked, Checked)
    code, second = run(_order(kind, tiny_model, rows, continue_from=trained, **changes, **STILL), tmp_path / "second")
    assert code == 0
    before, after = (of_kind(events, Evaluated) for events in (first, second))
    assert after[-1].loss == pytest.approx(before[-1].loss, abs=1e-5)
    assert abs(before[-1].loss - before[0].loss) > 0.01


@PLAIN_PEFT
def test_a_head_made_by_peft_is_continued_with_all_its_classes(tiny_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    from tunesmith.training.model import load_classifier

    def base() -> Any:
        return load_classifier(tiny_model, 5, 1, torch.float32, torch.device("cpu"))

    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules="all-linear")
    made = get_peft_model(base(), config)
    for parameter in made.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter) * parameter.requires_grad
    made.save_pretrained(tmp_path / "made")
    rows = write_rows(tmp_path / "train.jsonl", labelled(12))
    order = _order("classification", tiny_model, rows, continue_from=tmp_path / "made", **STILL)
    code, _ = run(order, tmp_path / "run")
    assert code == 0
    ids = torch.arange(20)[None] + 5
    loaded = PeftModel.from_pretrained(base(), tmp_path / "run/artifact")
    with torch.no_grad():
        ours, theirs = (model.eval()(input_ids=ids).logits for model in (loaded, made))
    assert ours.shape == (1, 5)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("labels", [2, 4])
def test_a_head_for_another_number_of_classes_is_refused(labels: int, tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", labelled(12))
    run(_order("classification", tiny_model, rows, max_steps=1), tmp_path / "first")
    trained = tmp_path / "first/artifact"
    for kind, parameters in (("classification", {"labels": labels}), ("reward", {})):
        order = _order(kind, tiny_model, rows, parameters, continue_from=trained, purpose="check")
        _, events = run(order, tmp_path / kind)
        assert (events[-1].error.code, events[-1].error.param) == ("invalid_adapter", "init_from")
        assert "gives 3 scores" in events[-1].error.message


def test_a_class_beyond_those_of_the_continued_head_is_refused_with_its_line(tiny_model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "train.jsonl", labelled(12))
    run(_order("classification", tiny_model, rows, max_steps=1), tmp_path / "first")
    more = write_rows(tmp_path / "more.jsonl", [{"text": "a", "label": 3}])
    order = _order("classification", tiny_model, more, continue_from=tmp_path / "first/artifact", purpose="check")
    _, events = run(order, tmp_path / "run")
    assert "Line 1 has the class 3; 3 classes go from 0 to 2." in events[-1].error.message


@pytest.mark.parametrize(("made", "wanted"), [("dpo", "reward"), ("reward", "dpo")])
def test_an_adapter_with_and_one_without_a_head_do_not_stand_in_for_each_other(
    made: str, wanted: str, tiny_model: Path, tmp_path: Path, pairs: Path
) -> None:
    run(_order(made, tiny_model, pairs, max_steps=1), tmp_path / "first")
    order = _order(wanted, tiny_model, pairs, continue_from=tmp_path / "first/artifact", purpose="check")
    code, events = run(order, tmp_path / "run")
    assert code == 1
    assert (events[-1].error.code, events[-1].error.param) == ("invalid_adapter", "init_from")
