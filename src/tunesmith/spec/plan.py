"""What a training will cost, told before it takes a device: rows, steps, memory, disk, and what would make it fit.

Every figure that is not exact is a range from a low to a high end. Bytes are bytes; times are seconds.
"""

from typing import Literal

from pydantic import JsonValue

from tunesmith.spec.frozen import Frozen


class Count(Frozen):
    """A whole number, or the range that it lies in. Both ends are equal where it is known."""

    low: int
    high: int


class RowsPlan(Frozen):
    """What the training rows come to."""

    sampled: bool
    """Whether not just the rows that take part were tokenised, but only the first of them, or others too because a
    share is drawn. Counts are then ranges, as far as they do not follow from the file's number of rows."""

    read: int
    """Rows that were tokenised."""

    rows: Count
    """Rows that take part."""

    tokens: Count
    """Tokens of one epoch."""

    trained_tokens: Count
    """Tokens of one epoch that carry loss."""

    mean: float
    """Tokens of a row, on average over those that were tokenised and take part. A pair counts with both answers."""

    longest: int
    """Tokens of the longest of these."""

    longest_sequence: int
    """Tokens of the longest training sequence: a packed one if the job packs, else a row."""

    max_length: int
    """Length limit: what was asked for, or the model's context length if that is shorter."""

    dropped: int
    """Of the rows tokenised, those left out because they exceed the length limit."""

    dropped_lines: tuple[int, ...]
    """The first 20."""

    truncated: int
    """Of the rows tokenised, those cut to the length limit."""

    truncated_lines: tuple[int, ...]
    untrained: int
    """Of the rows tokenised, those left out because none of their tokens carries loss."""

    token_sequences: int
    """Token sequences of a row: 2 for pairs, else 1."""

    sequences: Count
    """Packed sequences of an epoch if the job packs, else rows."""

    steps: Count
    """Optimizer steps of the whole job."""

    job_tokens: Count
    """Tokens of the whole job, over all epochs. A range where the job ends within an epoch."""


class MemoryParts(Frozen):
    """What the high end of a memory range is made of, in bytes."""

    weights: int
    """The base model's weights, quantized if so asked, trained ones in float32, and what PiSSA began with."""

    gradients: int
    optimizer: int
    """The optimizer's moments."""

    activations: int
    """What the forward pass keeps for the backward pass, and what one layer needs while it is passed backwards."""

    logits: int
    """The loss: logits of one piece of the trained tokens, and gradients of the head."""

    overhead: int
    """Libraries, the device's context, and what the allocator cannot use."""


class MemoryPlan(Frozen):
    """Peak memory of the one device that a job trains on."""

    low: int
    """Surely needed."""

    high: int
    """Surely enough, as far as the model's architecture is known."""

    parts: MemoryParts
    micro_batch_tokens: int
    """Tokens of the largest forward pass that `high` is for."""

    gradient_checkpointing: bool
    """Whether activations are computed again: as asked for, or as the engine would choose."""


class Alternative(Frozen):
    """A change with which the job surely fits."""

    change: str
    """In words."""

    settings: dict[str, JsonValue]
    """Paths of the spec with their new values."""

    memory: MemoryPlan


class DiskPlan(Frozen):
    """Room on the server's volume, in bytes."""

    base: int
    """Weights of the base model as they lie on disk; already there."""

    artifact: int
    """Weights of the result; with PiSSA, an adapter of twice the rank."""

    checkpoint: int
    """One checkpoint with its optimizer's state."""

    checkpoints: Count
    """All that are kept at once, those against crashes included."""


class TimePlan(Frozen):
    """How long the steps take, in seconds, without waiting, loading, evaluating and saving."""

    low: float
    high: float
    jobs: int
    """Earlier jobs that the speed was measured in."""


class Plan(Frozen):
    """A training before it starts."""

    rows: RowsPlan
    parameters: int
    """Of the base model."""

    trained_parameters: int
    device: str
    """What the plan is for: `cpu`, or a GPU's name."""

    device_memory: int
    """Bytes that a job may use there."""

    memory: MemoryPlan | None
    """None where the architecture cannot be planned; `memory_note` says why."""

    memory_note: str | None = None
    fits: Literal["yes", "perhaps", "no", "unknown"]
    """`yes` if even the high end fits into the device's memory, `no` if not even the low end does."""

    alternatives: tuple[Alternative, ...] = ()
    """What would surely fit, where this job does not; each on its own, or several changes together."""

    disk: DiskPlan
    time: TimePlan | None = None
    """None where no speed was measured."""

    time_note: str | None = None
    """Why there is no time."""


def shown(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / 1e9:,.1f} GB" if size >= 10**9 else f"{size / 1e6:,.0f} MB"
