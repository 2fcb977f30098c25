"""What each event of a worker changes in the store. Runs inside the transaction that advances the attempt's offset."""

from functools import singledispatchmethod
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.transitions import move
from tunesmith.rundir import RunDirectory
from tunesmith.spec import events as reported
from tunesmith.spec.exactness import Resume
from tunesmith.spec.lifecycle import STOPPING, State, Trigger, after
from tunesmith.spec.receipt import Lines, over_long
from tunesmith.store import attempts, checkpoints, events, jobs
from tunesmith.store.attempts import Attempt
from tunesmith.store.jobs import Job

Level = Literal["info", "warn", "error"]

_EXCERPT_CHARACTERS = 200


class Recorder:
    """Applies one attempt's events."""

    def __init__(self, connection: Connection, publisher: Publisher, attempt: Attempt, run: RunDirectory) -> None:
        self._connection = connection
        self._publisher = publisher
        self._attempt = attempt
        self._run = run

    @singledispatchmethod
    def apply(self, event: reported.WorkerEvent) -> None:
        """Store an event and what follows from it."""
        raise NotImplementedError(f"no rule for {event!r}")

    @apply.register
    def _(self, event: reported.Started) -> None:
        self._tell(event, f"The worker runs on {event.device}.")
        self._trigger(event, Trigger.STARTED)

    @apply.register
    def _(self, event: reported.Prepared) -> None:
        jobs.change(self._connection, self._attempt.job_id, total_steps=event.total_steps)
        share = "" if event.trained_share is None else f" ({event.trained_share:.1%})"
        how, about = "Data prepared", ""
        if event.sampled_rows is not None:
            how = f"Data is prepared as the training goes on; planned from {event.sampled_rows:,} rows"
            about = "about "
        self._tell(
            event,
            f"{how}: {event.rows:,} rows, {about}{event.tokens:,} tokens an epoch of which {about}"
            f"{event.trained_tokens:,}{share} carry loss, {event.total_steps:,} steps.",
        )
        if event.validation_rows or event.test_rows:
            self._tell(
                event,
                f"{event.validation_rows:,} rows are for validation; {event.test_rows:,} are kept apart for tests and "
                "take no part.",
                kind="note",
            )
        dropped = Lines(count=event.dropped, lines=event.dropped_lines)
        cut = Lines(count=event.truncated, lines=event.truncated_lines)
        for sentence in over_long(dropped, cut):
            self._tell(event, sentence, "warn", kind="note")

    @apply.register
    def _(self, event: reported.Checked) -> None:
        self._tell(event, "The data can be trained on.")

    @apply.register
    def _(self, event: reported.Captioned) -> None:
        self._tell(event, f"{event.picture}: {event.caption}")

    @apply.register
    def _(self, event: reported.Resumed) -> None:
        job = self._job()
        resume = Resume(
            at=event.at.timestamp(),
            attempt=self._attempt.number,
            step=event.step,
            exactness=event.exactness,
            differences=event.differences,
        )
        values = [each.model_dump(mode="json") for each in (*job.resumes, resume)]
        jobs.change(self._connection, job.id, step=event.step, resumes=values)
        self._tell(event, _how_it_goes_on(event), "info" if event.exactness == "exact" else "warn")

    @apply.register
    def _(self, event: reported.Metrics) -> None:
        at = event.at.timestamp()
        jobs.change(
            self._connection,
            self._attempt.job_id,
            step=event.step,
            total_steps=event.total_steps,
            trained_tokens=event.tokens_total,
            estimated_finish=at + event.eta_seconds if event.eta_seconds is not None else None,
        )
        self._tell(event, f"Step {event.step}/{event.total_steps}: training loss={event.loss:.2f}")

    @apply.register
    def _(self, event: reported.Progressed) -> None:
        jobs.change(
            self._connection,
            self._attempt.job_id,
            step=event.step,
            total_steps=event.total_steps,
            trained_tokens=event.tokens_total,
            estimated_finish=event.at.timestamp() + event.eta_seconds,
        )

    @apply.register
    def _(self, event: reported.Anomaly) -> None:
        figure = {"loss": "loss", "grad_norm": "gradient norm"}[event.figure]
        if event.what == "spike":
            what = f"the {figure} is {event.value:.3g}, and {event.usual:.3g} was usual in the steps before"
        else:
            what = (
                f"the smoothed loss has been far above its lowest, {event.usual:.3g}, for long: it is {event.value:.3g}"
            )
        lines = ", ".join(map(str, event.lines))
        self._tell(event, f"Step {event.step}: {what}. Lines of its rows: {lines}. The training goes on.", "warn")

    @apply.register
    def _(self, event: reported.Evaluated) -> None:
        best = " (the best so far)" if event.is_best else ""
        self._tell(event, f"Step {event.step}: full validation loss={event.loss:.2f}{best}")

    @apply.register
    def _(self, event: reported.StoppedEarly) -> None:
        asked = self._job().spec.selection.min_improvement
        those = "the last evaluation" if event.evaluations == 1 else f"the last {event.evaluations:,} evaluations"
        by = f" by more than {asked:g}" if asked else ""
        self._tell(
            event,
            f"The training ends early, at step {event.step}: {those} did not improve the best {event.metric}{by}. The "
            f"best is that of step {event.best_step}, {event.best_value:.4g}.",
        )

    @apply.register
    def _(self, event: reported.Sampled) -> None:
        prompt, who = repr(_excerpt(event.prompt)), "the base model" if event.step == 0 else "the model"
        if event.text is None:
            self._tell(event, f"Step {event.step}: of {prompt} {who} draws {event.file}.")
        else:
            self._tell(event, f"Step {event.step}: to {prompt} {who} answers {_excerpt(event.text)!r}.")

    @apply.register
    def _(self, event: reported.Healed) -> None:
        self._tell(
            event,
            f"Step {event.step}: memory did not suffice ({event.phase}). From step {event.again_from} on, "
            f"{_difference(event.before, event.after)}; batch and loss stay the same.",
            "warn",
        )

    @apply.register
    def _(self, event: reported.CheckpointSaved) -> None:
        job_id = self._attempt.job_id
        if event.step > checkpoints.best_step(self._connection, job_id):
            jobs.change(self._connection, job_id, fruitless_losses=0)
        at, path = event.at.timestamp(), self._run.path / event.path
        # A worker that is ahead of the server may have removed it again; the event of that follows.
        is_there = event.offered and path.is_dir()
        files = []
        if is_there:
            org = self._job().org
            files = self._publisher.offer(self._connection, path, org=org, step=event.step, at=at)
        checkpoints.add(
            self._connection,
            event,
            job_id=job_id,
            attempt=self._attempt.number,
            path=str(path),
            metrics=self._metrics_at(event.step),
            files=files,
        )
        if event.offered:
            self._tell(event, f"Checkpoint created at step {event.step}.")

    @apply.register
    def _(self, event: reported.CheckpointRemoved) -> None:
        job_id, path, at = self._attempt.job_id, str(self._run.path / event.path), event.at.timestamp()
        checkpoint = checkpoints.at_path(self._connection, job_id, path)
        if checkpoint is not None:
            self._publisher.withdraw(self._connection, checkpoint.files, at=at)
        checkpoints.remove(self._connection, job_id=job_id, path=path, at=at)

    @apply.register
    def _(self, event: reported.Note) -> None:
        self._tell(event, event.message, event.level)

    @apply.register
    def _(self, event: reported.Stopped) -> None:
        self._tell(event, f"The worker saved its state at step {event.step} and ended.")
        self._settle(event, Trigger.STOPPED)

    @apply.register
    def _(self, event: reported.Failed) -> None:
        self._tell(event, event.error.sentence(), "error")
        if after(self._job().state, Trigger.FAIL) is State.FAILED:
            jobs.change(self._connection, self._attempt.job_id, error=event.error.model_dump())
        self._settle(event, Trigger.FAIL)

    @apply.register
    def _(self, event: reported.Succeeded) -> None:
        at = event.at.timestamp()
        job = self._job()
        if after(job.state, Trigger.SUCCEED) is State.SUCCEEDED:
            path = self._publisher.move_artifact(job, self._run.path / event.path)
            self._publisher.publish(self._connection, job, path, at=at)
            self._offer(job, event.weights_of, at)
        if event.weights_of is not None:
            self._tell(event, f"The result has the weights of step {event.weights_of}, the best one.", kind="note")
        self._tell(event, f"The result was reloaded and changes the model's logits by up to {event.logit_change:.3g}.")
        self._settle(event, Trigger.SUCCEED)

    def settle_without_word(self, *, trigger: Trigger, at: float) -> None:
        """End the attempt of a worker that died without a last event."""
        move(self._connection, self._job(), trigger, at=at, attempt=self._attempt.number)
        attempts.change(self._connection, self._attempt, settled=True)

    def _offer(self, job: Job, weights_of: int | None, at: float) -> None:
        """Show the checkpoint whose weights the result has, also where none was asked for at its step."""
        found = next((each for each in checkpoints.of_job(self._connection, job.id) if each.step == weights_of), None)
        if found is not None and not found.offered:
            files = self._publisher.offer(self._connection, Path(found.path), org=job.org, step=found.step, at=at)
            checkpoints.offer(self._connection, found.id, files)

    def _settle(self, event: reported.WorkerEvent, trigger: Trigger) -> None:
        self._trigger(event, trigger)
        attempts.change(self._connection, self._attempt, settled=True)

    def _trigger(self, event: reported.WorkerEvent, trigger: Trigger) -> None:
        job = self._job()
        if trigger is Trigger.STARTED and job.state in STOPPING:
            return  # asked to stop before it reported
        move(self._connection, job, trigger, at=event.at.timestamp(), attempt=self._attempt.number)

    def _job(self) -> Job:
        job = jobs.get(self._connection, self._attempt.job_id)
        assert job is not None
        return job

    def _metrics_at(self, step: int) -> dict[str, float]:
        """Training and validation figures of a step, by OpenAI's names."""
        metrics: dict[str, float] = {"step": step}
        names = {
            "metrics": {"loss": "train_loss", "token_accuracy": "train_mean_token_accuracy"},
            "evaluated": {"loss": "full_valid_loss", "token_accuracy": "full_valid_mean_token_accuracy"},
        }
        for kind, keys in names.items():
            latest = events.latest(self._connection, self._attempt.job_id, kind)
            if latest and latest.data["step"] == step:
                metrics |= {name: latest.data[key] for key, name in keys.items() if latest.data[key] is not None}
        return metrics

    def _tell(self, event: reported.WorkerEvent, message: str, level: Level = "info", kind: str | None = None) -> None:
        data: dict[str, Any] = event.model_dump(mode="json", exclude={"at", "kind"})
        events.add(
            self._connection,
            self._attempt.job_id,
            at=event.at.timestamp(),
            kind=kind or event.kind,
            message=message,
            level=level,
            attempt=self._attempt.number,
            data=data,
        )


def _how_it_goes_on(event: reported.Resumed) -> str:
    why = "; ".join(event.differences) or "its worker did not compare"
    match event.exactness:
        case "exact":
            return (
                f"Training goes on from the checkpoint of step {event.step}, exactly: spec, data, tokenizer, model, "
                "libraries and device are the same."
            )
        case "approximate":
            return f"Training goes on from the checkpoint of step {event.step}, approximately: {why}."
        case "restarted":
            return f"Training starts again from its first step: {why.rstrip('.')}."


def _excerpt(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARACTERS else f"{line[: _EXCERPT_CHARACTERS - 1]}…"


def _difference(before: reported.Portion, after: reported.Portion) -> str:
    """By how much less goes through the model at once."""
    if after.micro_batch_size != before.micro_batch_size:
        return f"a forward pass takes {after.micro_batch_size} sequences instead of {before.micro_batch_size}"
    if after.token_budget != before.token_budget:
        return f"a forward pass takes up to {after.token_budget} tokens instead of {before.token_budget}"
    return "activations are computed again instead of kept"
