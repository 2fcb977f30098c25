"""One run of our worker, as a server would start it."""

import itertools
import sys
from pathlib import Path
from typing import Any

from case import ALPHA, RANK, RATE, SEED, Order, read_order, write_result
from vision_rows import pictures_of

from tunesmith.rundir import RunDirectory
from tunesmith.spec import job
from tunesmith.spec.events import Failed, Metrics
from tunesmith.worker import main as work_on


def main() -> None:
    """Train."""
    order = read_order()
    run = RunDirectory(Path(order.work) / "run")
    run.write_spec(attempt_of(order))
    code = work_on(run.path)
    reported, _ = run.read_events(0)
    if code:
        sys.exit(str([event.error.sentence() for event in reported if isinstance(event, Failed)]))
    metrics = [event for event in reported if isinstance(event, Metrics)]
    totals = [0, *(event.tokens_total for event in metrics)]
    write_result(
        order,
        losses=[event.loss for event in metrics],
        ends=[event.at.timestamp() for event in metrics],
        tokens=[after - before for before, after in itertools.pairwise(totals)],
    )


def attempt_of(order: Order) -> job.AttemptSpec:
    """The order in the words of our worker."""
    case = order.case
    dtype: Any = case.dtype
    pictures = pictures_of(Path(order.rows)) if case.rows == "pictures" else None
    return job.AttemptSpec(
        job_id="bench",
        attempt=1,
        purpose="train",
        inputs=job.Inputs(
            model=Path(order.model), train=Path(order.rows), validation=None, adapter=None, pictures=pictures
        ),
        spec=job.JobSpec(
            model=job.ModelSpec(
                base="SmolLM2-135M-Instruct",
                dtype=dtype,
                modality="text" if pictures is None else "vision_language",
                quantization=job.QuantizationSpec(bits=4) if case.quantized else None,
            ),
            init_from=None,
            data=job.DataSpec(
                train=job.DataSource(kind="file", id="bench", sha256="0" * 64),
                validation=None,
                max_length=case.length,
                over_long="truncate" if case.rows == "packed" else "refuse",
                packing=case.rows == "packed",
                max_samples=None,
            ),
            method=job.MethodSpec(kind="sft"),
            adapter=job.AdapterSpec(rank=RANK, alpha=ALPHA, dropout=0, targets=("all-linear",)),
            optimization=job.OptimizationSpec(
                learning_rate=RATE,
                schedule="constant",
                warmup_ratio=0,
                weight_decay=0,
                max_grad_norm=1.0,
                epochs=100,
                max_steps=order.steps,
                batch_size=case.batch,
                micro_batch_size=None,
                seed=SEED,
            ),
            cadence=job.CadenceSpec(eval_steps="epoch", save_steps=10**6, keep_checkpoints=1),
        ),
    )


if __name__ == "__main__":
    main()
