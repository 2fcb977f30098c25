"""The one training loop: steps, metrics, evaluation, checkpoints. What is trained, a task knows."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.rundir import RunDirectory
from tunesmith.spec import events
from tunesmith.spec.errors import CheckpointError, InvalidRequestError, NonFiniteError
from tunesmith.spec.exactness import Fingerprints, differences
from tunesmith.spec.job import JobSpec
from tunesmith.training.checkpoint import folder_name, verify_folder, write_folder
from tunesmith.training.healing import Healing
from tunesmith.training.keeping import Keeping, Kept
from tunesmith.training.optim import build_optimizer, learning_rate
from tunesmith.training.reporting import Reporter
from tunesmith.training.selection import is_time_to_end, with_evaluation
from tunesmith.training.shortage import Whereabouts
from tunesmith.training.state import Progress, fingerprints_in, load_state, read_progress, save_state, seed_all
from tunesmith.training.step_reports import Outcome, StepReports, means_of, recorded_event, totals_of
from tunesmith.training.stopping import StopFlag, StopRequested
from tunesmith.training.task import TOKEN_ACCURACY, Task

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
            self._healing.take(self.progress.portion)
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
        self._require_evaluations()
        self._reports = self._new_reports()
        try:
            if self._spec.cadence.evaluate_first and not self.progress.step:
                self._timed(self._evaluate)
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
            self._tell_early_end()

    def finish(self) -> float:
        """Write and verify the artifact. Returns by how much it changes the base model's logits.

        Raises:
            ArtifactError: it failed its check, and was not kept.
        """
        self._optimizer.state.clear()
        self._take_best()
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
            self._timed(lambda: self._carry_out(self._evaluate))
        if not self._reports.pace.steps and not owed and not asked:
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
        self._at.enter("evaluation", self.progress.step)
        self._task.model.eval()
        passes, trained = [], 0
        with torch.no_grad():
            for batch in self._task.validation_batches():
                self._flag.poll()
                self._reporter.beat()
                self._at.enter("evaluation", self.progress.step, batch)
                passes.append(self._task.forward(batch))
                trained += batch.trained
        self.progress = self.progress.model_copy(update={"evaluated_step": self.progress.step})
        if not trained:
            return
        numbers, counts = totals_of(passes)
        loss, *totals = numbers.tolist()
        means = means_of(dict(zip(counts, zip(totals, counts.values(), strict=True), strict=True)))
        figures = {"loss": loss / trained, **means}
        self._require_finite(figures)
        self._choose(figures)
        self._reporter.write(
            events.Evaluated,
            step=self.progress.step,
            loss=figures["loss"],
            token_accuracy=means.pop(TOKEN_ACCURACY, None),
            extra=means,
            is_best=self.progress.choice.step == self.progress.step,
        )

    def _require_evaluations(self) -> None:
        is_needed = self._spec.selection.is_asked_for or self._spec.cadence.evaluate_first
        if is_needed and next(iter(self._task.validation_batches()), None) is None:
            raise InvalidRequestError(
                "No row is left for validation, and the job asks for something that follows from evaluations.",
                param="data.validation",
                hint="Give validation data, or a larger share of the rows.",
            )

    def _require_finite(self, figures: Mapping[str, float]) -> None:
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        if wrong:
            raise NonFiniteError(
                f"The validation rows' {', '.join(wrong)} after step {self.progress.step} is not finite.",
                hint="Lower the learning rate, or look at the validation rows.",
            )

    def _choose(self, figures: Mapping[str, float]) -> None:
        """Compare an evaluation with those before it."""
        step, spec = self.progress.step, self._spec.selection
        if not step:
            return
        if spec.metric not in figures:
            raise InvalidRequestError(
                f"The evaluation has no figure {spec.metric!r}; it has {', '.join(figures)}.",
                param="selection.metric",
                hint="Choose one of these, or give validation rows of every kind.",
            )
        choice = with_evaluation(self.progress.choice, spec, step, figures[spec.metric])
        self.progress = self.progress.model_copy(update={"choice": choice, "score": figures[spec.metric]})

    def _tell_early_end(self) -> None:
        choice = self.progress.choice
        self._reporter.write(
            events.StoppedEarly,
            step=self.progress.step,
            best_step=choice.step,
            best_value=choice.value,
            metric=self._spec.selection.metric,
            evaluations=choice.fruitless,
        )

    def _take_best(self) -> None:
        """Load the weights that are to become the result, if those of the last step are not."""
        if self._spec.selection.result != "best":
            return
        for kept in self._keeping.by_score():
            if kept.step == self.progress.step:
                return
            try:
                verify_folder(kept.folder)
            except CheckpointError as error:
                self._reporter.note(f"The weights of step {kept.step} cannot become the result: {error.message}")
                continue
            self._task.load(kept.folder)
            self.weights_of = kept.step
            return

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
                "portion": self._healing.portion,
            }
        )
        save_state(folder, self.progress, self._fingerprints, self._optimizer, self._task.model)
