"""What the model is asked before, during and after its training."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from attempts import LORA, attempt, chat, checkpoint, labelled, losses, of_kind, preferences, run, write_rows
from tunesmith.spec.events import Evaluated, Sampled, Stopped
from tunesmith.training.text_task import TextTask

pytestmark = pytest.mark.usefixtures("signals_kept")

DROPOUT = LORA | {"dropout": 0.3}
TURNS = [{"role": "system", "content": "Count."}, {"role": "user", "content": "What comes after 3?"}]
PROMPTS = {"prompts": ["What comes after 7?", TURNS, "Größe 🙂?"], "every": 3, "max_new_tokens": 6}


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "train.jsonl", chat(14))


def refusal(order, folder):
    code, events = run(order.model_copy(update={"purpose": "check"}), folder)
    assert code == 1
    return events[-1].error


def weights(folder):
    names = ("adapter_model.safetensors", "model.safetensors")
    return [(folder / name).read_bytes() for name in names if (folder / name).exists()]


def test_the_model_is_asked_before_the_first_step_every_so_many_steps_and_after_the_last(tiny_model, tmp_path, rows):
    code, events = run(attempt(tiny_model, rows, sampling=PROMPTS, epochs=1.0), tmp_path / "run")
    assert code == 0
    samples = of_kind(events, Sampled)
    assert [(each.step, each.number) for each in samples] == [(step, n) for step in (0, 3, 4) for n in range(3)]
    assert [each.prompt for each in samples[:3]] == [
        "What comes after 7?", "system: Count.\nuser: What comes after 3?", "Größe 🙂?"
    ]  # fmt: skip
    for each in samples:
        assert 1 <= each.tokens <= 6
        assert each.base == (samples[each.number].text if each.step else None)
        assert each.file is None


@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "bfloat16"},
        {"gradient_checkpointing": True},
        {"packing": True, "max_length": 96},
        {"validation": True, "eval_steps": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_asking_changes_nothing_of_the_training(tiny_model, tmp_path, rows, adapter, changes):
    changes = {"adapter": adapter} | changes | ({"validation": rows} if "validation" in changes else {})
    drawn = PROMPTS | {"every": 1, "temperature": 1.0, "seed": 3}
    _, plain = run(attempt(tiny_model, rows, epochs=1.0, **changes), tmp_path / "plain")
    code, asked = run(attempt(tiny_model, rows, epochs=1.0, sampling=drawn, **changes), tmp_path / "asked")
    assert code == 0
    assert losses(asked) == losses(plain)
    scores = [[each.loss for each in of_kind(events, Evaluated)] for events in (asked, plain)]
    assert scores[0] == scores[1]
    assert weights(tmp_path / "asked/artifact") == weights(tmp_path / "plain/artifact")


def greedy(folder, prompt, count, adapter=None):
    """What plain libraries write."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**ids, max_new_tokens=count, do_sample=False)
    return tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT's
@pytest.mark.parametrize("adapter", [DROPOUT, None], ids=["lora", "full"])
def test_answers_are_those_of_plain_libraries(tiny_model, tmp_path, rows, adapter):
    sampling = {"prompts": ["What comes after 7?"], "every": 100, "max_new_tokens": 12}
    _, events = run(attempt(tiny_model, rows, adapter=adapter, sampling=sampling, epochs=6.0), tmp_path / "run")
    first, last = of_kind(events, Sampled)
    assert first.text == greedy(tiny_model, "What comes after 7?", 12)
    artifact = tmp_path / "run/artifact"
    of_adapter = (tiny_model, "What comes after 7?", 12, artifact)
    assert last.text == (greedy(*of_adapter) if adapter else greedy(artifact, "What comes after 7?", 12))
    assert last.base == first.text != last.text


def test_the_base_model_is_asked_without_the_adapter_that_is_continued(tiny_model, tmp_path, rows):
    run(attempt(tiny_model, rows, epochs=6.0), tmp_path / "first")
    sampling = {"prompts": ["What comes after 7?"], "every": 1, "max_new_tokens": 12}
    order = attempt(tiny_model, rows, continue_from=tmp_path / "first/artifact", max_steps=1, sampling=sampling)
    code, events = run(order, tmp_path / "run")
    assert code == 0
    base, trained = of_kind(events, Sampled)
    assert base.text == greedy(tiny_model, "What comes after 7?", 12)
    assert trained.base == base.text != trained.text


def test_drawn_answers_follow_from_the_seed_alone(tiny_model, tmp_path, rows):
    def texts(name, **changes):
        sampling = PROMPTS | {"temperature": 1.5, "top_p": 0.9, "seed": 3} | changes
        _, events = run(attempt(tiny_model, rows, sampling=sampling, max_steps=1), tmp_path / name)
        return [each.text for each in of_kind(events, Sampled)]

    assert texts("one") == texts("two")
    assert texts("one-again", seed=4) != texts("three")
    assert texts("first-prompt-only", prompts=PROMPTS["prompts"][:1])[0] == texts("four")[0]


