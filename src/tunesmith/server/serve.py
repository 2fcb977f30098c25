"""One server process: builds the parts, listens, and ends without stopping any training."""

import errno
import logging
import socket
import uuid
from collections.abc import Callable

import uvicorn

from tunesmith.assets.content import ContentUse
from tunesmith.assets.datasets import Datasets
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.dialects import Services
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.conductor import Conductor
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.scheduler import Scheduler
from tunesmith.jobs.service import Jobs
from tunesmith.jobs.supervisor import Supervisor
from tunesmith.plugins import load_plugins
from tunesmith.runners import Runner
from tunesmith.server.app import create_app
from tunesmith.server.home import Home, HomeLock
from tunesmith.server.settings import Settings
from tunesmith.spec.errors import SettingsError
from tunesmith.storage import Storage
from tunesmith.store.database import Database

_log = logging.getLogger(__name__)

# Streams end and requests in flight finish within this time after a signal to end.
_SHUTDOWN_SECONDS = 5


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal ends it. `announce` is told the address once requests are answered.

    Raises:
        SettingsError: the home or the port cannot be used.
    """
    home = Home(settings.home)
    with HomeLock(home), _listen(settings.host, settings.port) as listener:
        database = Database(home.database)
        database.migrate()
        runner = _runner(settings)
        conductor = Conductor()
        services, supervisor, scheduler = _build(settings, home, database, runner, conductor)

        def start() -> None:
            runner.open()
            conductor.start(supervisor, scheduler)
            host, port = listener.getsockname()[:2]
            announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")

        def stop() -> None:
            conductor.stop()
            runner.close()
            database.close()

        config = uvicorn.Config(
            create_app(services, start=start, stop=stop),
            log_level="warning",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            lifespan="on",
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"Port {port} of {host} is in use by another program.",
                param="port",
                hint="Stop that program, or choose another port with --port (0 picks a free one).",
            ) from error
        raise SettingsError(f"Cannot listen on {host} port {port}: {error.strerror}.", param="host") from error


def _runner(settings: Settings) -> Runner:
    runners = load_plugins("tunesmith.runners")
    if settings.runner not in runners:
        raise SettingsError(f"Unknown runner {settings.runner!r}; known: {', '.join(runners)}.", param="runner")
    runner: Runner = runners[settings.runner].create(
        settings.worker_python, settings.warm_workers, settings.visible_gpus
    )
    return runner


def _build(
    settings: Settings, home: Home, database: Database, runner: Runner, conductor: Conductor
) -> tuple[Services, Supervisor, Scheduler]:
    server_id = uuid.uuid4().hex
    storage = Storage(home.files)
    use = ContentUse(storage)
    files = Files(database, storage, use)
    datasets = Datasets(database)
    base_models = BaseModels(settings.model_aliases, settings.model_roots)
    produced_models = ProducedModels(database)
    resolver = InputResolver(base_models, produced_models, storage)
    admission = Admission(runner, resolver, files, datasets, home.checks)
    publisher = Publisher(storage, use, home.models)
    services = Services(
        jobs=Jobs(database, admission, use, home.jobs, conductor.wake),
        files=files,
        datasets=datasets,
        base_models=base_models,
        produced_models=produced_models,
        storage=storage,
        max_upload_bytes=settings.max_upload_bytes,
    )
    supervisor = Supervisor(database, runner, publisher, use, home.jobs, server_id)
    scheduler = Scheduler(database, runner, resolver, use, home.jobs, server_id)
    return services, supervisor, scheduler
