"""Answers of the base model and of the tuned one, with plain transformers and peft: nothing of Tunesmith is needed."""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triage import Conversation

_BATCH = 64
_NEW_TOKENS = 60


class Answerer:
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
            self._model = PeftModel.from_pretrained(model, adapter).eval()

    def base(self, conversations: Sequence[Conversation], advance: Callable[[int], None]) -> list[str]:
        """What the model answers without the adapter. `advance` is told how many more answers are there."""
        with self._model.disable_adapter():
            return self._answers(conversations, advance)

    def tuned(self, conversations: Sequence[Conversation], advance: Callable[[int], None]) -> list[str]:
        """What it answers with the adapter."""
        return self._answers(conversations, advance)

    def _answers(self, conversations: Sequence[Conversation], advance: Callable[[int], None]) -> list[str]:
        prompts = [
            self._tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True)
            for each in conversations
        ]
        by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        answers = [""] * len(prompts)
        for start in range(0, len(prompts), _BATCH):
            chosen = by_length[start : start + _BATCH]
            for index, answer in zip(chosen, self._batch([prompts[index] for index in chosen]), strict=True):
                answers[index] = answer
            advance(len(chosen))
        return answers

    def _batch(self, prompts: list[str]) -> list[str]:
        import torch

        inputs = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(self._device)
        with torch.inference_mode():
            output: Any = self._model.generate(**inputs, max_new_tokens=_NEW_TOKENS, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]
