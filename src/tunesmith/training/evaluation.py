"""Scores the validation rows, and knows which of the scores is the best."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch

from tunesmith.spec import events
from tunesmith.spec.errors import CheckpointError, InvalidRequestError, NonFiniteError
from tunesmith.spec.job import JobSpec
from tunesmith.training.checkpoint import verify_folder
from tunesmith.training.keeping import Kept
from tunesmith.training.reporting import Reporter
from tunesmith.training.selection import with_evaluation
from tunesmith.training.state import Progress
from tunesmith.training.step_reports import means_of, totals_of
from tunesmith.training.task import TOKEN_ACCURACY, Task
from tunesmith.training.whereabouts import Whereabouts


class Evaluation:
    """The evaluations of one training, and what follows from them."""

    def __init__(
        self, task: Task, spec: JobSpec, at: Whereabouts, reporter: Reporter, poll: Callable[[], None]
    ) -> None:
        self._task = task
        self._spec = spec
        self._at = at
        self._reporter = reporter
        self._poll = poll

    def require_rows(self) -> None:
        """See that there is something to evaluate, if something is to follow from it.

        Raises:
            InvalidRequestError: there is not.
        """
        is_needed = self._spec.selection.is_asked_for or self._spec.cadence.evaluate_first
        if is_needed and next(iter(self._task.validation_batches()), None) is None:
            raise InvalidRequestError(
                "No row is left for validation, and the job asks for something that follows from evaluations.",
                param="data.split" if self._spec.data.validation is None else "data.validation",
                hint="Give validation data (`validation`), or a larger share of the rows (`split`).",
            )

    def scored(self, progress: Progress) -> Progress:
        """Score the validation rows, report their figures, and return the progress with that done.

        Raises:
            NonFiniteError: a figure is NaN or infinite.
            InvalidRequestError: the figure that the job chooses by is not among them.
        """
        self._at.enter("evaluation", progress.step)
        self._task.model.eval()
        passes, trained = [], 0
        with torch.no_grad():
            for batch in self._task.validation_batches():
                self._poll()
                self._reporter.beat()
                self._at.enter("evaluation", progress.step, batch)
                passes.append(self._task.forward(batch))
                trained += batch.trained
        progress = progress.model_copy(update={"evaluated_step": progress.step})
        if not trained:
            return progress
        numbers, counts = totals_of(passes)
        loss, *totals = numbers.tolist()
        means = means_of(dict(zip(counts, zip(totals, counts.values(), strict=True), strict=True)))
        figures = {"loss": loss / trained, **means}
        _require_finite(figures, progress.step)
        progress = self._with_choice(progress, figures)
        self._reporter.write(
            events.Evaluated,
            step=progress.step,
            loss=figures["loss"],
            token_accuracy=means.pop(TOKEN_ACCURACY, None),
            extra=means,
            is_best=progress.choice.step == progress.step,
        )
        return progress

    def tell_early_end(self, progress: Progress) -> None:
        """Report that the evaluations ended the training."""
        choice = progress.choice
        self._reporter.write(
            events.StoppedEarly,
            step=progress.step,
            best_step=choice.step,
            best_value=choice.value,
            metric=self._spec.selection.metric,
            evaluations=choice.fruitless,
        )

    def take_best(self, by_score: Iterable[Kept], step: int) -> int | None:
        """Load the best weights that are whole. Returns the step they are of; none if those of this step remain."""
        for kept in by_score:
            if kept.step == step:
                return None
            try:
                verify_folder(kept.folder)
            except CheckpointError as error:
                self._reporter.note(f"The weights of step {kept.step} cannot become the result: {error.message}")
                continue
            self._task.load(kept.folder)
            return kept.step
        return None

    def _with_choice(self, progress: Progress, figures: Mapping[str, float]) -> Progress:
        """The progress once an evaluation is compared with those before it. One of the base model is not."""
        spec = self._spec.selection
        if not progress.step:
            return progress
        if spec.metric not in figures:
            raise InvalidRequestError(
                f"The evaluation has no figure {spec.metric!r}; it has {', '.join(figures)}.",
                param="selection.metric",
                hint="Choose one of these, or give validation rows of every kind.",
            )
        choice = with_evaluation(progress.choice, spec, progress.step, figures[spec.metric])
        return progress.model_copy(update={"choice": choice, "score": figures[spec.metric]})


def _require_finite(figures: Mapping[str, float], step: int) -> None:
    wrong = [name for name, value in figures.items() if not math.isfinite(value)]
    if wrong:
        raise NonFiniteError(
            f"The validation rows' {', '.join(wrong)} after step {step} is not finite.",
            hint="Lower the learning rate, or look at the validation rows.",
        )
