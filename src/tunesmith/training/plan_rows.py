"""What the rows of a training come to, told by the first of them where reading all would take too long."""

import math
import statistics
from collections.abc import Sequence

from tunesmith.spec.job import AttemptSpec, OptimizationSpec
from tunesmith.spec.plan import Count, RowsPlan
from tunesmith.training.optim import count_steps, steps_per_epoch
from tunesmith.training.packing import pack
from tunesmith.training.preparation import Preparation, Sample
from tunesmith.training.row_source import RowSource
from tunesmith.training.shapes import R

# Rows read at most and seconds that reading them may take: while somebody waits for an answer, and for a plan.
_ROWS = {"check": 2_000, "plan": None}
_SECONDS = {"check": 0.5, "plan": 10.0}

_FIRST_ROWS_DIFFER = 0.1
"""Share by which the rows of a file may differ from the first ones, beside what chance makes."""


def planned_rows(attempt: AttemptSpec, source: RowSource, preparation: Preparation[R]) -> RowsPlan:
    """Read rows for a while.

    Raises:
        DatasetError: the file or a row cannot be used, or none can be trained.
    """
    purpose = "plan" if attempt.purpose == "plan" or attempt.rows is None else "check"
    sample = preparation.sample(source, _ROWS[purpose], _SECONDS[purpose])
    is_exact = sample.is_whole and source.share == 1
    seen, tokens = preparation.seen, sample.rows.tokens
    sequences = _sequences(attempt, preparation.max_length, sample)
    factor, spread = (1.0, 0.0) if is_exact else (_factor(attempt, source, sample), _spread(tokens))
    all_sequences = _scaled(len(sequences), factor, spread)
    steps = _steps(attempt.spec.optimization, all_sequences)
    all_tokens = _scaled(sum(tokens), factor, spread)
    return RowsPlan(
        sampled=not is_exact,
        read=sample.read,
        rows=_scaled(len(sample.rows), factor, spread),
        tokens=all_tokens,
        trained_tokens=_scaled(seen.trained_tokens, factor, spread),
        mean=statistics.fmean(tokens),
        longest=max(tokens),
        longest_sequence=max(sequences),
        max_length=preparation.max_length,
        dropped=seen.dropped.count,
        dropped_lines=seen.dropped.lines,
        truncated=seen.cut.count,
        truncated_lines=seen.cut.lines,
        untrained=seen.untrained.count,
        token_sequences=len(sample.rows[0].sequences),
        sequences=all_sequences,
        steps=steps,
        job_tokens=job_tokens(attempt.spec.optimization, all_tokens, all_sequences, steps),
    )


def _sequences(attempt: AttemptSpec, max_length: int, sample: Sample[R]) -> list[int]:
    """Tokens of each training sequence."""
    if not attempt.spec.data.packing:
        return sample.rows.tokens
    lengths = sample.rows.lengths
    return [sum(lengths[row] for row in group) for group in pack(lengths, max_length)]


def _factor(attempt: AttemptSpec, source: RowSource, sample: Sample[R]) -> float:
    """How many times the rows that were read there are."""
    if sample.is_whole:
        return source.share
    assert attempt.rows is not None
    of_part = min(1.0, sample.read / max(1, sample.last_line))
    expected = attempt.rows * of_part * source.share
    if source.limit is not None:
        expected = min(expected, source.limit)
    return max(expected, sample.read * source.share) / sample.read


def _spread(tokens: Sequence[int]) -> float:
    """Share by which a figure of all rows may be off: twice the standard error, and somewhat more."""
    if len(tokens) < 2:
        return 1.0
    error = statistics.stdev(tokens) / (statistics.fmean(tokens) * math.sqrt(len(tokens)))
    return min(1.0, 2 * error + _FIRST_ROWS_DIFFER)


def _scaled(seen: int, factor: float, spread: float) -> Count:
    low, high = seen * factor * (1 - spread), seen * factor * (1 + spread)
    return Count(low=max(min(seen, 1), round(low)), high=max(min(seen, 1), round(high)))


def _steps(optimization: OptimizationSpec, sequences: Count) -> Count:
    return Count(low=count_steps(optimization, sequences.low), high=count_steps(optimization, sequences.high))


def job_tokens(optimization: OptimizationSpec, tokens: Count, sequences: Count, steps: Count) -> Count:
    """Tokens of the whole job, of which an epoch has so many."""
    ends = [
        round(of_epoch * min(optimization.epochs, steps_taken / steps_per_epoch(optimization, count)))
        for of_epoch, count, steps_taken in (
            (tokens.low, sequences.low, steps.low),
            (tokens.high, sequences.high, steps.high),
        )
    ]
    return Count(low=min(ends), high=max(ends))
