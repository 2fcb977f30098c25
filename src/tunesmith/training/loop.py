"""The one training loop: steps, metrics, evaluation, checkpoints. What is trained, a task knows."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.spec.job import JobSpec
from tunesmith.training.checkpoint import folder_name, remove_folder, write_folder
from tunesmith.training.optim import build_optimizer, count_steps, learning_rate
from tunesmith.training.order import DataOrder
from tunesmith.training.reporting import Reporter
from tunesmith.training.state import Progress, load_state, save_state, seed_all
from tunesmith.training.step_reports import Outcome, StepReports, means_of, recorded_event, totals_of
from tunesmith.training.stopping import StopFlag, StopRequested
from tunesmith.training.task import TOKEN_ACCURACY, Task

_MIN_SAVE_INTERVAL = 30.0
"""Seconds between checkpoints that only serve to survive a crash."""

_SAVE_SHARE = 20
"""Such a checkpoint is due once training has lasted this many times as long as the last save took."""

_CRASH_CHECKPOINTS_KEPT = 2


class Loop:
    """One training, from its first or a resumed step to its last."""

    def __init__(self, task: Task, spec: JobSpec, run: RunDirectory, reporter: Reporter, flag: StopFlag) -> None:
        self._task = task
        self._spec = spec
        self._run = run
        self._reporter = reporter
        self._flag = flag
        self._fingerprint = spec.model_dump_json()
        self._total = count_steps(spec.optimization, task.sequence_count)
        self._order = DataOrder(spec.optimization, task.sequence_count)
        self._optimizer = build_optimizer(task.model, spec.optimization)
        self._parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self._saved: list[tuple[int, bool]] = []
        self._last_save = time.monotonic()
        self._save_seconds = 0.0
        self.progress = Progress()
        seed_all(spec.optimization.seed)

    def resume(self, folder: Path) -> None:
        """Go on from a whole checkpoint.

        Raises:
            CheckpointError: it belongs to another training.
        """
        self._task.load(folder)
        self.progress = load_state(folder, self._fingerprint, self._optimizer, self._task.model)

    def run(self) -> None:
        """Train to the last step.

        Raises:
            StopRequested: the flag was set; a checkpoint holds everything done.
            NonFiniteError: the loss or the gradient became NaN or infinite.
        """
        self._reports = StepReports(
            self._task, self._order, self._total, self._spec.cadence.log_steps, self.progress.window, self._reporter
        )
        try:
            self._finish_step(self.progress.step)
            while self.progress.step < self._total:
                self._flag.poll()
                self._train_step()
                self._finish_step(self.progress.step)
            self._flag.poll()
        except StopRequested:
            if self.progress.step and self.progress.step not in dict(self._saved):
                self._save(offered=False)
            raise

    def finish(self) -> float:
        """Write and verify the artifact. Returns by how much it changes the base model's logits.

        Raises:
            ArtifactError: it failed its check, and was not kept.
        """
        self._optimizer.state.clear()
        changes: list[float] = []

        def fill(folder: Path) -> None:
            self._task.export(folder)
            changes.append(self._task.verify(folder))

        write_folder(self._run.artifact, fill, {"step": self.progress.step})
        return changes[0]

    def _train_step(self) -> None:
        index = self.progress.step
        sequences = self._order.batch(index)
        batches = self._task.micro_batches(sequences)
        trained = sum(batch.trained for batch in batches)
        self._task.model.train()
        passes = []
        for batch in batches:
            measured = self._task.forward(batch)
            (measured.loss / trained).backward()
            passes.append(replace(measured, loss=measured.loss.detach()))
        norm = self._clip()
        rate = learning_rate(self._spec.optimization, index, self._total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._task.stepped(index + 1)
        tokens = sum(batch.tokens for batch in batches)
        self.progress = self.progress.model_copy(update={"step": index + 1, "tokens": self.progress.tokens + tokens})
        totals, counts = totals_of(passes)
        numbers = torch.cat([norm.float().reshape(1), totals])
        self._reports.add(
            Outcome(
                step=index + 1,
                sequences=sequences,
                numbers=numbers.to("cpu", non_blocking=True),
                counts=counts,
                ready=recorded_event(self._task.device),
                trained=trained,
                tokens=tokens,
                tokens_total=self.progress.tokens,
                rate=rate,
            )
        )

    def _clip(self) -> Tensor:
        limit = self._spec.optimization.max_grad_norm
        if limit is not None:
            return torch.nn.utils.clip_grad_norm_(self._parameters, limit)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _finish_step(self, step: int) -> None:
        """What is due after a step. After a resume: what the interrupted run still owed."""
        asked = self._is_asked(step)
        if asked:
            self._timed(self._sample)
        if not step:
            return
        owed = self._is_due(self._spec.cadence.eval_steps, step) and self.progress.evaluated_step < step
        if owed:
            self._timed(self._evaluate)
        if not self._reports.pace.steps and not owed and not asked:
            return
        if self._is_due(self._spec.cadence.save_steps, step):
            self._timed(lambda: self._save(offered=True))
        elif time.monotonic() - self._last_save >= max(_MIN_SAVE_INTERVAL, _SAVE_SHARE * self._save_seconds):
            self._timed(lambda: self._save(offered=False))

    def _is_due(self, cadence: int | str, step: int) -> bool:
        if step == self._total:
            return True
        return self._order.ends_epoch(step) if isinstance(cadence, str) else step % cadence == 0

    def _is_asked(self, step: int) -> bool:
        sampling = self._spec.sampling
        return sampling is not None and self.progress.sampled_step < step and self._is_due(sampling.every, step)

    def _timed(self, work: Callable[[], None]) -> None:
        self._reports.flush()
        start = time.monotonic()
        work()
        self._reports.pace.exclude(time.monotonic() - start)

    def _sample(self) -> None:
        self.progress = self._task.sample(self.progress, self._reporter, self._flag.poll)

    def _evaluate(self) -> None:
        self._task.model.eval()
        passes, trained = [], 0
        with torch.no_grad():
            for batch in self._task.validation_batches():
                self._flag.poll()
                passes.append(self._task.forward(batch))
                trained += batch.trained
        self.progress = self.progress.model_copy(update={"evaluated_step": self.progress.step})
        if not trained:
            return
        numbers, counts = totals_of(passes)
        loss, *totals = numbers.tolist()
        means = means_of(dict(zip(counts, zip(totals, counts.values(), strict=True), strict=True)))
        self._reporter.write(
            events.Evaluated,
            step=self.progress.step,
            loss=loss / trained,
            token_accuracy=means.pop(TOKEN_ACCURACY, None),
            extra=means,
        )

    def _save(self, *, offered: bool) -> None:
        self._reports.flush()
        start = time.monotonic()
        step = self.progress.step
        name = folder_name(step)
        write_folder(self._run.checkpoints / name, self._fill, {"step": step, "offered": offered})
        self._saved.append((step, offered))
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - start
        path = f"{self._run.checkpoints.name}/{name}"
        self._reporter.write(events.CheckpointSaved, step=step, path=path, offered=offered)
        self._prune(offered=True, keep=self._spec.cadence.keep_checkpoints)
        self._prune(offered=False, keep=_CRASH_CHECKPOINTS_KEPT)

    def _fill(self, folder: Path) -> None:
        self._task.save(folder)
        self.progress = self.progress.model_copy(update={"window": self._reports.window})
        save_state(folder, self.progress, self._fingerprint, self._optimizer, self._task.model)

    def _prune(self, *, offered: bool, keep: int | None) -> None:
        if keep is None:
            return
        for step, kind in [saved for saved in self._saved if saved[1] is offered][:-keep]:
            remove_folder(self._run.checkpoints / folder_name(step))
            self._saved.remove((step, kind))
            path = f"{self._run.checkpoints.name}/{folder_name(step)}"
            self._reporter.write(events.CheckpointRemoved, step=step, path=path)
