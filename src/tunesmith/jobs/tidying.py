"""What is removed once a job has ended for good: states that only its continuation would have needed."""

import shutil
import time

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.spec.lifecycle import TERMINAL
from tunesmith.store import checkpoints
from tunesmith.store.jobs import Job


def tidy(connection: Connection, job: Job, use: ContentUse) -> None:
    """Remove the crash checkpoints of an ended job, and its data if the user deleted the files meanwhile."""
    if job.state not in TERMINAL:
        return
    offered = {checkpoint.path for checkpoint in checkpoints.offered(connection, job.id)}
    for checkpoint in checkpoints.of_job(connection, job.id):
        if checkpoint.path not in offered:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
            checkpoints.remove(connection, job_id=job.id, path=checkpoint.path, at=time.time())
    for source in (job.spec.data.train, job.spec.data.validation):
        if source is not None:
            use.release(connection, source.sha256)
