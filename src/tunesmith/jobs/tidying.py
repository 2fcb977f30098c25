"""What is removed in time: states of ended jobs that only their continuation would have needed, and expired files."""

import shutil
import time
from collections.abc import Sequence

from sqlalchemy import Connection

from tunesmith.assets.content import ContentUse
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.files import delete_expired
from tunesmith.assets.row_cache import RowCache
from tunesmith.assets.uploads import delete_expired_uploads
from tunesmith.jobs.fetching import shown, without_queries
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.job import JobSpec
from tunesmith.spec.lifecycle import TERMINAL, State
from tunesmith.storage import Storage
from tunesmith.store import checkpoints, feeds, jobs, secrets, webhooks
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job

_LOOK_SECONDS = 60.0
_LEFT_OVER_SECONDS = 24 * 3600.0


def tidy(connection: Connection, job: Job, use: ContentUse) -> None:
    """Remove the crash checkpoints of an ended job, the credentials that came with it, and its data if nothing else
    stands for that."""
    if job.state not in TERMINAL:
        return
    offered = {checkpoint.path for checkpoint in checkpoints.offered(connection, job.id)}
    for checkpoint in checkpoints.of_job(connection, job.id):
        if checkpoint.path not in offered:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
            checkpoints.remove(connection, job_id=job.id, path=checkpoint.path, at=time.time())
    secrets.remove_unnamed(connection, job.org, _secrets_of(job))
    jobs.change(connection, job.id, spec=_without_queries(job.spec).model_dump(mode="json"))
    for source in (job.spec.data.train, job.spec.data.validation):
        for sha256 in (source.sha256, source.pictures) if source is not None else ():
            if sha256 is not None:
                use.release(connection, sha256)


def forget_orphans(connection: Connection) -> None:
    """Delete credentials that arrived inside requests and that nothing needs. A server that is killed before it has
    accepted a job, or before it has forgotten an ended one's, leaves such. Called before requests are answered: until
    its job is accepted, a request's credentials look the same."""
    unfinished = jobs.in_state(connection, *(state for state in State if state not in TERMINAL))
    of_jobs = {secret for job in unfinished for secret in _secrets_of(job)}
    secrets.remove_orphans(connection, of_jobs | feeds.secrets_needed(connection) | webhooks.secrets_needed(connection))


def _without_queries(spec: JobSpec) -> JobSpec:
    """The spec without the queries of addresses that were not fetched, where signatures may stand."""
    parts = {name: getattr(spec.data, name) for name in ("train", "validation")}
    shorter = {name: part and part.model_copy(update={"id": shown(part)}) for name, part in parts.items()}
    images = without_queries(spec.data.images)
    return spec.model_copy(update={"data": spec.data.model_copy(update={**shorter, "images": images})})


def _secrets_of(job: Job) -> list[str]:
    """Ids of the credentials that the job was given."""
    parts = (job.spec.model, job.spec.init_from, job.spec.data.train, job.spec.data.validation)
    return [part.secret for part in parts if part is not None and part.secret is not None]


class Tidier:
    """Looks for expired files and uploads, and for what downloads and earlier trainings left, once a minute."""

    def __init__(
        self,
        database: Database,
        use: ContentUse,
        parts: Storage,
        hub: HubModels,
        caches: Sequence[RowCache | EncodedCache],
    ) -> None:
        self._database = database
        self._use = use
        self._parts = parts
        self._hub = hub
        self._caches = caches
        self._next = 0.0

    def tick(self) -> None:
        """Delete what has expired, if it is time to look."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_SECONDS
        with self._database.write() as connection:
            delete_expired(connection, self._use, at=time.time())
            delete_expired_uploads(connection, self._parts, at=time.time())
        self._hub.tidy(_LEFT_OVER_SECONDS)
        for cache in self._caches:
            cache.tidy()
