"""The doors that routes go through, over a database of their own and without a server or a worker."""

import dataclasses
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi.testclient import TestClient

from stored_jobs import EMPTY_SERVICES, job_spec
from tunesmith.access.caller import LOCAL, Caller
from tunesmith.access.keyring import Keyring
from tunesmith.access.organisations import Organisations
from tunesmith.access.secrets import Secrets
from tunesmith.assets.content import ContentUse
from tunesmith.assets.datasets import Datasets
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.dialects import Services
from tunesmith.integrations._door import Integrations
from tunesmith.integrations.webhook.courier import Courier
from tunesmith.integrations.webhook.sending import Sender
from tunesmith.integrations.webhook.subscriptions import Webhooks
from tunesmith.jobs.admission import Admitted
from tunesmith.jobs.service import Jobs
from tunesmith.server.app import _dialect_app
from tunesmith.sources import Limits
from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.job import JobSpec, Submission
from tunesmith.spec.lifecycle import State
from tunesmith.storage import Storage
from tunesmith.store import jobs
from tunesmith.store.database import Database
from tunesmith.store.jobs import Job


@dataclasses.dataclass
class Admission:
    """Accepts every job, until it is told why not."""

    refusal: TunesmithError | None = None

    def admit(self, _org: str, spec: JobSpec) -> Admitted:
        """As the real one, but for the checks."""
        if self.refusal is not None:
            raise self.refusal
        return Admitted(spec=spec, is_complete=True, notes=())


@dataclasses.dataclass
class Doors:
    """Everything that a handler may use."""

    folder: Path
    database: Database
    storage: Storage
    keyring: Keyring
    admission: Admission
    limits: Limits = Limits(max_bytes=1_000_000)  # noqa: RUF009 - it never changes

    @property
    def services(self) -> Services:
        """The doors of everybody who calls an open server."""
        return self.opened_for(LOCAL)

    def opened_for(self, caller: Caller) -> Services:
        """A caller's doors."""
        use, secrets = ContentUse(self.storage), Secrets(self.database, self.keyring)
        return dataclasses.replace(
            EMPTY_SERVICES,
            caller=caller,
            jobs=Jobs(self.database, self.admission, use, self.folder / "jobs", lambda: None, caller),
            files=Files(self.database, self.storage, use, caller.org),
            datasets=Datasets(self.database, use, caller.org),
            base_models=BaseModels({"ours": self.folder}, ()),
            produced_models=ProducedModels(self.database, caller.org),
            organisations=Organisations(self.database),
            secrets=secrets,
            webhooks=Webhooks(
                self.database,
                secrets,
                Courier(self.database, secrets, Sender(self.limits), time.time),
                self.limits,
                time.time,
                caller,
            ),
            integrations=Integrations(self.database, secrets, self.limits, caller, hub_url=None, mlflow_url=None),
            storage=self.storage,
            max_upload_bytes=1_000_000,
        )

    def client(self, name: str, dialect: ModuleType, caller: Caller = LOCAL) -> TestClient:
        """A client of one dialect's routes."""
        app = _dialect_app(name, dialect)

        async def opened(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"services": self.opened_for(caller)}}, receive, send)

        return TestClient(opened, raise_server_exceptions=False)

    def add_dataset(self, name: str, content: bytes) -> None:
        """Register a dataset of the open server."""
        writer = self.storage.writer()
        writer.write(content)
        writer.finish()
        self.services.datasets.add(name, writer, filename="rows.jsonl")

    def add_job(self, state: State = State.QUEUED, **values: Any) -> Job:
        """Insert a job of the open server; keyword arguments set its columns."""
        [job] = self.add_jobs(1, state)
        with self.database.write() as connection:
            return jobs.change(connection, job.id, **values) if values else job

    def add_jobs(self, count: int, state: State = State.QUEUED) -> list[Job]:
        """Insert jobs of the open server."""
        made_by = Submission(dialect="elsewhere", request={})
        owner = {"org": LOCAL.org, "created_by": None}
        with self.database.write() as connection:
            return [
                jobs.add(connection, uuid.uuid4().hex, job_spec(), made_by, **owner, state=state, at=1.5)
                for _ in range(count)
            ]


@contextmanager
def open_doors(folder: Path) -> Iterator[Doors]:
    """Doors over an empty database."""
    database = Database(folder / "tunesmith.db")
    database.migrate()
    Organisations(database).ensure(LOCAL.org)
    try:
        yield Doors(
            folder, database, Storage(folder / "files"), Keyring.open(folder / "keys", needed=False), Admission()
        )
    finally:
        database.close()
