"""What a job is called elsewhere."""

from tunesmith.store.jobs import Job


def title_of(job: Job, wanted: str | None) -> str:
    """The name that was asked for, or the job's own, or its id."""
    return wanted or job.submission.name or job.submission.suffix or f"ftjob-{job.id}"
