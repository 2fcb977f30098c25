"""Memory that does not suffice: what it was wanted for, and what would need less."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import suppress

import psutil
import torch

from tunesmith.spec.errors import OutOfMemoryError
from tunesmith.spec.job import JobSpec
from tunesmith.spec.plan import shown
from tunesmith.training.reporting import peak_memory
from tunesmith.training.whereabouts import LINES_SHOWN, Phase, Whereabouts

_PHASES: dict[Phase, str] = {
    "check": "for the check of the job",
    "loading": "to prepare the rows and load the model",
    "forward": "for the forward pass",
    "backward": "for the backward pass",
    "optimizer": "for the optimizer",
    "evaluation": "for the evaluation",
    "sampling": "to answer the prompts of `sampling`",
    "saving": "to write the result or a checkpoint",
    "verification": "to load the result again and verify it",
}

_SIGNS = (
    "out of memory",  # CUDA, also where a library beneath torch asked
    "CUBLAS_STATUS_ALLOC_FAILED",
    "can't allocate memory",  # torch on a processor
    "std::bad_alloc",
    os.strerror(errno.ENOMEM),  # files that are mapped into memory
)


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice, on a GPU or a processor."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def too_little_memory(error: Exception, at: Whereabouts, spec: JobSpec) -> OutOfMemoryError:
    """The same shortage in words: where it happened, how much there is, and what would need less."""
    where = _PHASES[at.phase] + (f" of step {at.step}" if at.step is not None else "")
    text = str(error).strip().splitlines()
    detail = text[0] if text else type(error).__name__
    sentences = [f"The device's memory does not suffice {where}: {detail.rstrip('.')}."]
    if at.batch is not None:
        lines = sorted(set(at.batch.lines))
        first = ", ".join(map(str, at.lines)) + (", ..." if len(lines) > LINES_SHOWN else "")
        sentences.append(f"{at.batch.tokens:,} tokens went through the model at once, those of the lines {first}.")
    sentences.append(_memory(torch.device("cuda" if torch.cuda.is_initialized() else "cpu")))
    return OutOfMemoryError(" ".join(sentences), hint=_hint(at, spec))


def _memory(device: torch.device) -> str:
    total, peak = shown(total_memory(device)), shown(peak_memory(device))
    if device.type == "cuda":
        return f"The GPU has {total}, of which the training had up to {peak} allocated."
    return f"Of {total} of memory the training took up to {peak}."


def total_memory(device: torch.device) -> int:
    """Bytes that a GPU has, or that this process may have at most."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min([int(psutil.virtual_memory().total), *(each for each in limits if each != resource.RLIM_INFINITY)])


def _hint(at: Whereabouts, spec: JobSpec) -> str:
    ways = list(_ways(at, spec))
    return f"Any of these needs less: {'; '.join(ways)}."


def _ways(at: Whereabouts, spec: JobSpec) -> Iterator[str]:
    """What would need less in this phase, with values, the least harmful first."""
    optimization = spec.optimization
    if at.phase in ("loading", "forward", "backward", "optimizer", "evaluation"):
        yield from _smaller_parts(at, spec)
    if spec.sampling is not None and at.phase == "sampling":
        yield f"set `sampling.max_new_tokens` below {spec.sampling.max_new_tokens}"
    if spec.adapter is None:
        yield "train an adapter instead of all weights"
        if optimization.optimizer == "adamw":
            yield "set `optimizer` to `adamw_8bit`"
    elif spec.model.quantization is None:
        yield "quantize the frozen weights to 4 bits"
    if spec.model.dtype == "float32":
        yield "set `dtype` to `bfloat16`"
    yield "take a smaller model or a device with more memory"


def _smaller_parts(at: Whereabouts, spec: JobSpec) -> Iterator[str]:
    optimization = spec.optimization
    rows = len(set(at.batch.lines)) if at.batch is not None else optimization.micro_batch_size
    if rows is None or rows > 1:
        yield f"set `micro_batch_size` to {rows // 2 if rows else 1}"
    if not optimization.gradient_checkpointing:
        yield "set `gradient_checkpointing` to true"
    if at.batch is not None and rows == 1:
        yield f"set `max_length` below {at.batch.tokens}"
    else:
        yield f"set `max_length` to {max(8, spec.data.max_length // 2)}"
    if optimization.on_out_of_memory == "fail" and optimization.gradient_checkpointing is None:
        yield "set `on_out_of_memory` to `shrink`, which finds the portions that fit"


def release(device: torch.device) -> None:
    """Give back what is not in use any more."""
    with suppress(RuntimeError):  # a device that has just run out may refuse even this
        if device.type == "cuda":
            torch.cuda.empty_cache()
