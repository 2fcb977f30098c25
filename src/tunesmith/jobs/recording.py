"""What each event of a worker changes in the store. Runs inside the transaction that advances the attempt's offset."""

from functools import singledispatchmethod
from typing import Any, Literal

from sqlalchemy import Connection

from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.transitions import move
from tunesmith.rundir import RunDirectory
from tunesmith.spec import events as reported
from tunesmith.spec.lifecycle import STOPPING, State, Trigger, after
from tunesmith.store import attempts, checkpoints, events, jobs
from tunesmith.store.attempts import Attempt
from tunesmith.store.jobs import Job

Level = Literal["info", "warn", "error"]


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
        self._tell(
            event,
            f"Data prepared: {event.rows:,} rows, {event.tokens:,} tokens an epoch of which {event.trained_tokens:,}"
            f"{share} carry loss, {event.total_steps:,} steps.",
        )
        if event.validation_rows or event.test_rows:
            self._tell(
                event,
                f"{event.validation_rows:,} rows are for validation; {event.test_rows:,} are kept apart for tests and "
                "take no part.",
                kind="note",
            )
        for count, lines, what in (
            (event.dropped, event.dropped_lines, "left out: they exceed"),
            (event.truncated, event.truncated_lines, "cut: they exceeded"),
        ):
            if count:
                shown = ", ".join(str(line) for line in lines)
                self._tell(event, f"{count:,} rows were {what} the length limit (lines {shown}).", "warn", kind="note")

    @apply.register
    def _(self, event: reported.Checked) -> None:
        self._tell(event, "The data can be trained on.")

    @apply.register
    def _(self, event: reported.Resumed) -> None:
        self._tell(event, f"Training goes on from the checkpoint of step {event.step}.")

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
    def _(self, event: reported.Evaluated) -> None:
        self._tell(event, f"Step {event.step}: full validation loss={event.loss:.2f}")

    @apply.register
    def _(self, event: reported.Sampled) -> None:
        who = "the base model" if event.step == 0 else "the model"
        self._tell(event, f"Step {event.step}: to {event.prompt[:200]!r} {who} answers {event.file or event.text}.")

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
            job_id=job_id,
            attempt=self._attempt.number,
            step=event.step,
            path=str(path),
            offered=event.offered,
            metrics=self._metrics_at(event.step),
            files=files,
            at=at,
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
        self._tell(event, f"The result was reloaded and changes the model's logits by up to {event.logit_change:.3g}.")
        self._settle(event, Trigger.SUCCEED)

    def settle_without_word(self, *, trigger: Trigger, at: float) -> None:
        """End the attempt of a worker that died without a last event."""
        move(self._connection, self._job(), trigger, at=at, attempt=self._attempt.number)
        attempts.change(self._connection, self._attempt, settled=True)

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
