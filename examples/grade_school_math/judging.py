"""Base and tuned model on held-out problems, with plain transformers and peft: nothing of Tunesmith is needed."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from problems import Problem, Score, score

_BATCH = 40
_NEW_TOKENS = 256


@dataclass(frozen=True)
class Judgement:
    """What a model makes of the held-out problems."""

    loss: float
    """Mean negative log-likelihood, in nats, of the tokens of the worked answers."""

    score: Score
    answers: tuple[str, ...]


class Judge:
    """A model with an adapter that can be switched off."""

    def __init__(self, base: Path, adapter: Path) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of loading
            self._tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).to(self._device)
            self._model: Any = PeftModel.from_pretrained(model, adapter).eval()

    def base(self, problems: Sequence[Problem], advance: Callable[[int], None]) -> Judgement:
        """Without the adapter. `advance` is told how many more problems are done."""
        with self._model.disable_adapter():
            return self._judge(problems, advance)

    def tuned(self, problems: Sequence[Problem], advance: Callable[[int], None]) -> Judgement:
        """With the adapter."""
        return self._judge(problems, advance)

    def _judge(self, problems: Sequence[Problem], advance: Callable[[int], None]) -> Judgement:
        import torch

        with torch.inference_mode():
            answers = self._answers(problems, advance)
            return Judgement(self._loss(problems), score(problems, answers), tuple(answers))

    def _loss(self, problems: Sequence[Problem]) -> float:
        import torch

        total, count = 0.0, 0
        for problem in problems:
            prompt = self._rendered(problem.messages[:1], answering=True)
            ids = self._ids(prompt + problem.answer + "<|im_end|>")
            start = self._ids(prompt).shape[1]
            logits = self._model(input_ids=ids).logits[0, start - 1 : -1].float()
            total += torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum").item()
            count += ids.shape[1] - start
        return total / count

    def _answers(self, problems: Sequence[Problem], advance: Callable[[int], None]) -> list[str]:
        prompts = [self._rendered(problem.messages[:1], answering=True) for problem in problems]
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers = [""] * len(prompts)
        for start in range(0, len(prompts), _BATCH):
            chosen = by_length[start : start + _BATCH]
            inputs = self._tokenizer(
                [prompts[index] for index in chosen], return_tensors="pt", padding=True, add_special_tokens=False
            ).to(self._device)
            output = self._model.generate(**inputs, max_new_tokens=_NEW_TOKENS, do_sample=False)
            texts = self._tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            for index, text in zip(chosen, texts, strict=True):
                answers[index] = text.strip()
            advance(len(chosen))
        return answers

    def _rendered(self, messages: list[dict[str, str]], *, answering: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering)
        return text

    def _ids(self, text: str) -> Any:
        return self._tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(self._device)
