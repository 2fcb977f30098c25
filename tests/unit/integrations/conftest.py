"""Jobs with stored events, real receivers on the loopback, and a clock that a test moves."""

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from connections import LOOPBACK, connections
from receiver import Receiver
from stored_jobs import job_spec
from tunesmith.access.caller import Caller, Role
from tunesmith.access.keyring import Keyring
from tunesmith.access.secrets import Secrets
from tunesmith.integrations._feeder import Feeder
from tunesmith.integrations.webhook import create
from tunesmith.integrations.webhook.courier import Courier
from tunesmith.integrations.webhook.sending import Sender
from tunesmith.integrations.webhook.subscriptions import Webhooks
from tunesmith.jobs.admission import Admitted
from tunesmith.jobs.submitting import accept
from tunesmith.plugins import load_plugins
from tunesmith.sources import Limits
from tunesmith.spec.job import Submission
from tunesmith.spec.lifecycle import State
from tunesmith.store import events, feeds, jobs
from tunesmith.store.database import Database


@dataclass
class Clock:
    """The time of day, moved ahead by a test."""

    ahead: float = 0.0

    def __call__(self):
        return time.time() + self.ahead


class NoModels:
    def find(self, _id):
        return None


@dataclass
class Doors:
    produced_models: NoModels = field(default_factory=NoModels)


@dataclass
class Post:
    """The parts around webhooks."""

    database: Database
    secrets: Secrets
    clock: Clock
    limits: Limits = LOOPBACK
    owner: Caller = field(default_factory=lambda: Caller(org="acme", user=None, role=Role.OWNER))

    def __post_init__(self):
        nowhere = Path("nothing is kept")
        self.integration = create(
            connections(self.database, self.secrets, nowhere, limits=self.limits, render=render, clock=self.clock)
        )
        self.feeder = self.new_feeder()
        self.webhooks = self.door(self.owner)

    def new_feeder(self, **integrations):
        return Feeder(self.database, {"webhook": self.integration, **integrations}, self.clock, lambda: 1.0)

    def door(self, caller):
        courier = Courier(self.database, self.secrets, Sender(self.limits), self.clock)
        return Webhooks(self.database, self.secrets, courier, self.limits, self.clock, caller)

    def submit(self, org="acme", url=None, dialect="training_api", **submission):
        """A job that waits; with a URL, one that names it as its webhook."""
        caller = Caller(org=org, user=None, role=Role.MEMBER)
        with self.door(caller).kept(url, dialect, param="webhook_url") as integrations:
            made = Submission(dialect=dialect, request={}, integrations=integrations, **submission)
            with self.database.write() as connection:
                return accept(connection, caller, Admitted(spec=job_spec(), is_complete=True, notes=()), made)

    def happen(self, job, kind, **data):
        """Store an event of a job, and the state that it brought about."""
        with self.database.write() as connection:
            if kind == "state":
                jobs.change(connection, job.id, state=data["state"], finished_at=self.clock())
            events.add(connection, job.id, at=self.clock(), kind=kind, message=kind, data=data)

    def end(self, job, state=State.SUCCEEDED):
        """Let a job run and end."""
        self.happen(job, "state", state=State.RUNNING)
        with self.database.write() as connection:  # as the publisher tells of the produced model
            events.add(connection, job.id, at=self.clock(), kind="state", message="New fine-tuned model created: ft:m")
        self.happen(job, "state", state=state)

    def run(self, seconds=0.0):
        """Let the feeder do what there is to do so many seconds later."""
        self.clock.ahead += seconds
        self.feeder.tick()
        self.feeder.join()

    def log(self, **of):
        """Deliveries with their tries, oldest first."""
        return self.webhooks.deliveries(limit=1000, **of)[::-1]

    def feeds(self):
        with self.database.read() as connection:
            return [
                feeds.get(connection, id)
                for (id,) in connection.exec_driver_sql("select id from feeds where kind = 'webhook'").all()
            ]


def render(dialect, job, event):
    return load_plugins("tunesmith.dialects")[dialect].render_webhook(job, event, Doors())


@pytest.fixture
def post(tmp_path):
    database = Database(tmp_path / f"{uuid.uuid4().hex}.db")
    database.migrate()
    yield Post(database, Secrets(database, Keyring.open(tmp_path / "keys", needed=False)), Clock())
    database.close()


@pytest.fixture
def receiver():
    server = Receiver()
    yield server
    server.stop()


@pytest.fixture
def other():
    """Another receiver, at another address."""
    server = Receiver()
    yield server
    server.stop()