def test_a_resumed_training_asks_what_was_owed_and_knows_the_base_models_answers(tiny_model, tmp_path, rows):
    order = {"sampling": PROMPTS, "adapter": None, "save_steps": 1}
    _, whole = run(attempt(tiny_model, rows, **order), tmp_path / "whole")
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint(whole, tmp_path / "whole", 5), folder)
    code, resumed = run(attempt(tiny_model, rows, resume_from=[folder], **order), tmp_path / "resumed")
    assert code == 0
    facts = [
        [(each.step, each.number, each.text, each.base) for each in of_kind(events, Sampled) if each.step > 5]
        for events in (whole, resumed)
    ]
    assert facts[0] == facts[1] != []
    assert min(each.step for each in of_kind(resumed, Sampled)) == 6


def test_a_stop_between_two_answers_is_obeyed(tiny_model, tmp_path, rows, monkeypatch):
    import os
    import signal

    real = TextTask.answer

    def stopping(self, *arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments, **named)

    monkeypatch.setattr(TextTask, "answer", stopping)
    code, events = run(attempt(tiny_model, rows, sampling=PROMPTS), tmp_path / "run")
    assert code == 0
    assert len(of_kind(events, Sampled)) == 1
    assert of_kind(events, Stopped)[0].step == 0


def test_the_models_own_habits_of_writing_have_no_say(tiny_model, tmp_path, rows):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    path = folder / "generation_config.json"
    habits = {"do_sample": True, "temperature": 0.1, "top_k": 3, "repetition_penalty": 3.0, "min_new_tokens": 5}
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | habits))
    texts = []
    for number, model in enumerate((folder, tiny_model)):
        _, events = run(attempt(model, rows, sampling=PROMPTS, max_steps=1), tmp_path / f"run-{number}")
        texts.append([each.text for each in of_kind(events, Sampled)])
    assert texts[0] == texts[1]


def test_a_model_without_a_chat_template_goes_on_with_a_text(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    rows = write_rows(tmp_path / "train.jsonl", [{"prompt": "One, two,", "completion": " three."}] * 8)
    sampling = {"prompts": ["One, two,"], "every": 5, "max_new_tokens": 5}
    code, events = run(attempt(folder, rows, sampling=sampling), tmp_path / "run")
    assert code == 0
    assert of_kind(events, Sampled)
    error = refusal(attempt(folder, rows, sampling=PROMPTS), tmp_path / "refused")
    assert (error.code, error.param) == ("chat_template", "sampling.prompts.1")


@pytest.mark.parametrize("quantization", [{"bits": 4}, {"bits": 8}], ids=["4-bit", "8-bit"])
@pytest.mark.slow
def test_a_quantized_base_is_asked_without_changing_the_training(tiny_model, tmp_path, rows, quantization):
    changes = {"quantization": quantization, "adapter": DROPOUT, "epochs": 1.0}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    code, asked = run(attempt(tiny_model, rows, sampling=PROMPTS, **changes), tmp_path / "asked")
    assert code == 0
    assert len(of_kind(asked, Sampled)) == 9
    assert losses(asked) == losses(plain)


def test_preference_methods_are_asked_too(tiny_model, tmp_path):
    rows = write_rows(tmp_path / "train.jsonl", preferences(8))
    changes = {"method": {"kind": "dpo", "parameters": {}}, "adapter": DROPOUT, "epochs": 1.0}
    _, plain = run(attempt(tiny_model, rows, **changes), tmp_path / "plain")
    code, asked = run(attempt(tiny_model, rows, sampling=PROMPTS | {"every": 1}, **changes), tmp_path / "asked")
    assert code == 0
    assert len(of_kind(asked, Sampled)) == 9
    assert losses(asked) == losses(plain)


@pytest.mark.parametrize(
    ("sampling", "param", "words"),
    [
        (PROMPTS | {"denoising_steps": 5}, "sampling.denoising_steps", "denoising"),
        (PROMPTS | {"prompts": ["fine", "word " * 3000]}, "sampling.prompts.1", "context"),
        (PROMPTS | {"max_new_tokens": 4096}, "sampling.prompts.0", "4096 more"),
        (PROMPTS | {"prompts": [[*TURNS, {"role": "assistant", "content": "4"}]]}, "sampling.prompts.0", "ends with"),
        (PROMPTS | {"prompts": [[]]}, "sampling.prompts.0", "ends with"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused_by_the_check(tiny_model, tmp_path, rows, sampling, param, words):
    error = refusal(attempt(tiny_model, rows, sampling=sampling), tmp_path / "run")
    assert (error.code, error.param) == ("unsupported", param)
    assert words in error.message


@pytest.mark.parametrize("kind", ["classification", "reward"])
def test_models_that_write_nothing_are_not_asked(tiny_model, tmp_path, kind):
    rows = write_rows(tmp_path / "train.jsonl", labelled(8) if kind == "classification" else preferences(8))
    parameters = {"labels": 3} if kind == "classification" else {}
    order = attempt(
        tiny_model,
        rows,
        method={"kind": kind, "parameters": parameters},
        task="sequence_classification",
        sampling=PROMPTS,
    )
    error = refusal(order, tmp_path / "run")
    assert (error.code, error.param) == ("unsupported", "sampling")
    assert "writes none" in error.message
