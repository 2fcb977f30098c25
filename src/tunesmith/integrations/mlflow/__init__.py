"""Tells MLflow servers of jobs: what a run was made with, its figures, how it ended, and what it left."""

import json
import ssl
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

from tunesmith.access.hosts import host_of
from tunesmith.integrations import (
    TRACKER_DELAYS,
    Connections,
    NotToldError,
    NotYetError,
    Place,
    ReceiverGoneError,
    Wish,
)
from tunesmith.integrations._addresses import check_url
from tunesmith.integrations._figures import figures_of, told_once
from tunesmith.integrations._parts import file_at, text_file
from tunesmith.integrations._spec import parameters, shown_spec
from tunesmith.integrations._titles import title_of
from tunesmith.integrations.mlflow.server import Metric, MlflowError, MlflowServer, Run, tag
from tunesmith.sources._client import GuardedClient
from tunesmith.sources.hub.upload import FileToPush
from tunesmith.spec.errors import InvalidRequestError, SecretNotFoundError, TunesmithError
from tunesmith.spec.job import IntegrationSpec
from tunesmith.spec.lifecycle import TERMINAL, State
from tunesmith.store import events as event_rows
from tunesmith.store import feeds, models, secrets
from tunesmith.store.events import Event
from tunesmith.store.feeds import Feed
from tunesmith.store.jobs import Job
from tunesmith.store.models import ProducedModel

FOR_EVERY_JOB = False

_EXPERIMENT = "tunesmith"
_MODEL = "model"

_STATUS = {
    State.VALIDATING: "SCHEDULED",
    State.QUEUED: "SCHEDULED",
    State.PAUSED: "SCHEDULED",
    State.SUCCEEDED: "FINISHED",
    State.FAILED: "FAILED",
    State.CANCELLED: "KILLED",
}
"""All other states are `RUNNING`."""


def create(connections: Connections) -> "MlflowIntegration":
    """The integration."""
    return MlflowIntegration(connections)


def checked(wish: Wish, place: Place) -> Wish:
    """A wish with the host that its credentials are for. Without any, those that the organisation stored under the name
    `mlflow` count, if they are for this host.

    Raises:
        InvalidRequestError: the address or the certificate is malformed.
        AddressRefusedError: the address leads to where no request may go.
    """
    uri, param = str(wish.settings["tracking_uri"]), f"{wish.param}.tracking_uri"
    check_url(uri, place.limits, param=param)
    host = host_of(uri, param=param)
    if "?" in uri or "#" in uri:
        raise InvalidRequestError(f"{param} must end with the path of the server, without '?' and '#'.", param=param)
    certificate = wish.credentials.get("certificate")
    if certificate is not None:
        try:
            ssl.create_default_context(cadata=certificate)
        except (ssl.SSLError, ValueError):
            param = f"{wish.param}.certificate_file"
            raise InvalidRequestError(
                f"{param} is no certificate.", param=param, hint="Send the certificate itself, in PEM form."
            ) from None
    stored = place.named("mlflow") if not wish.credentials and wish.secret is None else None
    if stored is not None and (stored.purpose, stored.host) == ("mlflow", host):
        return replace(wish, host=host, secret=stored.id)
    return replace(wish, host=host)


def notes(_spec: IntegrationSpec) -> list[str]:
    """What a user should know: nothing that is not obvious."""
    return []


