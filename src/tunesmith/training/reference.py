"""What a model gave answers before training: the reference that some losses hold it against.

It is computed once, before the first step, from the model as it begins: the base model, as a new adapter has no effect
yet; the base with the adapter that is continued; or the weights that full tuning starts from. So no second model is
kept, and a resumed training computes the same again.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch

from tunesmith.training.model_task import OpenedModel
from tunesmith.training.pair_rows import PairRow
from tunesmith.training.text import TokenRow


@torch.no_grad()
def reference_log_probs(opened: OpenedModel, rows: Sequence[TokenRow], poll: Callable[[], None]) -> list[float]:
    """Log-probability in nats of the trained tokens of each row."""
    opened.model.eval()
    found: list[float] = []
    for group in opened.grouped([[row] for row in rows], None):
        poll()
        found += opened.language_model.row_log_probs(opened.language_model.batches(group)).tolist()
    return found


def with_reference(
    opened: OpenedModel, pairs: Sequence[PairRow], used: Collection[int], poll: Callable[[], None]
) -> list[PairRow]:
    """The pairs, those in `used` with the reference of both answers."""
    rows = [row for index in sorted(used) for row in (pairs[index].chosen, pairs[index].rejected)]
    found = iter(reference_log_probs(opened, rows, poll))
    known = {index: (next(found), next(found)) for index in sorted(used)}
    return [replace(pair, reference=known.get(index)) for index, pair in enumerate(pairs)]
