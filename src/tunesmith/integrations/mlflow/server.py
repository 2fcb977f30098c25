"""One MLflow server, spoken to by its REST API (version 2.0, which all servers since MLflow 2 have).

Every call may be repeated: experiments are found by their name, runs by the tag that names the feed, and a metric that
is there with the same key, value, time and step is stored once by servers that keep runs in a database.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2

from tunesmith.integrations._parts import pieces_of, size_of
from tunesmith.sources._client import GuardedClient
from tunesmith.sources.hub.upload import FileToPush
from tunesmith.spec.errors import TunesmithError

FEED_TAG = "tunesmith.feed"
"""Tag of a run that names the feed it is for."""

_SECONDS = 10.0
_LONGEST_ANSWER_BYTES = 8 * 1024**2
_MOST_METRICS = 1000
_MOST_PARAMETERS = 100
_CODE = re.compile(r"[A-Z_]{3,64}")

# What a server stores without refusing: older ones take no longer values.
_LONGEST_PARAMETER = 500
_LONGEST_TAG = 5000
_LONGEST_KEY = 250
_NO_KEY = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class Run:
    """One run on the server."""

    id: str
    experiment: str
    artifacts: str
    """Where it keeps files, as the server calls it."""


@dataclass(frozen=True)
class Metric:
    """One value of a figure."""

    key: str
    value: float
    at: float
    """Seconds since the epoch."""

    step: int


class MlflowError(Exception):
    """The server does not do as it is asked. The message holds nothing secret."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class MlflowServer:
    """Every method raises `MlflowError` where the server cannot be reached or refuses."""

    def __init__(
        self,
        uri: str,
        credentials: Mapping[str, str],
        client: GuardedClient,
        ending: threading.Event,
        upload_seconds: float,
    ) -> None:
        """`upload_seconds` is the longest time of one file; files break off when `ending` is set."""
        self._uri = uri.rstrip("/")
        self._headers = _authorization(credentials)
        self._client = client
        self._ending = ending
        self._upload_seconds = upload_seconds

    def page_of(self, run: Run) -> str:
        """Where a person can look at a run."""
        return f"{self._uri}/#/experiments/{run.experiment}/runs/{run.id}"

    def run(self, feed: str, experiment: str, values: Mapping[str, Any]) -> Run:
        """The run of a feed, made unless it is there; `values` are those of a new one."""
        id = self._experiment(experiment)
        wanted = {"experiment_ids": [id], "filter": f"tags.`{FEED_TAG}` = '{feed}'", "max_results": 1}
        found = self._post("runs/search", wanted).get("runs")
        if not isinstance(found, list) or not found:
            tags = [{"key": FEED_TAG, "value": feed}, *values["tags"]]
            found = [_part(self._post("runs/create", {**values, "experiment_id": id, "tags": tags}), "run")]
        info = _part(found[0], "info")
        return Run(id=str(_part(info, "run_id")), experiment=id, artifacts=str(_part(info, "artifact_uri")))

    def log(self, run: Run, metrics: Sequence[Metric]) -> None:
        """Store metrics, in their order."""
        told = [
            {"key": key_of(each.key), "value": each.value, "timestamp": int(each.at * 1000), "step": each.step}
            for each in metrics
        ]
        for start in range(0, len(told), _MOST_METRICS):
            self._post("runs/log-batch", {"run_id": run.id, "metrics": told[start : start + _MOST_METRICS]})

    def parameters(self, run: Run, values: Mapping[str, str]) -> None:
        """Store what the run was made with. What is there already must be the same."""
        told = [{"key": key_of(key), "value": _cut(value, _LONGEST_PARAMETER)} for key, value in values.items()]
        for start in range(0, len(told), _MOST_PARAMETERS):
            self._post("runs/log-batch", {"run_id": run.id, "params": told[start : start + _MOST_PARAMETERS]})

    def status(self, run: Run, status: str, *, ended_at: float | None) -> None:
        """Set how a run stands, in MLflow's words."""
        end = {"end_time": int(ended_at * 1000)} if ended_at is not None else {}
        self._post("runs/update", {"run_id": run.id, "status": status, **end})

    def takes_files(self, run: Run) -> bool:
        """Whether the server keeps a run's files itself. One that leaves them to its clients would have this one write
        to whatever place it names."""
        return urlsplit(run.artifacts).scheme == "mlflow-artifacts"

    def upload(self, run: Run, name: str, file: FileToPush) -> None:
        """Put a file among those of a run, by a path of names separated by slashes."""
        path = urlsplit(run.artifacts).path.strip("/")
        self._send(
            "PUT",
            f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{path}/{name}')}",
            headers={"content-type": "application/octet-stream", "content-length": str(size_of(file))},
            content=self._pieces(file),
            seconds=self._upload_seconds,
        )

    def register(self, run: Run, model: str, artifact: str, tags: Sequence[Mapping[str, str]]) -> None:
        """Make the files of a run below `artifact` a version of a registered model, unless they are one."""
        try:
            self._post("registered-models/create", {"name": model})
        except MlflowError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
        query = urlencode({"filter": f"run_id = '{run.id}'"})
        if self._get(f"model-versions/search?{query}").get("model_versions"):
            return
        version = {"name": model, "source": f"{run.artifacts}/{artifact}", "run_id": run.id, "tags": list(tags)}
        self._post("model-versions/create", version)

    def _experiment(self, name: str) -> str:
        try:
            return self._found_experiment(name)
        except MlflowError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            return str(_part(self._post("experiments/create", {"name": name}), "experiment_id"))
        except MlflowError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._found_experiment(name)

    def _found_experiment(self, name: str) -> str:
        told = _part(self._get(f"experiments/get-by-name?{urlencode({'experiment_name': name})}"), "experiment")
        id = str(_part(told, "experiment_id"))
        if told.get("lifecycle_stage") == "deleted":
            raise MlflowError(f"The experiment {name!r} was deleted on the server; restore it, or choose another one.")
        return id

    def _get(self, path: str) -> dict[str, Any]:
        return self._send("GET", f"/api/2.0/mlflow/{path}", headers={}, content=None, seconds=_SECONDS)

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._send(
            "POST",
            f"/api/2.0/mlflow/{path}",
            headers={"content-type": "application/json"},
            content=json.dumps(body).encode(),
            seconds=_SECONDS,
        )

    def _send(
        self, method: str, path: str, *, headers: Mapping[str, str], content: bytes | Iterator[bytes] | None,
        seconds: float,
    ) -> dict[str, Any]:  # fmt: skip
        try:
            answer = self._client.request(
                method,
                self._uri + path,
                headers={**headers, **self._headers},
                content=content,
                follow=False,
                seconds=seconds,
                max_bytes=_LONGEST_ANSWER_BYTES,
            )
        except TunesmithError as error:  # the address is not allowed, or the answer has no end
            raise MlflowError(error.message) from None
        except httpx2.TransportError as error:
            raise MlflowError(f"The MLflow server does not answer ({type(error).__name__}).") from None
        return _told(answer)

    def _pieces(self, file: FileToPush) -> Iterator[bytes]:
        for piece in pieces_of(file):
            if self._ending.is_set():
                raise MlflowError("The server ends; what is missing is sent after its start.")
            yield piece


