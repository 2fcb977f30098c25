"""The one training loop: steps, metrics, evaluation, checkpoints. What is trained, a task knows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.spec.exactness import Fingerprints, differences
from tunesmith.spec.job import JobSpec
from tunesmith.training.checkpoint import folder_name, write_folder
from tunesmith.training.evaluation import Evaluation
from tunesmith.training.healing import Healing, smaller_of
from tunesmith.training.keeping import Keeping, Kept
from tunesmith.training.optim import build_optimizer, learning_rate
from tunesmith.training.reporting import Reporter
from tunesmith.training.selection import is_time_to_end
from tunesmith.training.state import Progress, fingerprints_in, load_state, read_progress, save_state, seed_all
from tunesmith.training.step_reports import Outcome, StepReports, recorded_event, totals_of
from tunesmith.training.stopping import StopFlag, StopRequested
from tunesmith.training.task import Task
from tunesmith.training.whereabouts import Whereabouts

_MIN_SAVE_INTERVAL = 30.0
"""Seconds between checkpoints that only serve to survive a crash."""

_SAVE_SHARE = 20
"""Such a checkpoint is due once training has lasted this many times as long as the last save took."""


class Loop:
    """One training, from its first or a resumed step to its last."""

    def __init__(
        self,
        task: Task,
        spec: JobSpec,
        fingerprints: Fingerprints,
        run: RunDirectory,
        reporter: Reporter,
        flag: StopFlag,
        at: Whereabouts,
    ) -> None:
        self._task = task
        self._spec = spec
        self._run = run
        self._reporter = reporter
        self._flag = flag
        self._fingerprints = fingerprints
        self._at = at
        self._order = task.order
        self._total = self._order.total
        self._optimizer = build_optimizer(task.model, spec.optimization)
        self._parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self._keeping = Keeping(run, spec, reporter)
        self._evaluation = Evaluation(task, spec, at, reporter, flag.poll)
        self._healing = Healing(task, self._optimizer, spec.optimization, at, reporter)
        self._newest: Path | None = None
        self._last_save = time.monotonic()
        self._save_seconds = 0.0
        self.progress = Progress()
        self.weights_of: int | None = None
        """The step that the artifact's weights are of, if it is not the last one."""

        seed_all(spec.optimization.seed)

    def resume(self, folder: Path) -> tuple[str, ...]:
        """Go on from a whole checkpoint. Returns what is not as it was when it was saved.

        Raises:
            CheckpointError: it belongs to another training.
        """
        before = fingerprints_in(folder, self._fingerprints)
        progress = read_progress(folder)
        self._order.restore(progress.step, progress.order)
        self._task.load(folder)
        self.progress = load_state(folder, self._optimizer, self._task.model)
        if self.progress.portion is not None:
            is_same_device = before.device == self._fingerprints.device
            known = self.progress.portion
            self._task.take(known if is_same_device else smaller_of(known, self._task.portion))
        self._newest = folder
        return differences(before, self._fingerprints)

    def adopt(self, folders: Sequence[Path]) -> None:
        """Take over the checkpoints of earlier attempts: they count among those that are kept."""
        self._keeping.adopt(folders, self.progress.step)

    def run(self) -> None:
        """Train to the last step.

        Raises:
            StopRequested: the flag was set; a checkpoint holds everything done.
            NonFiniteError: the loss, the gradient or a figure of an evaluation became NaN or infinite.
            InvalidRequestError: something is to follow from evaluations, and there is nothing to evaluate or the method
                does not report the figure.
        """
        self._evaluation.require_rows()
        self._reports = self._new_reports()
        try:
            if self._spec.cadence.evaluate_first and not self.progress.step:
                self._timed(lambda: self._carry_out(self._evaluate))
            self._finish_step(self.progress.step)
            while not self._is_over():
                self._flag.poll()
                self._carry_out(self._train_step)
                self._finish_step(self.progress.step)
            self._flag.poll()
            self._order.finish()
        except StopRequested:
            if self.progress.step and not self._keeping.has(self.progress.step):
                self._save(offered=False)
            raise
        finally:
            self._order.close()
        if self.progress.step < self._total:
            self._evaluation.tell_early_end(self.progress)

    def finish(self) -> float:
        """Write and verify the artifact. Returns by how much it changes the base model's logits.

        Raises:
            ArtifactError: it failed its check, and was not kept.
        """
        self._optimizer.state.clear()
        if self._spec.selection.result == "best":
            self.weights_of = self._evaluation.take_best(self._keeping.by_score(), self.progress.step)
        changes: list[float] = []

        def fill(folder: Path) -> None:
            self._at.enter("saving")
            self._task.export(folder)
            self._at.enter("verification")
            changes.append(self._task.verify(folder))

        write_folder(self._run.artifact, fill, {"step": self.progress.step})
        return changes[0]

    def _train_step(self) -> None:
        index = self.progress.step
        sequences = self._order.batch(index)
        self._at.enter("forward", index + 1)
        batches = self._task.micro_batches(sequences)
        trained = sum(batch.trained for batch in batches)
        self._task.model.train()
        passes = []
        for batch in batches:
            self._reporter.beat()
            self._at.enter("forward", index + 1, batch)
            measured = self._task.forward(batch)
            self._at.enter("backward", index + 1, batch)
            (measured.loss / trained).backward()
            passes.append(replace(measured, loss=measured.loss.detach()))
        self._at.enter("optimizer", index + 1, max(batches, key=lambda batch: batch.tokens))
        norm = self._clip()
        rate = self._rate(index)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._at.changes_weights = True
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

    def _carry_out(self, work: Callable[[], None]) -> None:
        """Do something that can be done again from its beginning."""
        self._healing.carry_out(work, self._go_back if self._newest is not None else None)

    def _go_back(self) -> int:
        """Take back the newest checkpoint, and forget what was not reported since."""
        assert self._newest is not None
        self.resume(self._newest)
        self._reports = self._new_reports()
        return self.progress.step

    def _new_reports(self) -> StepReports:
        every = self._spec.cadence.log_steps
        return StepReports(self._task, self._order, self._total, every, self.progress, self._reporter)

    def _rate(self, index: int) -> float:
        """The learning rate of the step with this index, from 0."""
        return learning_rate(self._spec.optimization, index, self._total)

    def _clip(self) -> Tensor:
        limit = self._spec.optimization.max_grad_norm
        if limit is not None:
            return torch.nn.utils.clip_grad_norm_(self._parameters, limit)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _finish_step(self, step: int) -> None:
        """What is due after a step. After a resume: what the interrupted run still owed."""
        owed = self._is_due(self._spec.cadence.eval_steps, step) and self.progress.evaluated_step < step
        if owed:
            self._timed(lambda: self._carry_out(self._evaluate))
        if self._is_over():  # which the evaluation may have decided
            self._timed(lambda: self._reports.end(self.progress, self._rate(step - 1)))
        asked = self._is_asked(step)
        if asked:
            self._timed(self._sample)
        if not step or not (self._reports.pace.steps or owed or asked):
            return
        if self._is_due(self._spec.cadence.save_steps, step):
            self._timed(lambda: self._save(offered=True))
        elif self._is_best(step) or self._is_loss_large():
            self._timed(lambda: self._save(offered=False))

    def _is_best(self, step: int) -> bool:
        """Whether the weights after a step would become the result, were this the last evaluation."""
        return self._spec.selection.result == "best" and self.progress.choice.step == step

    def _is_loss_large(self) -> bool:
        """Whether a crash would now cost more than a checkpoint does."""
        return time.monotonic() - self._last_save >= max(_MIN_SAVE_INTERVAL, _SAVE_SHARE * self._save_seconds)

    def _is_due(self, cadence: int | str, step: int) -> bool:
        if self._is_over():
            return True
        return self._order.ends_epoch(step) if isinstance(cadence, str) else step % cadence == 0

    def _is_over(self) -> bool:
        return self.progress.step == self._total or is_time_to_end(self.progress.choice, self._spec.selection)

    def _is_asked(self, step: int) -> bool:
        sampling = self._spec.sampling
        return sampling is not None and self.progress.sampled_step < step and self._is_due(sampling.every, step)

    def _timed(self, work: Callable[[], None]) -> None:
        self._reports.flush()
        start = time.monotonic()
        work()
        self._reports.pace.exclude(time.monotonic() - start)

    def _sample(self) -> None:
        self._at.enter("sampling", self.progress.step)
        self.progress = self._task.sample(self.progress, self._reporter, self._flag.poll)

    def _evaluate(self) -> None:
        self.progress = self._evaluation.scored(self.progress)

    def _save(self, *, offered: bool) -> None:
        self._reports.flush()
        start = time.monotonic()
        step = self.progress.step
        score = self.progress.score if self.progress.evaluated_step == step else None
        folder = self._run.checkpoints / folder_name(step)
        self._at.enter("saving", step)
        write_folder(folder, self._fill, {"step": step, "offered": offered, "score": score})
        self._newest = folder
        self._last_save = time.monotonic()
        self._save_seconds = self._last_save - start
        path = str(folder.relative_to(self._run.path))
        self._reporter.write(events.CheckpointSaved, step=step, path=path, offered=offered, score=score)
        self._keeping.add(Kept(step, offered, score, folder))

    def _fill(self, folder: Path) -> None:
        self._task.save(folder)
        self.progress = self.progress.model_copy(
            update={
                "window": self._reports.window,
                "levels": self._reports.levels,
                "order": self._order.state(self.progress.step),
                "portion": self._task.portion,
            }
        )
        save_state(folder, self.progress, self._fingerprints, self._optimizer, self._task.model)
