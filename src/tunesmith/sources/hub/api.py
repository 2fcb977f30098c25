"""What the hub tells about a repository, and how its refusals read.

The official client knows the addresses, the answers and the errors; the requests are ours, so that they pass the guard,
and so that the token stays with the hub when it redirects to where the files lie.
"""

import functools
import json
import re
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import httpx2

from tunesmith.sources import Found, Limits
from tunesmith.sources._client import GuardedClient
from tunesmith.sources._credentials import bearer
from tunesmith.sources._digests import Digest
from tunesmith.sources._download import Remote, explanation, fetch_answer, look
from tunesmith.spec.errors import (
    DownloadError,
    InvalidRequestError,
    SourceCredentialsError,
    SourceNotFoundError,
    TunesmithError,
    UnsupportedError,
)
from tunesmith.spec.frozen import Frozen

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo
    from huggingface_hub.hf_api import RepoSibling

Kind = Literal["model", "dataset"]

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,254}")
_LONGEST_ANSWER_BYTES = 8 * 1024**2  # of a repository with some 30,000 files


class HubFile(Frozen):
    """A file of a repository at a commit."""

    path: str
    bytes: int
    digest: Digest


class Repository(Frozen):
    """A repository at a commit."""

    kind: Kind
    name: str
    commit: str
    files: tuple[HubFile, ...]


class HubApi:
    """One hub."""

    def __init__(self, limits: Limits, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self.client = GuardedClient(limits)

    def look(self, kind: Kind, name: str, revision: str | None, token: str | None) -> Repository:
        """The repository of a name at a branch, tag or commit (none = main).

        Raises:
            InvalidRequestError: the name or the revision is malformed.
            SourceNotFoundError: there is none of that name or revision, as far as the token sees.
            SourceCredentialsError: it is gated, or the token is refused.
            DownloadError: the hub does not answer.
        """
        from huggingface_hub import DatasetInfo, ModelInfo

        endpoint = self._known_endpoint()
        check_name(name)
        revision = revision or "main"
        if not is_revision(revision):
            raise InvalidRequestError(f"The revision {revision[:100]!r} is no branch, tag or commit.")
        answer = fetch_answer(
            self.client,
            Remote(
                label=name,
                url=lambda: f"{endpoint}/api/{kind}s/{name}/revision/{quote(revision, safe='')}?blobs=true",
                headers=bearer(token) if token else {},
                refusal=functools.partial(_refusal, kind, name, revision, token is not None),
            ),
            self._limits,
            _LONGEST_ANSWER_BYTES,
        )
        try:
            info = (ModelInfo if kind == "model" else DatasetInfo)(**json.loads(answer))
            found = _repository(kind, name, info)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DownloadError(f"What answers at {endpoint!r} is no hub: its answer is not understood.") from error
        if info.gated and found.files:  # the hub tells everybody what a gated repository holds; only files are kept
            look(self.client, self.remote(found, found.files[0], token)[0], self._limits)
        return found

    def remote(self, repository: Repository, file: HubFile, token: str | None) -> tuple[Remote, Found]:
        """A file to download, and what it will be."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(
            repository.name,
            file.path,
            repo_type=repository.kind,
            revision=repository.commit,
            endpoint=self._known_endpoint(),
        )
        remote = Remote(
            label=f"{repository.name}/{file.path}",
            url=lambda: url,
            headers=bearer(token) if token else {},
            refusal=functools.partial(_refusal, repository.kind, repository.name, repository.commit, token is not None),
            digest=file.digest,
        )
        return remote, Found(bytes=file.bytes, version="")

    def _known_endpoint(self) -> str:
        if self._endpoint is None:
            raise UnsupportedError("This server fetches nothing from a hub.")
        return self._endpoint.rstrip("/")


def check_name(name: str) -> None:
    """Raises InvalidRequestError unless `name` is one that a repository can have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, not exported

    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InvalidRequestError(
            f"{name[:100]!r} is no name of a repository; it reads owner/name, of letters, digits and '-', '_', '.'."
        ) from None


def is_revision(revision: str) -> bool:
    """Whether it can be a branch, tag or commit, and stand in a URL."""
    return _REVISION.fullmatch(revision) is not None and ".." not in revision


def is_commit(revision: str) -> bool:
    """Whether it is the full name of a commit."""
    return _COMMIT.fullmatch(revision) is not None


def _repository(kind: Kind, name: str, info: "ModelInfo | DatasetInfo") -> Repository:
    """Raises ValueError if the hub's answer lacks something."""
    if not is_commit(info.sha or ""):
        raise ValueError(info.sha)
    return Repository(
        kind=kind, name=name, commit=str(info.sha), files=tuple(_file(each) for each in info.siblings or ())
    )


def _file(sibling: "RepoSibling") -> HubFile:
    if sibling.lfs is not None:
        digest = Digest(kind="sha256", hex=sibling.lfs.sha256)
        return HubFile(path=sibling.rfilename, bytes=sibling.lfs.size, digest=digest)
    if sibling.blob_id is None or sibling.size is None:
        raise ValueError(sibling.rfilename)
    return HubFile(path=sibling.rfilename, bytes=sibling.size, digest=Digest(kind="git", hex=sibling.blob_id))


def _refusal(kind: Kind, name: str, revision: str, has_token: bool, response: httpx2.Response) -> TunesmithError:
    """What the hub's answer means, by the official client's reading."""
    from huggingface_hub import errors
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]  # documented, not exported

    what = "model" if kind == "model" else "data set"
    private = "" if has_token else " It may be private: then give a token of somebody who may read it."
    missing = (
        (errors.RepositoryNotFoundError, f"The hub knows no {what} {name!r}.{private}"),
        (errors.RevisionNotFoundError, f"The {what} {name!r} has no revision {revision!r}."),
        (errors.RemoteEntryNotFoundError, f"The {what} {name!r} has no such file at {revision!r}."),
        (errors.DisabledRepoError, f"The hub has disabled the {what} {name!r}."),
    )
    said = {name: value for name, value in response.headers.items() if name.startswith("x-error-")}
    # The official client would read a body of any length.
    bounded = httpx2.Response(response.status_code, headers=said, text=explanation(response), request=response.request)
    try:
        hf_raise_for_status(bounded)
    except errors.GatedRepoError:
        how = "Its owner has not let this token's user in" if has_token else "Give a token of a user who was let in"
        return SourceCredentialsError(f"The {what} {name!r} is gated.", hint=f"{how}; users ask on its page.")
    except errors.HfHubHTTPError as error:
        for meaning, sentence in missing:
            if isinstance(error, meaning):
                return SourceNotFoundError(sentence)
    if response.status_code in (401, 403):
        whether = "refuses this token" if has_token else "wants a token"
        return SourceCredentialsError(f"The hub {whether} for the {what} {name!r}.")
    return DownloadError(f"The hub answers with status {response.status_code} for {name!r}.", hint="Try again.")
