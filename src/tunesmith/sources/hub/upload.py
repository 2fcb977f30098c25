"""Puts a folder's files into a repository on the hub, in one commit.

The steps are those of the hub's own client: make the repository, ask how each file is to be sent, send large files to
where the hub says, commit. Large files go by their SHA-256, and the hub asks only for those that it lacks: a push that
broke off goes on with the file that was not whole.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from tunesmith.sources import Limits
from tunesmith.sources._client import GuardedClient
from tunesmith.sources._credentials import bearer
from tunesmith.sources.hub.api import check_name
from tunesmith.spec.errors import PushError, SourceCredentialsError, SourceNotFoundError, UnsupportedError
from tunesmith.spec.frozen import Frozen

Progress = Callable[[int, int], None]
"""Told the bytes sent and all bytes. What it raises ends the push."""

_PIECE = 1024 * 1024
_SAMPLE_BYTES = 512
_LONGEST_ANSWER_BYTES = 8 * 1024**2
_TRIES = 5
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_LFS = {"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json"}
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class FileToPush:
    """A file under its name in the repository. `content` stands for the file where what is pushed differs from it."""

    name: str
    path: Path
    size: int
    """In bytes."""

    sha256: str
    content: bytes | None = None


class Pushed(Frozen):
    """What a push left."""

    repo: str
    commit: str


class HubUploads:
    """One hub."""

    def __init__(self, limits: Limits, endpoint: str | None) -> None:
        self._client = GuardedClient(limits)
        self._limits = limits
        self._endpoint = endpoint

    def push(
        self,
        files: Sequence[FileToPush],
        repo: str,
        token: str,
        *,
        private: bool,
        message: str,
        progress: Progress,
    ) -> Pushed:
        """Put files onto the branch main of a model repository, which is made if there is none.

        `private` counts for a repository that is made; one that exists stays as it is.

        Raises:
            InvalidRequestError: the name is malformed.
            UnsupportedError: this server knows no hub.
            SourceCredentialsError: the token is refused, or may not write there.
            SourceNotFoundError: there is no such place, as far as the token sees.
            AddressRefusedError: the hub, or where it sends large files, is where no request of this server may go.
            PushError: the hub does not answer, or not as a hub does.
        """
        if self._endpoint is None:
            raise UnsupportedError("This server knows no hub.", hint="Have its operator set hub_url.")
        check_name(repo)
        return _Push(self._client, self._limits, self._endpoint.rstrip("/"), repo, token, progress).run(
            files, private=private, message=message
        )


class _Push:
    def __init__(
        self,
        client: GuardedClient,
        limits: Limits,
        endpoint: str,
        repo: str,
        token: str,
        progress: Progress,
    ) -> None:
        self._client = client
        self._limits = limits
        self._endpoint = endpoint
        self._repo = repo
        self._credential = bearer(token)
        self._progress = progress
        self._sent = self._total = 0

    def run(self, files: Sequence[FileToPush], *, private: bool, message: str) -> Pushed:
        self._total = sum(_size(file) for file in files)
        self._progress(0, self._total)
        self._make_repository(private=private)
        modes = self._modes(files)
        large = [file for file in files if modes.get(file.name) == "lfs" and _size(file) > 0]
        self._send_large(large)
        commit = self._commit(files, {file.name for file in large}, message)
        self._progress(self._total, self._total)
        return Pushed(repo=self._repo, commit=commit)

    def _make_repository(self, *, private: bool) -> None:
        owner, _, name = self._repo.rpartition("/")
        wish = {"name": name, "organization": owner or None, "visibility": "private" if private else "public"}
        self._ask("/api/repos/create", wish, good=(200, 201, 409))

    def _modes(self, files: Sequence[FileToPush]) -> dict[str, str]:
        """`lfs` or `regular` by name, as the repository's settings say."""
        wish = {
            "files": [
                {"path": file.name, "size": _size(file), "sample": base64.b64encode(_sample(file)).decode()}
                for file in files
            ]
        }
        told = self._ask(f"/api/models/{self._repo}/preupload/main", wish)
        return {str(each["path"]): str(each["uploadMode"]) for each in told["files"]}

    def _send_large(self, files: Sequence[FileToPush]) -> None:
        if not files:
            return
        wish = {
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": [{"oid": file.sha256, "size": _size(file)} for file in files],
            "hash_algo": "sha256",
        }
        told = self._ask(f"/{self._repo}.git/info/lfs/objects/batch", wish, headers=_LFS)
        by_digest = {each["oid"]: each for each in told["objects"]}
        for file in files:
            answer = by_digest.get(file.sha256, {})
            if "error" in answer:
                raise PushError(f"The hub does not take {file.name!r}: {str(answer['error'].get('message'))[:200]}.")
            actions = answer.get("actions")
            if actions is None:  # the hub has it already
                self._advance(_size(file))
            else:
                self._send(file, actions)

    def _send(self, file: FileToPush, actions: Mapping[str, Any]) -> None:
        upload, verify = actions["upload"], actions.get("verify")
        headers = dict(upload.get("header") or {})
        size = int(headers.pop("chunk_size", 0))
        if size:
            self._send_parts(file, upload["href"], headers, size)
        else:
            self._put(file, upload["href"], headers, 0, _size(file))
        if verify is not None:
            self._post(
                verify["href"], {"oid": file.sha256, "size": _size(file)}, {**_LFS, **(verify.get("header") or {})}
            )

    def _send_parts(self, file: FileToPush, done: str, headers: Mapping[str, str], size: int) -> None:
        """Parts of `size` bytes, each to an address of its own, and then word to the hub that they are there."""
        addresses = [headers[number] for number in sorted(filter(str.isdigit, headers), key=int)]
        if len(addresses) != -(-_size(file) // size):
            raise PushError(
                f"The hub names {len(addresses)} parts for {file.name!r}, which has another number of them."
            )
        parts = []
        for number, address in enumerate(addresses):
            start = number * size
            tag = self._put(file, address, {}, start, min(size, _size(file) - start))
            parts.append({"partNumber": number + 1, "etag": tag})
        self._post(done, {"oid": file.sha256, "parts": parts}, _LFS)

    def _put(self, file: FileToPush, address: str, headers: Mapping[str, str], start: int, count: int) -> str:
        """Send `count` bytes. Returns the ETag of the answer."""
        before = self._sent

        def attempt() -> httpx2.Response:
            self._sent = before
            return self._client.request(
                "PUT",
                address,
                headers={**headers, "Content-Length": str(count)},
                content=self._pieces(file, start, count),
                follow=False,
                seconds=self._limits.total_seconds,
                max_bytes=_LONGEST_ANSWER_BYTES,
            )

        return str(self._tried(attempt, (200, 201, 204)).headers.get("etag", ""))

    def _pieces(self, file: FileToPush, start: int, count: int) -> Iterator[bytes]:
        if file.content is not None:
            self._advance(count)
            yield file.content[start : start + count]
            return
        with file.path.open("rb") as source:
            source.seek(start)
            left = count
            while left and (piece := source.read(min(left, _PIECE))):
                left -= len(piece)
                self._advance(len(piece))
                yield piece

    def _commit(self, files: Sequence[FileToPush], large: set[str], message: str) -> str:
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": message, "description": ""}}]
        for file in files:
            if file.name in large:
                pointer = {"path": file.name, "algo": "sha256", "oid": file.sha256, "size": _size(file)}
                lines.append({"key": "lfsFile", "value": pointer})
            else:
                content = base64.b64encode(_whole(file)).decode()
                lines.append({"key": "file", "value": {"path": file.name, "content": content, "encoding": "base64"}})
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        url = f"{self._endpoint}/api/models/{self._repo}/commit/main"
        told = self._answer(url, body, {"Content-Type": "application/x-ndjson"}, (200, 201))
        return str(told["commitOid"])

    def _ask(
        self,
        path: str,
        wish: Mapping[str, Any],
        *,
        headers: Mapping[str, str] = _JSON,
        good: tuple[int, ...] = (200, 201),
    ) -> dict[str, Any]:
        return self._answer(f"{self._endpoint}{quote(path)}", json.dumps(wish).encode(), headers, good)

    def _post(self, address: str, wish: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """To an address that the hub named. Its own host gets the token."""
        own = urlsplit(address)[:2] == urlsplit(self._endpoint)[:2]
        sent = {**headers, **(self._credential if own else {})}
        self._tried(lambda: self._posted(address, json.dumps(wish).encode(), sent), (200, 201, 204))

    def _answer(self, url: str, body: bytes, headers: Mapping[str, str], good: tuple[int, ...]) -> dict[str, Any]:
        answer = self._tried(lambda: self._posted(url, body, {**headers, **self._credential}), good)
        try:
            told = json.loads(answer.content)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise PushError(f"What answers at {self._endpoint!r} is no hub: its answer is not understood.")
        return told

    def _posted(self, url: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        return self._client.request(
            "POST", url, headers=headers, content=body, follow=False, seconds=self._limits.total_seconds,
            max_bytes=_LONGEST_ANSWER_BYTES,
        )  # fmt: skip

    def _tried(self, attempt: Callable[[], httpx2.Response], good: tuple[int, ...]) -> httpx2.Response:
        """The first good answer, of several tries where another one may better it."""
        cause: httpx2.TransportError | None
        for number in range(1, _TRIES + 1):
            try:
                answer = attempt()
            except httpx2.TransportError as error:
                reason, cause = "the connection broke off", error
            else:
                if answer.status_code in good:
                    return answer
                if answer.status_code not in _TRY_AGAIN:
                    raise self._refusal(answer)
                reason, cause = f"status {answer.status_code}", None
            if number == _TRIES:
                raise PushError(
                    f"The push to {self._repo!r} broke off: {reason}, {_TRIES} times in a row.",
                    hint="Push again: what the hub has is not sent twice.",
                ) from cause
            self._progress(self._sent, self._total)
            time.sleep(min(self._limits.retry_seconds * 2 ** (number - 1), 16))
        raise AssertionError("the last try returns or raises")

    def _refusal(self, answer: httpx2.Response) -> Exception:
        said = answer.headers.get("x-error-message", "")[:200]
        why = f": {said}" if said else ""
        match answer.status_code:
            case 401 | 403:
                return SourceCredentialsError(
                    f"The hub does not let this token write to {self._repo!r}{why}.",
                    hint="Store a token with the right to write to this repository or its owner.",
                )
            case 404:
                return SourceNotFoundError(f"The hub has no place {self._repo!r} for this token{why}.")
            case _:
                return PushError(f"The hub answers with status {answer.status_code} for {self._repo!r}{why}.")

    def _advance(self, count: int) -> None:
        self._sent += count
        self._progress(min(self._sent, self._total), self._total)


def _size(file: FileToPush) -> int:
    return file.size if file.content is None else len(file.content)


def _sample(file: FileToPush) -> bytes:
    if file.content is not None:
        return file.content[:_SAMPLE_BYTES]
    with file.path.open("rb") as source:
        return source.read(_SAMPLE_BYTES)


def _whole(file: FileToPush) -> bytes:
    return file.path.read_bytes() if file.content is None else file.content
