"""The server's HTTP API as the commands use it."""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tunesmith.cli.faults import not_tunesmith, refused, unreachable
from tunesmith.cli.outcome import CommandError, ExitCode
from tunesmith.cli.upload import shown_while_sent

Json = dict[str, Any]

# A job is checked by a worker process before it is accepted, and an uploaded file is read through.
_ANSWER_SECONDS = 600.0
_CONNECT_SECONDS = 10.0
_PAGE = 1000

_ID = re.compile(r"[0-9a-f]{32}")
_NATIVE = "/tunesmith/v1"

API_KEY = "TUNESMITH_API_KEY"
"""The variable that holds the key. No option takes one: other users of a machine can read command lines."""


def job_id(given: str) -> str:
    """Our id of a job from any of its forms: 32 digits, `ftjob-…`, or a UUID with dashes.

    Raises:
        CommandError: it is none of them.
    """
    id = given.lower().removeprefix("ftjob-").replace("-", "")
    if not _ID.fullmatch(id):
        raise CommandError(
            f"No job has the id {given!r}: an id has 32 hexadecimal digits.",
            hint="List the jobs with `tunesmith jobs list`.",
            code=ExitCode.NOT_FOUND,
        )
    return id


class Client:
    """One server. Every method raises `CommandError` where the server refuses or does not answer."""

    def __init__(self, url: str) -> None:
        import httpx2

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(
                f"{url!r} is not the address of a server; it begins with http:// or https://.", code=ExitCode.USAGE
            )
        self.url = url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.url,
            headers=_credential(),
            timeout=httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            # A proxy does not know this machine's own addresses.
            trust_env=not _is_loopback(parts.hostname),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def read(self, path: str, params: Mapping[str, str | int] | None = None) -> Json:
        """What lies at a path below `/tunesmith/v1`."""
        return self._object("GET", f"{_NATIVE}{path}", params=params)

    def text(self, path: str, params: Mapping[str, str | int] | None = None) -> str:
        """The text that lies at a path below `/tunesmith/v1`."""
        return str(self._answer("GET", f"{_NATIVE}{path}", params=params).text)

    def listed(self, path: str, params: Mapping[str, str | int] | None = None) -> list[Json]:
        """The entries of a list, or of one page of it."""
        found: list[Json] = self.read(path, params)["data"]
        return found

    def change(self, method: str, path: str, json: Json | None = None) -> Json:
        """Ask for something to be made, changed or deleted."""
        return self._object(method, f"{_NATIVE}{path}", json=json)

    def send(self, path: str, form: Mapping[str, str], file: Path) -> Json:
        """Upload a file with a form."""
        return self._send(f"{_NATIVE}{path}", form, file)

    @contextmanager
    def received(self, path: str) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """What lies at a path, piece by piece, and its length where the server knows it."""
        import httpx2

        try:
            with self._http.stream("GET", f"{_NATIVE}{path}") as answer:
                if not answer.is_success:
                    raise refused(self.url, answer.status_code, answer.read().decode(errors="replace"))
                length = answer.headers.get("content-length")
                yield int(length) if length else None, answer.iter_bytes()
        except httpx2.TransportError as error:
            raise unreachable(self.url, error) from error

    def job(self, id: str) -> Json:
        """One job."""
        return self.read(f"/jobs/{id}")

    def events(self, id: str, after: str | None = None) -> list[Json]:
        """All events of a job behind the one with the id `after`, oldest first."""
        found: list[Json] = []
        while True:
            params: dict[str, str | int] = {"limit": _PAGE, **({"after": after} if after else {})}
            answer = self.read(f"/jobs/{id}/events", params)
            found += answer["data"]
            if not answer["has_more"]:
                return found
            after = found[-1]["id"]

    def log(self, id: str) -> Iterator[str]:
        """What a job's workers printed, piece by piece."""
        start = 0
        while True:
            answer = self._answer("GET", f"{_NATIVE}/jobs/{id}/log", params={"start": start})
            yield answer.text
            if not answer.text:
                return
            start = int(answer.headers["x-log-end"])

    def models(self) -> list[Json]:
        """Produced models, then base models."""
        return self.listed("/models")

    def upload(self, path: Path) -> str:
        """Send training data and give the file's id."""
        return str(self._send("/v1/files", {"purpose": "fine-tune"}, path)["id"])

    def create_job(self, request: Json) -> str:
        """Create a job and give its id."""
        return job_id(self._object("POST", "/v1/fine_tuning/jobs", json=request)["id"])

    def _send(self, path: str, form: Mapping[str, str], file: Path) -> Json:
        with shown_while_sent(file) as content:
            return self._object("POST", path, data=form, files={"file": (file.name, content)})

    def _object(self, method: str, path: str, **request: Any) -> Json:
        answer = self._answer(method, path, **request)
        try:
            value = answer.json()
        except ValueError:
            raise not_tunesmith(self.url) from None
        if not isinstance(value, dict):
            raise not_tunesmith(self.url)
        return value

    def _answer(self, method: str, path: str, **request: Any) -> Any:
        import httpx2

        try:
            answer = self._http.request(method, path, **request)
        except httpx2.TransportError as error:
            raise unreachable(self.url, error) from error
        if not answer.is_success:
            raise refused(self.url, answer.status_code, answer.text)
        return answer


def _credential() -> dict[str, str]:
    key = os.environ.get(API_KEY, "").strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CommandError(f"What {API_KEY} holds is not one word of ASCII letters.", code=ExitCode.USAGE)
    return {"Authorization": f"Bearer {key}"}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    for family, prefix in ((socket.AF_INET, b"\x7f"), (socket.AF_INET6, b"\0" * 15 + b"\x01")):
        try:
            return socket.inet_pton(family, host).startswith(prefix)
        except OSError:
            continue
    return False
