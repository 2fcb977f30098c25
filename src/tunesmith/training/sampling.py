"""What a language model answers to the job's prompts, before, during and after its training."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from transformers import GenerationConfig

from tunesmith.spec import events
from tunesmith.spec.errors import ChatTemplateError, UnsupportedError
from tunesmith.spec.job import AttemptSpec, JobSpec, Prompt, SamplingSpec, prompt_text
from tunesmith.training.chat_template import in_parts, wants_parts
from tunesmith.training.model import context_length, load_config, load_tokenizer
from tunesmith.training.reporting import Reporter
from tunesmith.training.state import Progress, seeded

_PROMPT_CHARACTERS = 2_000
_TEXT_CHARACTERS = 8_000


@dataclass(frozen=True)
class Answer:
    """What a model writes."""

    text: str
    """Without special tokens."""

    tokens: int
    """With the one that ends it."""


class Answering(Protocol):
    """What can be asked."""

    def answer(self, prompt: Prompt, sampling: SamplingSpec, *, of_base: bool) -> Answer:
        """Let the model go on with a prompt. `of_base`, before the first step only: let the base model do so.

        Leaves the model in evaluation mode.
        """
        ...


def require_prompts(attempt: AttemptSpec) -> None:
    """See that each prompt can be asked.

    Raises:
        UnsupportedError: a prompt is empty, ends with an answer, or leaves no room for one; `param` is its path.
        ChatTemplateError: the model has no chat template for a conversation, or the template refuses it.
    """
    sampling = attempt.spec.sampling
    if sampling is None:
        return
    if sampling.denoising_steps is not None:
        raise UnsupportedError(
            "A language model has no denoising steps.",
            param="sampling.denoising_steps",
            hint="Leave them out; they belong to pictures.",
        )
    tokenizer, room = load_tokenizer(attempt.inputs.model), _room(attempt)
    for number, prompt in enumerate(sampling.prompts):
        param = f"sampling.prompts.{number}"
        if not isinstance(prompt, str) and (not prompt or prompt[-1].role == "assistant"):
            raise UnsupportedError("A prompt ends with a turn that the model is to answer.", param=param)
        length = len(prompt_tokens(tokenizer, prompt, param))
        if not length:
            raise UnsupportedError("A prompt has no token at all.", param=param, hint="Write something into it.")
        if room is not None and length + sampling.max_new_tokens > room:
            raise UnsupportedError(
                f"A prompt has {length} tokens, and with {sampling.max_new_tokens} more for the answer it exceeds the "
                f"model's context of {room}.",
                param=param,
                hint="Shorten the prompt, or lower `max_new_tokens`.",
            )


def _room(attempt: AttemptSpec) -> int | None:
    return context_length(load_config(attempt.inputs.model, attempt.spec.model.modality))


def prompt_tokens(tokenizer: Any, prompt: Prompt, param: str) -> list[int]:
    """The tokens after which the model's answer begins. `param` is the prompt's path in the spec.

    Raises:
        ChatTemplateError: there is no chat template for a conversation, or it refuses it.
    """
    if isinstance(prompt, str) and not tokenizer.chat_template:
        return _without_end(tokenizer, tokenizer(prompt, verbose=False)["input_ids"])
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [turn.model_dump() for turn in prompt]
    if tokenizer.chat_template and wants_parts(tokenizer):
        turns = in_parts(turns)
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            "The model has no chat template, so a prompt cannot be a conversation.",
            param=param,
            hint="Write the prompt as one text.",
        )
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise ChatTemplateError(f"The model's chat template refuses a prompt: {error}", param=param) from error
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def generation_config(tokenizer: Any, sampling: SamplingSpec, stops: frozenset[int]) -> GenerationConfig:
    """How an answer is drawn: by the job's own settings alone, whatever the model's folder recommends."""
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampling.temperature else {}
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=None)
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=bool(drawn),
        eos_token_id=sorted(stops) or None,
        pad_token_id=padding,
        **drawn,
    )


def report_samples(
    asked: Answering, spec: JobSpec, progress: Progress, reporter: Reporter, poll: Callable[[], None]
) -> Progress:
    """Ask every prompt, report the answers, and return the progress with that done.

    Random numbers are drawn from the sampling's own seed, so that the training goes on as if nobody had asked.
    """
    assert spec.sampling is not None
    is_base = progress.step == 0
    seed = spec.sampling.seed if spec.sampling.seed is not None else spec.optimization.seed
    texts = []
    for number, prompt in enumerate(spec.sampling.prompts):
        poll()
        start = time.monotonic()
        with seeded(seed):
            answer = asked.answer(prompt, spec.sampling, of_base=is_base)
        texts.append(answer.text[:_TEXT_CHARACTERS])
        reporter.write(
            events.Sampled,
            step=progress.step,
            number=number,
            prompt=prompt_text(prompt)[:_PROMPT_CHARACTERS],
            text=texts[-1],
            base=None if is_base else progress.base_samples[number],
            tokens=answer.tokens,
            seconds=time.monotonic() - start,
        )
    done: dict[str, Any] = {"sampled_step": progress.step}
    return progress.model_copy(update=done | ({"base_samples": tuple(texts)} if is_base else {}))


def _without_end(tokenizer: Any, ids: list[int]) -> list[int]:
    """Tokens of a text that goes on: some tokenizers add the token that ends it."""
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
