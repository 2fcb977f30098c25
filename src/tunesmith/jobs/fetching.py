"""Brings what a job needs and this server has not: rows and models from elsewhere, and pictures that rows show."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

from tunesmith.access.hosts import host_of
from tunesmith.access.secrets import Secrets
from tunesmith.assets.models import BaseModels
from tunesmith.jobs.gathering import PictureGatherer
from tunesmith.sources import Credentials, Found, Location, Source
from tunesmith.sources import Progress as SourceProgress
from tunesmith.sources.hub.models import HubModels
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    ModelNotFoundError,
    SourceNotFoundError,
    TunesmithError,
)
from tunesmith.spec.job import DataSource, ImagesSpec, JobSpec, ModelSpec, StartSpec
from tunesmith.storage import BlobWriter, Storage
from tunesmith.store import models
from tunesmith.store.database import Database


class Progress(Protocol):
    """Follows a preparation. What it raises ends it."""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Told what is fetched, the bytes so far and, where known, all bytes."""
        ...

    def poll(self) -> None:
        """Called now and then while nothing arrives."""
        ...


Part = Literal["train", "validation"]

Digest = Literal["sha256", "pictures"]
"""Where a part has the digest of its rows, and that of the pictures which they show."""

Keep = Callable[[Part, Digest, BlobWriter], JobSpec]
"""Takes the finished content of a part, and gives the spec with its digest."""

PARTS: tuple[Part, ...] = ("train", "validation")

_REMOTE = ("s3", "gcs", "http", "hub")


