"""What a model gave answers before training: the reference that some losses hold it against.

It is computed once, before the first step, from the model as it begins: the base model, as a new adapter has no effect
yet; the base with the adapter that is continued; or the weights that full tuning starts from. So no second model is
kept, and a resumed training computes the same again.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from tunesmith.training.model_task import OpenedModel
from tunesmith.training.pair_rows import PairRow
from tunesmith.training.text import TokenRow
from tunesmith.training.workplace import Workplace

_REPORT_SECONDS = 30.0
"""Between two reports of how far the work is."""


@torch.no_grad()
def reference_log_probs(opened: OpenedModel, rows: Sequence[TokenRow], workplace: Workplace) -> list[float]:
    """Log-probability in nats of the trained tokens of each row. Work that takes a while reports how far it is."""
    opened.model.eval()
    found: list[float] = []
    reported = time.monotonic()
    for group in opened.grouped([[row] for row in rows], None):
        workplace.poll()
        if time.monotonic() - reported >= _REPORT_SECONDS:
            reported = time.monotonic()
            workplace.reporter.note(
                f"Before the first step, the reference is computed: {len(found)} of {len(rows)} answers are done.",
                warn=False,
            )
        found += opened.language_model.row_log_probs(opened.language_model.batches(group)).tolist()
    return found


def with_reference(
    opened: OpenedModel, pairs: Sequence[PairRow], used: Collection[int], workplace: Workplace
) -> list[PairRow]:
    """The pairs, those in `used` with the reference of both answers."""
    rows = [row for index in sorted(used) for row in (pairs[index].chosen, pairs[index].rejected)]
    found = iter(reference_log_probs(opened, rows, workplace))
    known = {index: (next(found), next(found)) for index in sorted(used)}
    return [replace(pair, reference=known.get(index)) for index, pair in enumerate(pairs)]
