"""Waits for a job in front of a person, and tells how it ended."""

from tunesmith.cli.client import Client, Json
from tunesmith.cli.display import display
from tunesmith.cli.following import Update, come_back, follow
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.output import data_json, fields, say


def describe(job: Json) -> None:
    """Say which settings the server filled in, so that none is a surprise."""
    spec = job["spec"]
    adapter, optimization = spec["adapter"], spec["optimization"]
    kind = f"LoRA rank {adapter['rank']}, alpha {adapter['alpha']:g}" if adapter else "full fine-tuning"
    steps = f", at most {optimization['max_steps']} steps" if optimization["max_steps"] is not None else ""
    say(
        f"Job {job['id']}: {spec['model']['base']}, {kind}, learning rate {optimization['learning_rate']:g}, "
        f"batch size {optimization['batch_size']}, {optimization['epochs']:g} epochs{steps}, {spec['model']['dtype']}, "
        f"at most {spec['data']['max_length']} tokens a row."
    )


def watch(client: Client, id: str, *, timeout: float | None, as_json: bool) -> None:
    """Follow a job to its end and print what it made.

    Raises:
        CommandError: it failed or was cancelled, or the waiting ended before it did.
    """
    job = _wait(client, id, timeout)
    made = next((model for model in client.models() if model["id"] == job["model"]), None) if job["model"] else None
    if as_json:
        data_json({"job": job, "model": made})
    elif made:
        fields([("Model", made["id"]), ("Path", str(made["path"]))])
    if job["state"] != "succeeded":
        raise _unsuccessful(job)


def _wait(client: Client, id: str, timeout: float | None) -> Json:
    update: Update | None = None
    try:
        with display() as shown:
            for update in follow(client, id, timeout=timeout):
                shown.show(update)
    except KeyboardInterrupt:
        raise CommandError(
            "Detached; the job goes on.",
            hint=f"Come back with `{come_back(client, id)}`, or end it with `tunesmith jobs cancel {id}`.",
            code=ExitCode.INTERRUPTED,
        ) from None
    assert update is not None  # following begins with a look
    return update.job


def _unsuccessful(job: Json) -> CommandError:
    if job["state"] == "cancelled":
        return CommandError(f"Job {job['id']} was cancelled.")
    error = job["error"] or {}
    message = f"Job {job['id']} failed: {error.get('message') or 'no reason was recorded.'}"
    return CommandError(message, hint=error.get("hint") or f"Read `tunesmith jobs logs --worker {job['id']}`.")
