"""Jobs with stored events, real receivers on the loopback, and a clock that a test moves."""

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from connections import LOOPBACK, connections
from receiver import Receiver
from running_server import wait_for
from stored_jobs import job_spec
from tiny_pictures import png
from tunesmith.access.caller import Caller, Role
from tunesmith.access.keyring import Keyring
from tunesmith.access.secrets import Secrets
from tunesmith.integrations import Results
from tunesmith.integrations._door import Integrations
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
from tunesmith.store import events, feeds, jobs, models
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


@dataclass
class Tracked:
    """Jobs with trackers, whose events a test makes up."""

    database: Database
    secrets: Secrets
    folder: Path
    clock: Clock = field(default_factory=Clock)
    limits: Limits = LOOPBACK
    hub_url: str | None = None
    files: list = field(default_factory=list)
    """Those of every produced model."""
    pictures: Path | None = None
    """Where those lie that samples name."""

    owner: Caller = field(default_factory=lambda: Caller(org="acme", user=None, role=Role.OWNER))

    def picture(self, event):
        return self.pictures / event.data["file"] if event.data["file"] else None

    @property
    def door(self):
        return Integrations(self.database, self.secrets, self.limits, self.owner, hub_url=self.hub_url, mlflow_url=None)

    def feeder(self, kind):
        """A new one, as after a restart."""
        made = connections(
            self.database,
            self.secrets,
            self.folder,
            limits=self.limits,
            hub_url=self.hub_url,
            clock=self.clock,
            results=Results(receipt=lambda _: None, files=lambda _: self.files, picture=self.picture),
        )
        integration = load_plugins("tunesmith.integrations")[kind].create(made)
        return Feeder(self.database, {kind: integration}, self.clock, lambda: 1.0)

    def submit(self, *wishes, **submission):
        with self.door.kept(wishes) as asked:
            made = Submission(dialect="native", request={}, integrations=asked, **submission)
            with self.database.write() as connection:
                return accept(connection, self.owner, Admitted(spec=job_spec(), is_complete=True, notes=()), made)

    def happen(self, job, kind, attempt=1, **data):
        """Store an event of a job, and the state that it brought about."""
        with self.database.write() as connection:
            if kind == "state":
                times = {"started_at" if data["state"] == State.RUNNING else "finished_at": self.clock()}
                jobs.change(connection, job.id, state=data["state"], **times)
            events.add(connection, job.id, at=self.clock(), kind=kind, message=kind, attempt=attempt, data=data)

    def step(self, job, step, loss=1.0, attempt=1):
        """A report of metrics."""
        self.happen(
            job, "metrics", attempt,
            step=step, total_steps=10, epoch=step / 10, loss=loss, token_accuracy=0.5, learning_rate=1e-3,
            grad_norm=2.0, tokens_total=100 * step, tokens_per_second=50.0, memory_bytes=1000, eta_seconds=1.0,
            extra={"rewards/margins": 0.25},
        )  # fmt: skip

    def evaluate(self, job, step, loss=2.0, attempt=1):
        self.happen(job, "evaluated", attempt, step=step, loss=loss, token_accuracy=None, extra={}, is_best=True)

    def sample(self, job, step, *, attempt=1, number=0, text="Ja, 你好", file=None):
        self.happen(
            job, "sampled", attempt, step=step, number=number, prompt="Grüße?", text=text, base=None, file=file,
            tokens=3, seconds=0.1,
        )  # fmt: skip

    def draw(self, job, step):
        """A sample that is a picture; returns its content."""
        content = png("red")
        self.pictures = self.folder.parent / "drawn"
        self.pictures.mkdir(exist_ok=True)
        (self.pictures / f"{step}.png").write_bytes(content)
        self.sample(job, step, text=None, file=f"{step}.png")
        return content

    def end(self, job, state=State.SUCCEEDED, *, with_model=False):
        if with_model:
            with self.database.write() as connection:
                models.add(
                    connection, id=f"ft:m:acme::{job.id[:8]}", org="acme", job_id=job.id, base="m", base_revision=None,
                    kind="adapter", path="nowhere", name=None, created_at=self.clock(),
                )  # fmt: skip
                jobs.change(connection, job.id, model_id=f"ft:m:acme::{job.id[:8]}")
        self.happen(job, "state", state=state)

    def run(self, feeder, seconds=0.0):
        """Let a feeder do what there is to do so many seconds later."""
        self.clock.ahead += seconds
        feeder.tick()
        feeder.join()

    def run_until(self, feeder, check, seconds=60):
        """Let a feeder work on, second by second of the clock, until something is so."""

        def worked():
            self.run(feeder, 1.0)
            return check()

        return wait_for(worked, seconds)

    def standing(self, job, kind):
        return next(each for each in self.door.of_job(job.id) if each.kind == kind)

    def job(self, job):
        with self.database.read() as connection:
            return jobs.get(connection, job.id)

    def feed(self, job, kind):
        with self.database.read() as connection:
            return next(feed for feed in feeds.of_job(connection, job.id) if feed.kind == kind)

    def forget(self, job, kind, **values):
        """Set a feed back, as if the server had been killed before it wrote down what it did."""
        with self.database.write() as connection:
            feeds.change(connection, self.feed(job, kind).id, **values)

    def known_secrets(self):
        with self.database.read() as connection:
            return [id for (id,) in connection.exec_driver_sql("select id from secrets").all()]


@pytest.fixture
def tracked(tmp_path):
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    yield Tracked(database, Secrets(database, Keyring.open(tmp_path / "keys", needed=False)), tmp_path / "tracking")
    database.close()
