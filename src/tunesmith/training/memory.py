"""How much memory a training takes, from what its model is and what a forward pass keeps. Arithmetic only.

The low end of a range counts what must be there at once: frozen weights, the optimizer's moments, and either the
activations of a pass or the gradients. The high end adds up everything that may coincide, and what allocators waste.
"""

from dataclasses import dataclass, replace

from tunesmith.spec.plan import MemoryParts, MemoryPlan

# A process with the training libraries, or a GPU's context with the libraries' workspaces.
_OVERHEAD = (300_000_000, 1_000_000_000)

# Activations were counted, yet some are shared or freed early: at least so much of them is there at once.
_SURELY_KEPT = 0.75

# What allocators need for them: blocks of varying sizes leave gaps, and kernels want room of their own. The C library's
# gives little back of what lies between blocks in use, so that half as much again is common.
_ALLOCATED_ON_GPU = 1.25
_ALLOCATED_ON_CPU = 1.9

_CHUNK_BYTES = 64 * 2**20
"""Float32 logits of one piece of the loss, as in `losses.py`."""

GPU_TOKENS = 16_384
"""Tokens of one forward pass on a GPU, if they fit: more bring no speed."""

CPU_TOKENS = 4_096

# Smaller passes are slower than computing activations again in larger ones.
_LEAST_TOKENS = {False: 2_048, True: 512}


@dataclass(frozen=True)
class Head:
    """The layer that gives logits."""

    vocabulary: int
    """Rows of its matrix; 0 for a classifier, whose few scores do not count."""

    width: int
    trained: bool
    whole: bool
    """Whether logits of all positions exist at once. Otherwise they are computed piece by piece."""


@dataclass(frozen=True)
class Footprint:
    """What memory depends on, but for the size of a pass."""

    weights: int
    """Bytes of all weights, trained ones in float32, and of what else the layers hold."""

    parameters: int
    """Of the base model."""

    trained: int
    """Parameters that are trained."""

    moment_bytes: float
    """Of the optimizer's state, for each of them."""

    per_token: float
    """Bytes that a forward pass keeps for the backward pass, a token."""

    per_pass: float
    """Bytes that it keeps however many tokens there are: weights converted to the arithmetic's number format."""

    layers: int
    width: int
    """Hidden size."""

    number_bytes: int
    """Of the arithmetic's number format."""

    residual_bytes: int
    """Of a number of the residual stream."""

    head: Head
    on_gpu: bool
    can_recompute: bool
    """Whether activations can be computed again at all."""

    largest_matrix: int
    """Bytes of the largest quantized matrix while it is multiplied; 0 without quantization."""

    pictures: float
    """Bytes that pictures take in a pass at most, a token; 0 for models of text."""

    def peak(self, *, surely: int, at_most: int, recompute: bool) -> MemoryPlan:
        """Peak memory.

        Args:
            surely: tokens of a pass that is bound to occur.
            at_most: tokens of the largest pass that may occur.
            recompute: whether activations are computed again in the backward pass.
        """
        gradients, moments = 4 * self.trained, int(self.moment_bytes * self.trained)
        least = _SURELY_KEPT * self._kept(surely, recompute)
        low = self.weights + moments + max(gradients, int(least)) + _OVERHEAD[0]
        layer = self.per_token / max(1, self.layers)
        allocated = _ALLOCATED_ON_GPU if self.on_gpu else _ALLOCATED_ON_CPU
        activations = allocated * (self._kept(at_most, recompute) + (layer + self.pictures) * at_most)
        parts = MemoryParts(
            weights=self.weights,
            gradients=gradients,
            optimizer=moments,
            activations=int(activations),
            logits=self._logits(at_most),
            overhead=_OVERHEAD[1] + 2 * self.largest_matrix,
        )
        return MemoryPlan(
            low=low,
            high=sum(parts.model_dump().values()),
            parts=parts,
            micro_batch_tokens=at_most,
            gradient_checkpointing=recompute,
        )

    @property
    def least(self) -> int:
        """Bytes that must be there however small the passes are."""
        return self.peak(surely=0, at_most=0, recompute=True).low

    def _kept(self, tokens: int, recompute: bool) -> float:
        if not recompute:
            return self.per_token * tokens + self.per_pass
        stream = self.layers * self.width * self.residual_bytes
        return tokens * (stream + self.per_token / max(1, self.layers)) + self.per_pass

    def _logits(self, tokens: int) -> int:
        """Logits with their probabilities in float32 and in the arithmetic's format, and gradients."""
        head, number = self.head, self.number_bytes
        rows = tokens if head.whole else min(tokens, max(1, _CHUNK_BYTES // max(1, 4 * head.vocabulary)))
        pieces = rows * head.vocabulary * (4 + 4 + 2 * number)
        states = 2 * tokens * head.width * (4 + number)
        matrix = head.vocabulary * head.width * (4 + 4 + 2 * number) if head.trained and not head.whole else 0
        return int(pieces + states + matrix)


@dataclass(frozen=True)
class Passes:
    """How a step's sequences are shared out to forward passes."""

    token_budget: int
    """Tokens of a pass where no number of sequences is asked for; a longer sequence has a pass of its own."""

    recompute: bool


def choose(footprint: Footprint, *, memory: int, longest: int, recompute: bool | None, sequences: int | None) -> Passes:
    """The largest passes that surely fit, with activations kept if that fits; if nothing does, the smallest ones.

    Args:
        footprint: the model.
        memory: bytes that the job may use, those that it holds already included.
        longest: tokens of the longest sequence.
        recompute: whether activations are to be computed again, if that was asked for.
        sequences: sequences of a pass, if that was asked for.
    """
    asked = recompute if recompute is not None or footprint.can_recompute else False
    choices = [
        Passes(budget, again)
        for again in ((False, True) if asked is None else (asked,))
        for budget in _budgets(
            GPU_TOKENS if footprint.on_gpu else CPU_TOKENS, _LEAST_TOKENS[again or asked is not None]
        )
    ]
    for passes in choices:
        tokens = max(passes.token_budget, longest) if sequences is None else sequences * longest
        if footprint.peak(surely=tokens, at_most=tokens, recompute=passes.recompute).high <= memory:
            return passes
    return choices[-1]


def _budgets(most: int, least: int) -> list[int]:
    budgets = [most]
    while budgets[-1] > least:
        budgets.append(budgets[-1] // 2)
    return budgets


def quantized(footprint: Footprint, linear: int, bits: int, double: bool) -> Footprint:
    """The footprint with so many parameters of frozen linear layers in fewer bits.

    Every 64 of 4 bits share a scale: of float32, or of 8 bits with a scale of its own for every 256. Of 8 bits, every
    row has one, which does not count.
    """
    each = 1.0 if bits == 8 else 0.5 + (1 / 64 + 4 / (64 * 256) if double else 4 / 64)
    saved = linear * (footprint.number_bytes - each)
    return replace(footprint, weights=int(footprint.weights - saved))