class Fetcher:
    """Probes, pins and fetches the remote parts of specs."""

    def __init__(
        self,
        database: Database,
        sources: Mapping[str, Source],
        hub: HubModels,
        bases: BaseModels,
        secrets: Secrets,
        storage: Storage,
        gatherer: PictureGatherer,
    ) -> None:
        self._database = database
        self._sources = sources
        self._gatherer = gatherer
        self._hub = hub
        self._bases = bases
        self._secrets = secrets
        self._storage = storage

    def pin(self, org: str, spec: JobSpec) -> JobSpec:
        """The same spec with the exact versions of everything remote, which is thereby known to be there.

        Raises:
            TunesmithError: something is not there, may not be read, or its server does not answer; `param` is the path
                in the spec.
        """
        data = spec.data
        update = {
            "train": self._pin_rows(org, data.train, "data.train"),
            "validation": self._pin_rows(org, data.validation, "data.validation") if data.validation else None,
        }
        return spec.model_copy(
            update={
                "data": data.model_copy(update=update),
                "model": self._pin_model(org, spec.model),
                "init_from": self._pin_start(org, spec.init_from) if spec.init_from else None,
            }
        )

    def is_here(self, org: str, spec: JobSpec) -> bool:
        """Whether the rows and models that a pinned spec needs are on this server."""
        rows = (spec.data.train, spec.data.validation)
        return not any(source and source.sha256 is None for source in rows) and self.has_models(org, spec)

    def has_models(self, org: str, spec: JobSpec) -> bool:
        """Whether no weights that a pinned spec needs are still to be fetched."""
        return not self._missing_models(org, spec)

    def fetch(self, org: str, spec: JobSpec, progress: Progress, keep: Keep) -> JobSpec:
        """Bring rows and models that are missing, and no pictures. The spec comes back with the digests of its rows.

        Raises:
            TunesmithError: something could not be fetched whole, or changed since it was pinned; `param` is the path in
                the spec. Whatever `progress` and `keep` raise passes through.
        """
        for param, repository, revision, secret in self._missing_models(org, spec):
            with _about(param):
                token = self._token(org, secret)
                self._hub.fetch(repository, revision, token, _naming(progress, repository))
        for part in PARTS:
            source = getattr(spec.data, part)
            if source is not None and source.sha256 is None and source.kind != "images":
                writer = self._storage.writer()
                try:
                    self._fetch_rows(org, source, f"data.{part}", writer, progress)
                    spec = keep(part, "sha256", writer)
                finally:
                    writer.discard()
        return spec

    def gather(self, spec: JobSpec, progress: Progress, keep: Keep) -> JobSpec:
        """Gather the pictures that rows show, where the model looks at them. The spec comes back with their digests.

        Raises:
            TunesmithError: a picture cannot be had; `param` is the path in the spec. Whatever `progress` and `keep`
                raise passes through.
        """
        for part in PARTS:
            source = getattr(spec.data, part)
            if source is not None and source.pictures is None and lacks_pictures(spec):
                writer = self._storage.writer()
                try:
                    with _about(f"data.{part}"):
                        told = _naming(progress, f"the pictures of {shown(source)}")
                        self._gatherer.gather(self._storage.path(source.sha256), spec.data.reading, writer, told)
                    spec = keep(part, "pictures", writer)
                finally:
                    writer.discard()
        return spec

    def fetch_now(self, org: str, source: DataSource, target: BlobWriter, progress: SourceProgress) -> None:
        """Fetch what lies at an address at this moment, and finish the content. Credentials go to sources of their own
        kind only.

        Raises:
            TunesmithError: it is not there, may not be read, or could not be fetched whole. Whatever `progress` raises
                passes through.
        """
        if source.secret is not None and self._secrets.describe(org, source.secret).purpose != source.kind:
            source = source.model_copy(update={"secret": None})
        kind, location, credentials = self._sources[source.kind], _location(source), self._credentials(org, source)
        kind.fetch(location, kind.probe(location, credentials), credentials, target, progress)
        target.finish()

    def _pin_rows(self, org: str, source: DataSource, param: str) -> DataSource:
        if source.kind not in _REMOTE or source.sha256 is not None:
            return source
        with _about(param):
            found = self._sources[source.kind].probe(_location(source), self._credentials(org, source))
        return source.model_copy(update={"revision": found.version})

    def _fetch_rows(self, org: str, source: DataSource, param: str, writer: BlobWriter, progress: Progress) -> None:
        assert source.revision is not None  # pinned at submission
        found = Found(bytes=None, version=source.revision)
        with _about(param):
            kind, credentials = self._sources[source.kind], self._credentials(org, source)
            kind.fetch(_location(source), found, credentials, writer, _naming(progress, shown(source)))
        writer.finish()

    def _pin_model(self, org: str, model: ModelSpec) -> ModelSpec:
        if not self._is_on_hub(org, model):
            return model
        try:
            with _about("model.base"):
                found = self._hub.probe(model.base, model.revision, self._token(org, model.secret))
        except (SourceNotFoundError, DownloadError, InvalidRequestError) as error:
            if model.source == "hub":
                raise
            raise ModelNotFoundError(
                f"No model is called {model.base!r}: it is no alias, no folder below a model root and no model that a "
                f"job here produced, and as to the hub: {error.message}",
                param="model.base",
                hint=error.hint,
            ) from error
        return model.model_copy(update={"source": "hub", "revision": found.version})

    def _pin_start(self, org: str, start: StartSpec) -> StartSpec:
        if start.kind != "hub":
            return start
        with _about("init_from"):
            found = self._hub.probe(start.id, start.revision, self._token(org, start.secret))
        return start.model_copy(update={"revision": found.version})

    def _missing_models(self, org: str, spec: JobSpec) -> list[tuple[str, str, str, str | None]]:
        """Path in the spec, repository, commit and token's id of each."""
        wanted = []
        if self._is_on_hub(org, spec.model) and spec.model.revision:
            wanted.append(("model.base", spec.model.base, spec.model.revision, spec.model.secret))
        start = spec.init_from
        if start and start.kind == "hub" and start.revision:
            wanted.append(("init_from", start.id, start.revision, start.secret))
        return [each for each in wanted if self._hub.find(each[1], each[2]) is None]

    def _is_on_hub(self, org: str, model: ModelSpec) -> bool:
        if model.source != "any":
            return model.source == "hub"
        with self._database.read() as connection:
            if models.get(connection, org, model.base) is not None:
                return False
        return self._hub.endpoint is not None and not self._bases.has(model.base)

    def _token(self, org: str, secret: str | None) -> str | None:
        if secret is None:
            return None
        return self._secrets.reveal(org, secret, purpose="hub", host=self._hub_host())["token"]

    def _credentials(self, org: str, source: DataSource) -> Credentials | None:
        if source.secret is None:
            return None
        match source.kind:
            case "http":
                return self._secrets.reveal(
                    org, source.secret, purpose="http", host=host_of(source.id, param="address")
                )
            case "hub":
                return self._secrets.reveal(org, source.secret, purpose="hub", host=self._hub_host())
            case "s3" | "gcs":  # the host is that of the endpoint among the credentials
                host = self._secrets.describe(org, source.secret).host
                return self._secrets.reveal(org, source.secret, purpose=source.kind, host=host)
            case _:
                return None

    def _hub_host(self) -> str | None:
        return host_of(self._hub.endpoint, param="hub_url") if self._hub.endpoint else None


def lacks_pictures(spec: JobSpec) -> bool:
    """Whether pictures are looked at that were not gathered."""
    rows = (spec.data.train, spec.data.validation)
    return spec.model.modality == "vision_language" and any(source and source.pictures is None for source in rows)


def shown(source: DataSource) -> str:
    """The address without its query, where a signature may stand."""
    return source.id.partition("?")[0] if source.kind == "http" else source.id


def without_queries(images: ImagesSpec | None) -> ImagesSpec | None:
    """Pictures whose addresses have lost the parts where a signature may stand."""
    if images is None:
        return None
    return images.model_copy(update={"sources": tuple(address.partition("?")[0] for address in images.sources)})


def _location(source: DataSource) -> Location:
    assert source.kind in ("s3", "gcs", "http", "hub")
    return Location(kind=source.kind, address=source.id, region=source.region, revision=source.revision)


def _naming(progress: Progress, what: str) -> Callable[[int, int | None], None]:
    return lambda done, total: progress(what, done, total)


@contextmanager
def _about(param: str) -> Iterator[None]:
    """Names the field of the spec in an error that names none."""
    try:
        yield
    except TunesmithError as error:
        if error.param is None:
            error.param = param
        raise
