"""What the rows of a training come to, told by the first of them where reading all would take too long."""

import statistics

from tunesmith.spec.job import AttemptSpec, OptimizationSpec
from tunesmith.spec.plan import Count, RowsPlan
from tunesmith.training.optim import count_steps
from tunesmith.training.packing import pack
from tunesmith.training.preparation import Preparation, Sample
from tunesmith.training.row_source import RowSource
from tunesmith.training.scaling import Scaling
from tunesmith.training.shapes import R

# Rows read at most and seconds that reading them may take: while somebody waits for an answer, and for a plan.
_ROWS = {"check": 2_000, "plan": None}
_SECONDS = {"check": 0.5, "plan": 10.0}


def planned_rows(attempt: AttemptSpec, source: RowSource, preparation: Preparation[R]) -> RowsPlan:
    """Read rows for a while.

    Raises:
        DatasetError: the file or a row cannot be used, or none can be trained.
    """
    purpose = "plan" if attempt.purpose == "plan" or attempt.rows is None else "check"
    sample = preparation.sample(source, _ROWS[purpose], _SECONDS[purpose])
    seen, lengths = preparation.seen, sample.rows.tokens
    sequences = _sequences(attempt, preparation.max_length, sample)
    scaling = Scaling(
        source=source,
        lengths=lengths,
        read=sample.read,
        last_line=sample.last_line,
        is_whole=sample.is_whole,
        file_rows=sample.last_line if attempt.rows is None else attempt.rows,
        most_tokens=preparation.max_length * preparation.shape.width,
    )
    of_epoch = scaling.packed(len(sequences)) if attempt.spec.data.packing else scaling.rows
    steps = _steps(attempt.spec.optimization, of_epoch)
    return RowsPlan(
        sampled=not scaling.is_exact,
        read=sample.read,
        rows=scaling.rows,
        tokens=scaling.tokens,
        trained_tokens=scaling.trained_tokens(seen.trained_tokens),
        mean=statistics.fmean(lengths),
        longest=max(lengths),
        longest_sequence=max(sequences),
        max_length=preparation.max_length,
        dropped=seen.dropped.count,
        dropped_lines=seen.dropped.lines,
        truncated=seen.cut.count,
        truncated_lines=seen.cut.lines,
        untrained=seen.untrained.count,
        token_sequences=preparation.shape.width,
        sequences=of_epoch,
        steps=steps,
        job_tokens=scaling.job_tokens(attempt.spec.optimization, steps, of_epoch, sequences),
    )


def _sequences(attempt: AttemptSpec, max_length: int, sample: Sample[R]) -> list[int]:
    """Tokens of each training sequence."""
    if not attempt.spec.data.packing:
        return sample.rows.tokens
    lengths = sample.rows.lengths
    return [sum(lengths[row] for row in group) for group in pack(lengths, max_length)]


def _steps(optimization: OptimizationSpec, sequences: Count) -> Count:
    return Count(low=count_steps(optimization, sequences.low), high=count_steps(optimization, sequences.high))
