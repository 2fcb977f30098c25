"""A step for which memory does not suffice, done again in smaller portions, where the job asks for that.

A portion changes what goes through the model at once and nothing else: batch, order of rows, random numbers and loss
stay those of a training that had the smaller portion from the start.
"""

import gc
from collections.abc import Callable

import torch

from tunesmith.spec import events
from tunesmith.spec.events import Portion
from tunesmith.spec.job import OptimizationSpec
from tunesmith.training.reporting import Reporter
from tunesmith.training.shortage import is_shortage, release
from tunesmith.training.state import random_state, set_random_state
from tunesmith.training.task import MicroBatch, Task
from tunesmith.training.whereabouts import Whereabouts

_STEP = ("forward", "backward", "optimizer")

_LEAST_TOKENS = 8
"""No length limit is lower, so fewer tokens never make a difference."""


class Healing:
    """Carries work out, in ever smaller portions if need be."""

    def __init__(
        self,
        task: Task,
        optimizer: torch.optim.Optimizer,
        optimization: OptimizationSpec,
        at: Whereabouts,
        reporter: Reporter,
    ) -> None:
        self._task = task
        self._optimizer = optimizer
        self._is_wanted = optimization.on_out_of_memory == "shrink"
        self._may_recompute = optimization.gradient_checkpointing is None
        self._at = at
        self._reporter = reporter

    def carry_out(self, work: Callable[[], None], go_back: Callable[[], int] | None) -> None:
        """Do something that can be done again from its beginning, such as a training step.

        Where the optimizer has begun to change weights, `go_back` takes back the last checkpoint and returns its step;
        none while there is no checkpoint. The work is then not done again: the caller goes on from there.

        Raises:
            Exception: any that the work raises and that a smaller portion does not prevent.
        """
        if not self._is_wanted:
            work()
            return
        beginning = random_state()
        while True:
            try:
                work()
            except Exception as error:
                smaller = self._smaller(error)
                is_spoilt = self._at.changes_weights and self._has_begun()
                if smaller is None or (is_spoilt and go_back is None):
                    raise
            else:
                return
            before = self._task.portion
            # Only here, behind the handler, are the error and the tensors that its traceback held gone.
            self._optimizer.zero_grad()
            gc.collect()
            release(self._task.device)
            if is_spoilt:
                assert go_back is not None
                self._shrink(before, smaller, again_from=go_back() + 1)
                return
            if self._at.phase == "optimizer" and self._at.step == 1:
                self._optimizer.state.clear()  # it may lack a part, for which there was no memory
            set_random_state(beginning)
            self._shrink(before, smaller, again_from=self._at.step)

    def _smaller(self, error: Exception) -> Portion | None:
        if not is_shortage(error):
            return None
        may_recompute = self._may_recompute and self._task.can_recompute
        return smaller_portion(self._task.portion, self._at, may_recompute=may_recompute)

    def _has_begun(self) -> bool:
        """Whether an optimizer that was told to do its step has begun with it: its own counts of steps tell, and one
        that keeps none may have."""
        assert self._at.step is not None
        done = self._at.step - 1
        counts = [int(state["step"]) for state in self._optimizer.state.values() if "step" in state]
        return not counts or any(count != done for count in counts)

    def _shrink(self, before: Portion, smaller: Portion, *, again_from: int | None) -> None:
        at = self._at
        self._task.take(smaller)
        self._reporter.write(
            events.Healed,
            step=at.step,
            phase=at.phase,
            again_from=again_from,
            before=before,
            after=smaller,
            lines=at.lines,
            tokens=at.batch.tokens if at.batch is not None else None,
        )


def smaller_portion(portion: Portion, at: Whereabouts, *, may_recompute: bool) -> Portion | None:
    """The next portion to try; none where nothing smaller would help."""
    is_step = at.phase in _STEP
    if is_step and at.batch is not None and portion.micro_batch_size is not None:
        if portion.micro_batch_size > 1:
            return portion.model_copy(update={"micro_batch_size": portion.micro_batch_size // 2})
    elif is_step or at.phase == "evaluation":
        budget = _halved(portion.token_budget, at.batch)
        if budget is not None:
            return portion.model_copy(update={"token_budget": budget})
    if is_step and may_recompute and not portion.recomputing:
        return portion.model_copy(update={"recomputing": True})
    return None


def smaller_of(one: Portion, other: Portion) -> Portion:
    """What fits where either of two portions does. Both count sequences, or neither."""
    sizes = [each.micro_batch_size for each in (one, other) if each.micro_batch_size is not None]
    return Portion(
        micro_batch_size=min(sizes, default=None),
        token_budget=min(one.token_budget, other.token_budget),
        recomputing=one.recomputing or other.recomputing,
    )


def _halved(budget: int, batch: MicroBatch | None) -> int | None:
    """Tokens that split a batch; none where it is a single sequence, which alone may exceed its budget."""
    if batch is None:  # a pass that the task needs to make its batches
        return budget // 2 if budget >= 2 * _LEAST_TOKENS else None
    if batch.tokens > budget or len(set(batch.lines)) == 1:
        return None
    return batch.tokens // 2
