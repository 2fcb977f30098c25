"""The server's HTTP API as the commands use it."""

import re
import socket
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

    def jobs(self, limit: int) -> list[Json]:
        """The newest jobs, newest first."""
        return self._list(f"{_NATIVE}/jobs", params={"limit": limit})

    def job(self, id: str) -> Json:
        """One job."""
        return self._object("GET", f"{_NATIVE}/jobs/{id}")

    def cancel(self, id: str) -> Json:
        """Cancel a job."""
        return self._object("POST", f"{_NATIVE}/jobs/{id}/cancel")

    def events(self, id: str, after: str | None = None) -> list[Json]:
        """All events of a job behind the one with the id `after`, oldest first."""
        found: list[Json] = []
        while True:
            params: dict[str, str | int] = {"limit": _PAGE, **({"after": after} if after else {})}
            answer = self._object("GET", f"{_NATIVE}/jobs/{id}/events", params=params)
            found += answer["data"]
            if not answer["has_more"]:
                return found
            after = found[-1]["id"]

    def log(self, id: str) -> str:
        """What a job's workers printed."""
        return str(self._answer("GET", f"{_NATIVE}/jobs/{id}/log").text)

    def datasets(self) -> list[Json]:
        """Registered datasets."""
        return self._list(f"{_NATIVE}/datasets")

    def add_dataset(self, name: str, path: Path) -> Json:
        """Register a file under a name."""
        return self._send(f"{_NATIVE}/datasets", {"name": name}, path)

    def models(self) -> list[Json]:
        """Produced models, then base models."""
        return self._list(f"{_NATIVE}/models")

    def upload(self, path: Path) -> str:
        """Send training data and give the file's id."""
        return str(self._send("/v1/files", {"purpose": "fine-tune"}, path)["id"])

    def create_job(self, request: Json) -> str:
        """Create a job and give its id."""
        return job_id(self._object("POST", "/v1/fine_tuning/jobs", json=request)["id"])

    def _send(self, path: str, form: dict[str, str], file: Path) -> Json:
        with shown_while_sent(file) as content:
            return self._object("POST", path, data=form, files={"file": (file.name, content)})

    def _list(self, path: str, **request: Any) -> list[Json]:
        found: list[Json] = self._object("GET", path, **request)["data"]
        return found

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


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    for family, prefix in ((socket.AF_INET, b"\x7f"), (socket.AF_INET6, b"\0" * 15 + b"\x01")):
        try:
            return socket.inet_pton(family, host).startswith(prefix)
        except OSError:
            continue
    return False
