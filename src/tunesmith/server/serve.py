"""One server process: builds the parts, listens, and ends without stopping any training."""

import errno
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from tunesmith.access.authentication import Authenticator, Checked, Open
from tunesmith.access.caller import LOCAL, Caller, Role
from tunesmith.access.keys import ApiKeys
from tunesmith.access.organisations import Organisations
from tunesmith.access.secrets import Secrets, open_secrets
from tunesmith.access.tokens import Tokens, TokenSettings
from tunesmith.assets.checkpoint_permissions import CheckpointPermissions
from tunesmith.assets.content import ContentUse
from tunesmith.assets.custom_models import CustomModels
from tunesmith.assets.datasets import Datasets
from tunesmith.assets.encoded_cache import EncodedCache
from tunesmith.assets.files import Files
from tunesmith.assets.models import BaseModels, ProducedModels
from tunesmith.assets.row_cache import RowCache
from tunesmith.assets.uploads import Uploads
from tunesmith.dialects import Services
from tunesmith.integrations import Connections, Results
from tunesmith.integrations._door import Integrations
from tunesmith.integrations._feeder import Feeder
from tunesmith.integrations.webhook.courier import Courier
from tunesmith.integrations.webhook.retention import Retention
from tunesmith.integrations.webhook.sending import Sender
from tunesmith.integrations.webhook.subscriptions import Webhooks
from tunesmith.jobs.admission import Admission
from tunesmith.jobs.conductor import Conductor, Part
from tunesmith.jobs.export_orders import ExportOrders
from tunesmith.jobs.exporting import Exporter, Exports
from tunesmith.jobs.fetching import Fetcher
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.jobs.inputs import InputResolver
from tunesmith.jobs.pictures.captioning import Captioner
from tunesmith.jobs.pictures.collecting import Collector
from tunesmith.jobs.pictures.preparing import Pictures
from tunesmith.jobs.preparing import Preparer
from tunesmith.jobs.publishing import Publisher
from tunesmith.jobs.pushing import Pusher, Pushes, own_files
from tunesmith.jobs.scheduler import Scheduler
from tunesmith.jobs.service import Jobs, newest_receipt, sample_picture
from tunesmith.jobs.stalls import Patience
from tunesmith.jobs.supervisor import Supervisor
from tunesmith.jobs.tidying import Tidier, forget_orphans
from tunesmith.plugins import load_plugins
from tunesmith.runners import Runner
from tunesmith.server.app import create_app, is_local
from tunesmith.server.home import Home, HomeLock
from tunesmith.server.settings import Settings
from tunesmith.sources import Limits, Location
from tunesmith.sources.hub.models import HubModels
from tunesmith.sources.hub.upload import HubUploads
from tunesmith.spec.errors import SettingsError
from tunesmith.storage import Storage
from tunesmith.store.database import Database
from tunesmith.store.events import Event
from tunesmith.store.jobs import Job

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
        conductor, teller = Conductor(), Conductor("integrations")
        ending = threading.Event()
        secrets = open_secrets(database, home.keys)
        with database.write() as connection:
            forget_orphans(connection)
        open_doors, results, ended_with_us, parts = _build(settings, home, database, secrets, runner, conductor, ending)
        feeders = _feeders(settings, home, database, secrets, open_doors, results, ending)
        retention = Retention(database, settings.webhook_log_days, time.time)

        def start() -> None:
            runner.open()
            conductor.start(parts)
            teller.start([*feeders, retention])
            host, port = listener.getsockname()[:2]
            announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")

        def stop() -> None:
            conductor.stop()
            teller.stop()
            for part in ended_with_us:
                part.stop()
            for feeder in feeders:
                feeder.stop()
            runner.close()
            database.close()

        config = uvicorn.Config(
            create_app(
                _authenticator(settings, database),
                open_doors,
                is_local if settings.authentication == "none" else _anywhere,
                start=start,
                stop=stop,
            ),
            log_level="warning",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            lifespan="on",
        )
        _Server(config, ending).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Tells streams when a signal asks the server to end; it would wait for them."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event) -> None:
        super().__init__(config)
        self._ending = ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of the signal."""
        self._ending.set()
        super().handle_exit(sig, frame)


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


def _anywhere(_scope: object) -> bool:
    """A caller who shows a credential has chosen this server, whatever name it goes by."""
    return True


def _authenticator(settings: Settings, database: Database) -> Authenticator:
    if settings.authentication == "none":
        return Open()
    tokens = TokenSettings.read(
        secret=settings.token_secret.get_secret_value() if settings.token_secret else None,
        secret_file=settings.token_secret_file,
        jwks=settings.token_jwks,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
    )
    return Checked(ApiKeys(database), Tokens(tokens) if tokens else None, Organisations(database))


def _limits(settings: Settings) -> Limits:
    return Limits(max_bytes=settings.max_download_bytes, allowed_networks=settings.allowed_networks)


def _feeders(
    settings: Settings,
    home: Home,
    database: Database,
    secrets: Secrets,
    open_doors: Callable[[Caller], Services],
    results: Results,
    ending: threading.Event,
) -> list[Feeder]:
    """One for each kind of integration: none waits for the threads of another."""

    def render(dialect: str, job: Job, event: Event) -> dict[str, Any] | None:
        reader = Caller(org=job.org, user=None, role=Role.VIEWER)
        body: dict[str, Any] | None = load_plugins("tunesmith.dialects")[dialect].render_webhook(
            job, event, open_doors(reader)
        )
        return body

    connections = Connections(
        database=database,
        secrets=secrets,
        limits=_limits(settings),
        render=render,
        results=results,
        folder=home.tracking,
        hub_url=settings.hub_url,
        clock=time.time,
        ending=ending,
    )
    return [
        Feeder(database, {kind: module.create(connections)}, time.time)
        for kind, module in load_plugins("tunesmith.integrations").items()
    ]


def _build(
    settings: Settings,
    home: Home,
    database: Database,
    secrets: Secrets,
    runner: Runner,
    conductor: Conductor,
    ending: threading.Event,
) -> tuple[Callable[[Caller], Services], Results, tuple[Preparer, Pusher], list[Part]]:
    server_id = uuid.uuid4().hex
    storage, upload_parts = Storage(home.files), Storage(home.files / "parts")
    use = ContentUse(storage)
    base_models = BaseModels(settings.model_aliases, settings.model_roots)
    limits = _limits(settings)
    courier = Courier(database, secrets, Sender(limits), time.time)
    hub = HubModels(home.hub, settings.hub_url, limits)
    sources = {
        kind: module.create(limits, settings.hub_url) for kind, module in load_plugins("tunesmith.sources").items()
    }
    gatherer = PictureGatherer(
        lambda address, most: sources["http"].read(Location(kind="http", address=address), most), limits.max_bytes
    )
    fetcher = Fetcher(database, sources, hub, base_models, secrets, storage, gatherer)
    captioner = Captioner(runner, base_models, settings.captioning_model, home.checks)
    pictures = Pictures(Collector(database, fetcher, storage), captioner, storage, home.pictures)
    rows = RowCache(home.rows, storage, settings.max_row_cache_bytes)
    encoded = EncodedCache(home.encoded, settings.max_encoded_cache_bytes)
    resolver = InputResolver(database, base_models, hub, storage, rows, encoded)
    admission = Admission(
        database,
        runner,
        fetcher,
        resolver,
        storage,
        home.checks,
        settings.unavailable_resources,
        settings.device_memory_bytes,
        pictures=pictures,
    )
    publisher = Publisher(storage, use, home.models)
    orders = ExportOrders(database, resolver, storage, home.jobs, home.exports)
    organisations, keys = Organisations(database), ApiKeys(database)
    organisations.ensure(LOCAL.org)

    def open_doors(caller: Caller) -> Services:
        return Services(
            caller=caller,
            jobs=Jobs(database, admission, use, home.jobs, conductor.wake, caller),
            files=Files(database, storage, use, caller.org),
            uploads=Uploads(database, storage, upload_parts, caller.org),
            datasets=Datasets(database, use, caller.org),
            base_models=base_models,
            produced_models=ProducedModels(database, caller.org),
            custom_models=CustomModels(database, storage, hub, home.models, caller.org),
            exports=Exports(database, orders, home.exports, conductor.wake, caller.org),
            pushes=Pushes(database, secrets, settings.hub_url, conductor.wake, caller.org),
            checkpoint_permissions=CheckpointPermissions(database, caller.org),
            organisations=organisations,
            keys=keys,
            secrets=secrets,
            webhooks=Webhooks(database, secrets, courier, limits, time.time, caller),
            integrations=Integrations(
                database, secrets, limits, caller, hub_url=settings.hub_url, mlflow_url=settings.mlflow_url
            ),
            storage=storage,
            max_upload_bytes=settings.max_upload_bytes,
            ending=ending,
            hub_url=settings.hub_url,
        )

    preparer = Preparer(database, admission, use)
    patience = Patience(warning=settings.stall_warning_seconds, limit=settings.stall_limit_seconds)
    supervisor = Supervisor(database, runner, publisher, use, home.jobs, server_id, patience)
    scheduler = Scheduler(database, runner, resolver, use, home.jobs, server_id, settings.device_memory_bytes)
    exporter = Exporter(database, runner, orders, home.exports, patience)
    uploads = HubUploads(limits, settings.hub_url)
    pusher = Pusher(database, secrets, resolver, uploads, settings.hub_url, home.exports)
    tidier = Tidier(database, use, upload_parts, hub, (rows, encoded))
    results = Results(
        receipt=lambda job: newest_receipt(home.jobs, job),
        files=lambda model: own_files(resolver, model),
        picture=lambda sampled: sample_picture(home.jobs, sampled),
    )
    return open_doors, results, (preparer, pusher), [supervisor, preparer, scheduler, exporter, pusher, tidier]