def key_of(name: str) -> str:
    """A name as every server takes it for a figure or a parameter."""
    return _NO_KEY.sub("_", name)[:_LONGEST_KEY]


def tag(key: str, value: str) -> dict[str, str]:
    """A tag as the API writes it."""
    return {"key": key_of(key), "value": _cut(value, _LONGEST_TAG)}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    if "token" in credentials:
        return {"authorization": f"Bearer {credentials['token']}"}
    if "username" in credentials or "password" in credentials:
        pair = f"{credentials.get('username', '')}:{credentials.get('password', '')}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _part(told: Any, name: str) -> Any:
    if not isinstance(told, dict) or name not in told:
        raise MlflowError("What answers there is no MLflow server: its answer is not understood.")
    return told[name]


def _told(answer: httpx2.Response) -> dict[str, Any]:
    try:
        told = json.loads(answer.content or b"{}")
    except ValueError:
        told = None
    if answer.is_success and isinstance(told, dict):
        return told
    if answer.is_success:
        raise MlflowError("What answers there is no MLflow server: its answer is not understood.")
    code = told.get("error_code") if isinstance(told, dict) else None
    known = code if isinstance(code, str) and _CODE.fullmatch(code) else None
    raise MlflowError(
        f"The MLflow server answers with status {answer.status_code}{f' ({known})' if known else ''}.", known
    )
