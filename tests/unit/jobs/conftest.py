"""The parts around a job with a runner whose workers do what the test says."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient

from stored_jobs import EMPTY_SERVICES, job_spec, plan
from tunesmith.access.caller import LOCAL
from tunesmith.assets.content import ContentUse
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.models import BaseModels
from tunesmith.assets.row_cache import RowCache
from tunesmith.devices import CPU
from tunesmith.dialects import native
from tunesmith.jobs.admission import Admitted
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.scheduler import Scheduler
from tunesmith.jobs.service import Jobs
from tunesmith.jobs.stalls import Patience
from tunesmith.jobs.supervisor import Supervisor
from tunesmith.rundir import EventWriter
from tunesmith.runners import Exit
from tunesmith.sources import Limits
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec import events
from tunesmith.spec.errors import TunesmithError
from tunesmith.spec.job import AdapterSpec, Submission
from tunesmith.storage import Storage
from tunesmith.store.database import Database

NOW = datetime.now(UTC)


@dataclass
class ScriptedRunner:
    """A runner without processes."""

    runs: list = field(default_factory=list)
    exits: dict = field(default_factory=dict)
    stops: list = field(default_factory=list)
    dumps: list = field(default_factory=list)
    ready: bool = True
    clear: bool = True
    found: dict | None = None

    def open(self):
        pass

    def devices(self):
        return (CPU,)

    def is_ready(self):
        return self.ready

    def is_clear(self, device):
        return self.clear

    def start(self, run, device):
        self.runs.append(run)
        return {"pid": len(self.runs)}

    def find(self, run):
        return self.found

    def poll(self, handle, run):
        return self.exits.get(handle["pid"])

    def stop(self, handle, *, force):
        self.stops.append((handle["pid"], force))

    def dump(self, handle):
        self.dumps.append(handle["pid"])

    def close(self):
        pass

    def report(self, *reported):
        """Let the newest worker write events."""
        writer = EventWriter(self.runs[-1])
        for event in reported:
            writer.write(event)
        writer.close()

    def end(self, exit):
        """Let the newest worker end."""
        self.exits[len(self.runs)] = exit

    def finds_nothing_wrong(self):
        """Let every worker from now on check its job, find everything fine, and end."""

        def start(run, device):
            self.runs.append(run)
            self.report(events.Checked(at="2026-01-01T00:00:00Z", plan=plan()))
            self.end(Exit(code=0))
            return {"pid": len(self.runs)}

        self.start = start


class EveryJobIsFine:
    """Admission is tested elsewhere."""

    def admit(self, org, spec):
        return Admitted(spec=spec, is_complete=True, notes=())


@dataclass
class House:
    database: Database
    runner: ScriptedRunner
    jobs: Jobs
    supervisor: Supervisor
    scheduler: Scheduler
    storage: Storage

    def tick(self):
        self.supervisor.tick()
        self.scheduler.tick()

    def submit(self, **changes):
        return self.jobs.submit(self.spec(), Submission(dialect="native", request={}, **changes))

    def spec(self):
        return job_spec(adapter=AdapterSpec(rank=8, alpha=16, dropout=0, targets=("all-linear",)))

    def messages(self, job):
        return [event.message for event in self.jobs.events(job.id)]


@pytest.fixture
def house(tmp_path):
    model = tmp_path / "m"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").touch()
    (tmp_path / "models").mkdir()
    database = Database(tmp_path / "tunesmith.db")
    database.migrate()
    runner = ScriptedRunner()
    storage = Storage(tmp_path / "files")
    use = ContentUse(storage)
    hub = HubModels(tmp_path / "hub", None, Limits(max_bytes=10_000_000))
    rows = RowCache(tmp_path / "rows", storage, 10_000_000)
    resolver = InputResolver(
        database, BaseModels({"m": model}, ()), hub, storage, rows, EncodedCache(tmp_path / "encoded", 1)
    )
    publisher = Publisher(storage, use, tmp_path / "models")
    runs = tmp_path / "jobs"
    yield House(
        database=database,
        runner=runner,
        jobs=Jobs(database, EveryJobIsFine(), use, runs, lambda: None, LOCAL),
        supervisor=Supervisor(database, runner, publisher, use, runs, "server", Patience(warning=600, limit=1800)),
        scheduler=Scheduler(database, runner, resolver, use, runs, "server"),
        storage=storage,
    )
    database.close()


@pytest.fixture
def call(house):
    """GET requests to the native dialect on these jobs."""
    app = FastAPI()
    app.include_router(native.routes())

    @app.middleware("http")
    async def open_doors(request: Request, call_next):
        request.state.services = EMPTY_SERVICES.__class__(**{**vars(EMPTY_SERVICES), "jobs": house.jobs})
        return await call_next(request)

    @app.exception_handler(TunesmithError)
    async def explain(request: Request, error: TunesmithError):
        status, body = native.render_error(error, request.url.path)
        return JSONResponse(body, status)

    with TestClient(app) as client:
        yield lambda path: client.get(f"{native.PREFIXES[0]}{path}")


@pytest.fixture
def started():
    return events.Started(at=NOW, pid=1, host="h", device="cpu")


@pytest.fixture
def metrics():
    def make(step, total=4):
        return events.Metrics(
            at=NOW, step=step, total_steps=total, epoch=step / total, loss=2.5 - step / 10, token_accuracy=0.5,
            learning_rate=1e-3, grad_norm=1.0, tokens_total=step * 10, tokens_per_second=100.0, memory_bytes=1000,
            eta_seconds=1.0,
        )  # fmt: skip

    return make


@pytest.fixture
def saved():
    """Write a checkpoint folder as a worker does, and the event about it."""

    def make(run, step, *, offered=True):
        folder = run.checkpoints / f"step-{step:08d}"
        (folder / "trainer").mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text(f"weights of step {step}")
        digest = f"{step:064d}"
        (folder / "manifest.json").write_text(
            f'{{"files": [{{"name": "adapter_model.safetensors", "size": 1, "sha256": "{digest}"}}]}}'
        )
        return events.CheckpointSaved(at=NOW, step=step, path=f"checkpoints/{folder.name}", offered=offered)

    return make
