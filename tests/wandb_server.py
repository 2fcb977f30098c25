"""A small stand-in for the service of Weights & Biases, on the loopback: it takes runs and their histories.

It speaks as much of the service's protocol as its own library needs to begin a run, to go on with it and to end it.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from web_server import QuietServer, reply

_FILE_STREAM = re.compile(r"/files/(?P<entity>[^/]+)/(?P<project>[^/]+)/(?P<run>[^/]+)/file_stream")


class WandbServer:
    """Runs by id, each with its rows; `down` makes it answer everything with 503."""

    ENTITY = "acme"

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, dict[str, Any]]] = {}
        """By run, the lines of its history by their place."""
        self.given: list[tuple[str, int]] = []
        """Run and place of every line that came, also of those that came twice."""
        self.runs: dict[str, dict[str, Any]] = {}
        """By run, what its library said of it."""
        self.ended: dict[str, int] = {}
        """By run, the exit code."""
        self.files: dict[str, bytes] = {}
        """Contents of files, by their path in a run."""
        self.credentials: set[str] = set()
        self.asked: list[str] = []
        self.down = False
        self.asked_while_down: list[str] = []
        """Paths."""
        self.full = False
        """Whether it refuses rows."""
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = QuietServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What a query of GraphQL is answered."""
        found = re.search(r"(query|mutation)\s+(\w+)", query)
        name = found[2] if found else ""
        self.asked.append(name)
        if "upsertBucket" in query:
            run = variables.get("name") or "run"
            is_new = run not in self.runs
            self.runs.setdefault(run, {}).update({key: value for key, value in variables.items() if value})
            return {"upsertBucket": {"bucket": self._bucket(run), "inserted": is_new}}
        if name == "Run":
            run = {**self._bucket(variables["name"]), "projectId": "1", "state": "finished", "systemMetrics": "{}"}
            return {"project": {"run": {**run, "historyKeys": None, "user": {"username": "me"}}}}
        if "RunResumeStatus" in name or "historyLineCount" in query:
            run = variables.get("name") or variables.get("run")
            known = run in self.runs
            return (
                {"model": {"id": "p", "name": "tests", "entity": self._entity, "bucket": self._bucket(run)}}
                if known
                else {"model": {"bucket": None}}
            )
        if "createRunFiles" in query:
            files = [{"name": each, "uploadUrl": f"{self.url}/put/{each}"} for each in variables.get("files", [])]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            return {
                "viewer": {"id": "v", "entity": self.ENTITY, "username": "me", "flags": "{}", "teams": {"edges": []}}
            }
        return {}

    @property
    def _entity(self) -> dict[str, str]:
        return {"id": "e", "name": self.ENTITY}

    def _bucket(self, run: str) -> dict[str, Any]:
        rows = self.rows.get(run, {})
        tail = [json.dumps(rows[max(rows)])] if rows else []
        return {
            "id": f"id-{run}",
            "name": run,
            "displayName": self.runs.get(run, {}).get("displayName"),
            "description": "",
            "config": json.dumps({"_wandb": {"desc": None, "value": {"t": {}}}}),
            "sweepName": None,
            "project": {"id": "p", "name": "tests", "entity": self._entity},
            "historyLineCount": len(rows),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": json.dumps([json.dumps({"_runtime": 1.0, "_timestamp": 1.0})] if rows else []),
            "summaryMetrics": json.dumps(rows[max(rows)] if rows else {}),
            "tags": [],
            "wandbConfig": '{"t": {}}',  # without this key, the library takes a run for one that never began
        }

    def stream(self, run: str, body: dict[str, Any]) -> None:
        """Take a piece of a run's files."""
        history = body.get("files", {}).get("wandb-history.jsonl")
        if history:
            lines = self.rows.setdefault(run, {})
            for place, line in enumerate(history["content"], history["offset"]):
                self.given.append((run, place))
                lines[place] = json.loads(line)
        if body.get("complete"):
            self.ended[run] = body.get("exitcode", 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: WandbServer

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.service.credentials.add(self.headers.get("authorization", ""))
        if self.service.down:
            self.service.asked_while_down.append(self.path)
            reply(self, 503)
            return
        told = json.loads(body) if body else {}
        streamed = _FILE_STREAM.search(self.path)
        if streamed and self.service.full:
            reply(self, 403)
        elif streamed:
            self.service.stream(streamed["run"], told)
            reply(self, 200, b"{}")
        else:
            answer = self.service.answer(told.get("query", ""), told.get("variables") or {})
            reply(self, 200, json.dumps({"data": answer}).encode(), Content_Type="application/json")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.service.down:
            reply(self, 503)
            return
        self.service.files[self.path.partition("/put/")[2]] = body
        reply(self, 200)