class MlflowIntegration:
    """One run for each feed. Nothing but the run's id is remembered here: it is found again on the server."""

    delays = TRACKER_DELAYS

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._secrets = connections.secrets
        self._limits = connections.limits
        self._results = connections.results
        self._ending = connections.ending
        self._client = GuardedClient(connections.limits)
        self._trusting: dict[str, GuardedClient] = {}
        """By feed, those that trust a certificate beside the machine's."""

    def kinds(self, _feed: Feed) -> Collection[str]:
        """See `Integration`."""
        return ("state", "metrics", "evaluated")

    def receiver(self, feed: Feed) -> str:
        """See `Integration`. Files take long: they have threads of their own."""
        uri = str(feed.settings.get("tracking_uri"))
        return f"{uri} (files)" if "sent" in feed.progress else uri

    def tell(self, feed: Feed, job: Job, events: Sequence[Event]) -> int:
        """See `Integration`. The end of a job is told by itself."""
        server = self._server(feed)
        end = next((number for number, event in enumerate(events) if event.data.get("state") in TERMINAL), len(events))
        found = events[:end] or events[:1]
        try:
            run = self._run(server, feed, job)
            self._parameters(server, run, feed, job, is_last=end == 0)
            if end == 0:
                self._finish(server, run, feed, job)
            else:
                self._log(server, run, found)
        except MlflowError as error:
            raise NotToldError(found[-1], str(error), first=found[0]) from None
        except TunesmithError as error:  # the model's files are not there
            raise NotToldError(found[-1], error.message, first=found[0]) from None
        return found[-1].number

    def give_up(self, _feed: Feed) -> None:
        """See `Integration`. The feed itself says what was given up."""

    def close(self, feed: Feed) -> None:
        """See `Integration`. Credentials that came with the job are forgotten."""
        self._trusting.pop(feed.id, None)
        if feed.secret_id is not None:
            with self._database.write() as connection:
                secrets.remove_unnamed(connection, feed.org, [feed.secret_id])

    def stop(self) -> None:
        """See `Integration`. There is nothing to let go of."""

    def _server(self, feed: Feed) -> MlflowServer:
        uri = feed.settings.get("tracking_uri")
        try:
            host = host_of(str(uri), param="tracking_uri")
            known = (
                self._secrets.reveal(feed.org, feed.secret_id, purpose="mlflow", host=host) if feed.secret_id else {}
            )
        except (SecretNotFoundError, InvalidRequestError) as error:
            raise ReceiverGoneError(error.message) from None
        client = self._client_for(feed, known.get("certificate"))
        return MlflowServer(str(uri), known, client, self._ending, self._limits.total_seconds)

    def _client_for(self, feed: Feed, certificate: str | None) -> GuardedClient:
        """Making one reads all certificates of the machine, so each is made once."""
        if certificate is None:
            return self._client
        if feed.id not in self._trusting:
            self._trusting[feed.id] = GuardedClient(self._limits, certificate=certificate)
        return self._trusting[feed.id]

    def _run(self, server: MlflowServer, feed: Feed, job: Job) -> Run:
        """The run of a feed, from what is remembered of it, or from the server."""
        if "run" in feed.progress:
            return Run(**feed.progress["run"])
        title = title_of(job, feed.settings.get("run_name"))
        tags = {"mlflow.runName": title, "tunesmith.job": job.id, **(feed.settings.get("tags") or {})}
        run = server.run(
            feed.id,
            feed.settings.get("experiment_name") or _EXPERIMENT,
            {
                "run_name": title,
                "start_time": int(job.created_at * 1000),
                "tags": [tag(key, value) for key, value in tags.items()],
            },
        )
        self._remember(feed, run=asdict(run))
        with self._database.write() as connection:
            feeds.show(connection, feed, server.page_of(run))
        return run

    def _parameters(self, server: MlflowServer, run: Run, feed: Feed, job: Job, *, is_last: bool) -> None:
        """Tell what a job was made with, once it cannot change any more."""
        if feed.progress.get("has_parameters") or (job.state is State.VALIDATING and not is_last):
            return
        server.parameters(run, parameters(job))
        self._remember(feed, has_parameters=True)

    def _log(self, server: MlflowServer, run: Run, found: Sequence[Event]) -> None:
        with self._database.read() as connection:
            fresh = told_once(connection, found)
        figures = [each for event in fresh if (each := figures_of(event)) is not None]
        server.log(
            run,
            [Metric(key, value, each.at, each.step) for each in figures for key, value in each.values.items()],
        )
        states = [State(event.data["state"]) for event in found if "state" in event.data]
        if states:
            server.status(run, _STATUS.get(states[-1], "RUNNING"), ended_at=None)

    def _finish(self, server: MlflowServer, run: Run, feed: Feed, job: Job) -> None:
        """Tell how a job ended, and hand over what it left."""
        if "sent" not in feed.progress:
            server.status(run, _STATUS[job.state], ended_at=job.finished_at)
            self._remember(feed, sent=[])
            raise NotYetError(0)  # goes on among those that send files
        if not server.takes_files(run):
            raise ReceiverGoneError(
                "The MLflow server leaves files to its clients, so the model was not handed over; all else was. "
                "Have it run with --serve-artifacts."
            )
        for name, file in self._files(job):
            if name not in feed.progress["sent"]:
                server.upload(run, name, file)
                self._remember(feed, sent=[*feed.progress["sent"], name])
        model = self._model(job)
        if model is not None:
            name = title_of(job, None).replace("/", "-").replace(":", "-")
            server.register(run, name, _MODEL, [tag("tunesmith.model", model.id)])

    def _files(self, job: Job) -> list[tuple[str, FileToPush]]:
        """What a job left, by its path among the files of the run."""
        with self._database.read() as connection:
            asked = told_once(connection, event_rows.of_job(connection, job.id, kinds=("sampled",)))
        model, receipt = self._model(job), self._results.receipt(job)
        texts = {
            "spec.json": json.dumps(shown_spec(job), indent=2, ensure_ascii=False),
            "receipt.json": receipt.model_dump_json(indent=2) if receipt is not None else None,
            "samples.jsonl": "".join(json.dumps(event.data, ensure_ascii=False) + "\n" for event in asked) or None,
        }
        left = [(name, text_file(name, text)) for name, text in texts.items() if text is not None]
        drawn = [(f"samples/{path.name}", file_at(path)) for each in asked if (path := self._results.picture(each))]
        made = self._results.files(model) if model else []
        return [*left, *drawn, *((f"{_MODEL}/{file.name}", file) for file in made)]

    def _model(self, job: Job) -> ProducedModel | None:
        with self._database.read() as connection:
            return models.get(connection, job.org, job.model_id) if job.model_id is not None else None

    def _remember(self, feed: Feed, **values: Any) -> None:
        feed.progress.update(values)
        with self._database.write() as connection:
            feeds.change(connection, feed.id, progress=feed.progress)
