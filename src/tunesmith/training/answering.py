"""Whether two models answer alike: one is asked, the other is held against its answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

_NEW_TOKENS = 16


@dataclass(frozen=True, eq=False)
class Answer:
    """What the trained model says to one prompt. C: compared places; V: tokens or scores."""

    ids: Tensor
    """[1, T] the prompt and what the model added."""

    logits: Tensor
    """[C, V] in float32, at the last C places."""

    base_logits: Tensor | None
    """[C, V] of the model before training, at the same places."""


@dataclass(frozen=True)
class Agreement:
    """How far answers are apart, as in `Verification`."""

    positions: int
    kl_divergence: float
    same_choice: float
    largest_logit_difference: float


def ask(
    model: Any, prompts: Sequence[Sequence[int]], *, writes: bool, stops: Sequence[int], poll: Callable[[int], None]
) -> list[Answer]:
    """The answers of a trained model: its greedy continuations, or its scores of the prompts if it does not write.

    `poll` is told how many prompts are done.
    """
    answers = []
    for done, prompt in enumerate(prompts):
        poll(done)
        answers.append(_asked(model, torch.tensor([list(prompt)]), writes=writes, stops=stops))
    poll(len(prompts))
    return answers


def agreement(model: Any, answers: Sequence[Answer], *, writes: bool) -> Agreement:
    """A model held against answers: it reads the same tokens."""
    return _compared([answer.logits for answer in answers], list(_read(model, answers)), writes=writes)


def base_divergence(answers: Sequence[Answer], *, writes: bool) -> float | None:
    """How far the model before training is from the trained one; none where it has no answers."""
    bases = [answer.base_logits for answer in answers if answer.base_logits is not None]
    if not writes or len(bases) < len(answers):
        return None
    return _compared([answer.logits for answer in answers], bases, writes=True).kl_divergence


@torch.no_grad()
def _asked(model: Any, ids: Tensor, *, writes: bool, stops: Sequence[int]) -> Answer:
    if not writes:
        return Answer(ids, model(input_ids=ids).logits.float(), None)
    start = ids.shape[1]
    for _ in range(_NEW_TOKENS):
        choice = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, choice], dim=1)
        if int(choice) in stops:
            break
    count = ids.shape[1] - start
    base = None
    if isinstance(model, PeftModel):
        with model.disable_adapter():
            base = _last(model, ids, count)
    return Answer(ids, _last(model, ids, count), base)


@torch.no_grad()
def _read(model: Any, answers: Sequence[Answer]) -> Iterator[Tensor]:
    for answer in answers:
        yield _last(model, answer.ids, len(answer.logits)) if answer.logits.shape[0] > 0 else answer.logits


def _last(model: Any, ids: Tensor, count: int) -> Tensor:
    """Logits [C, V] of the last `count` tokens of `ids`, each read off the place before it; or a text's scores."""
    logits = model(input_ids=ids, use_cache=False).logits.float()
    if logits.ndim == 2:
        return logits  # type: ignore[no-any-return]
    return logits[0, -count - 1 : -1]  # type: ignore[no-any-return]


def _compared(trained: Sequence[Tensor], other: Sequence[Tensor], *, writes: bool) -> Agreement:
    expected, found = torch.cat(list(trained)), torch.cat(list(other))
    if writes:
        apart = kl_div(log_softmax(found, -1), log_softmax(expected, -1), reduction="batchmean", log_target=True)
    else:
        apart = (found - expected).square().mean() / expected.square().mean().clamp_min(1e-12)
    return Agreement(
        positions=len(expected),
        kl_divergence=max(0.0, apart.item()),
        same_choice=(expected.argmax(-1) == found.argmax(-1)).float().mean().item(),
        largest_logit_difference=(expected - found).abs().max().item(),
    )
