"""A small hub for tests, on two free ports of the loopback: the hub itself, and the other host where large files lie.

It speaks the part of the Hugging Face hub's protocol that clients use to look at repositories, to download files, and
to upload them in a commit.
That the official client is content with it is tested in `unit/sources/test_hub_server.py`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from web_server import QuietServer

_LARGE = (".safetensors", ".gguf", ".bin", ".parquet", ".model")
_INFO = re.compile(r"/api/(model|dataset)s/(?P<name>[^/]+/[^/]+)(/revision/(?P<revision>.+))?")
_TREE = re.compile(r"/api/(model|dataset)s/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_FILE = re.compile(r"/((?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Repository:
    """One repository with all its commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


class HubServer:
    """A hub of repositories that tests publish; `with` ends it."""

    TOKEN = "hf_token_of_a_reader"
    STRANGERS_TOKEN = "hf_token_of_a_stranger"
    WRITERS_TOKEN = "hf_token_of_a_writer"

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        """Who was asked ("hub" or "files"), for what, and with which headers."""
        self.cuts: list[int] = []
        """After how many bytes each of the next downloads of large files is cut off."""
        self.damaged = False
        """Whether large files arrive with a wrong byte."""
        self.stored: dict[str, bytes] = {}
        """Large files that were uploaded, by digest."""
        self.part_bytes: int | None = None
        """Size of the parts in which large files are to be sent; none = whole."""
        self.parts: dict[str, dict[int, bytes]] = {}
        """Parts that were uploaded, by digest and number."""
        self.upload_faults: list[int] = []
        """Statuses with which the next uploads of large files, or of their parts, are refused."""
        self.down = False
        """Whether the hub answers everything with 503."""
        self._files = _serve(_FilesHandler, self)
        self._hub = _serve(_HubHandler, self)
        self.url = f"http://127.0.0.1:{self._hub.server_port}"
        self.files_url = f"http://127.0.0.1:{self._files.server_port}"

    def publish(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes],
        *,
        revision: str = "main",
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Put a commit onto a branch of a `model` or a `dataset`; returns its hash."""
        repository = self.repositories.setdefault((kind, name), Repository())
        repository.private, repository.gated = private, gated
        digest = hashlib.sha1(f"{len(repository.commits)}".encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        commit = digest.hexdigest()
        repository.commits[commit] = dict(files)
        repository.revisions[revision] = commit
        return commit

    def large_file(self, sha256: str) -> bytes | None:
        """A large file of any repository, or one that was uploaded."""
        if sha256 in self.stored:
            return self.stored[sha256]
        for repository in self.repositories.values():
            for files in repository.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == sha256:
                        return content
        return None

    def stop(self) -> None:
        """End both servers."""
        for server in (self._hub, self._files):
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "HubServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _serve(handler: type["_Handler"], hub: HubServer) -> QuietServer:
    server = QuietServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    role: str

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.hub.requests.append((self.role, self.path, dict(self.headers)))
        self.handle_path(unquote(urlsplit(self.path).path))

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def do_POST(self) -> None:
        self.hub.requests.append((self.role, self.path, dict(self.headers)))
        self.take(unquote(urlsplit(self.path).path), self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    do_PUT = do_POST  # noqa: N815 - the library's name

    def handle_path(self, path: str) -> None:
        raise NotImplementedError

    def take(self, path: str, body: bytes) -> None:
        """Answer a request that has a body."""
        raise NotImplementedError

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_content(self, content: bytes, cut: int | None = None, **headers: str) -> None:
        """A file or the part of it that the request asks for, cut off after some bytes of the part."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]) if wanted and wanted[2] else len(content) - 1, len(content) - 1)
        self.send_response(206 if wanted else 200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if self.command == "GET":
            part = content[first : last + 1]
            self.wfile.write(part if cut is None else part[:cut])
            self.close_connection = self.close_connection or cut is not None


class _FilesHandler(_Handler):
    """The host of large files: serves whoever has a signed address, and knows no tokens."""

    role = "files"

    def handle_path(self, path: str) -> None:
        sha256 = path.removeprefix("/large/")
        content = self.hub.large_file(sha256)
        if parse_qs(urlsplit(self.path).query).get("signature") != [_signature(sha256)] or content is None:
            self.answer(403)
            return
        cut = self.hub.cuts.pop(0) if self.hub.cuts and self.command == "GET" else None
        damaged = bytes([content[0] ^ 1]) + content[1:] if self.hub.damaged else content
        self.send_content(damaged, cut, ETag=f'"{sha256[:32]}"')

    def take(self, path: str, body: bytes) -> None:
        """Store a large file, or a part of one."""
        if self.hub.upload_faults:
            self.answer(self.hub.upload_faults.pop(0))
            return
        sha256, _, part = path.removeprefix("/large/").partition("/")
        if part:
            self.hub.parts.setdefault(sha256, {})[int(part)] = body
        elif hashlib.sha256(body).hexdigest() == sha256:
            self.hub.stored[sha256] = body
        else:
            self.answer(400)
            return
        self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')


class _HubHandler(_Handler):
    """The hub: information, small files, and signed addresses of large ones."""

    role = "hub"

    def take(self, path: str, body: bytes) -> None:
        """The steps of an upload."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.down:
            self.answer(503)
        elif path.startswith("/complete/"):
            self._complete(path.removeprefix("/complete/"), json.loads(body))
        elif token != HubServer.WRITERS_TOKEN:
            refused = 403 if token in (HubServer.TOKEN, HubServer.STRANGERS_TOKEN) else 401
            self.answer(refused, X_Error_Message="You have no right to write here")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(_LARGE) else "regular",
                 "shouldIgnore": False, "oid": None}
                for each in files
            ]  # fmt: skip
            self._json({"files": modes})
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif path.endswith("/commit/main"):
            self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), body)
        else:
            self.answer(404)

    def _create(self, wish: dict[str, Any]) -> None:
        name = f"{wish['organization'] or 'writer'}/{wish['name']}"
        if ("model", name) in self.hub.repositories:
            self.answer(409, b'{"error": "You already created this model repo"}')
            return
        self.hub.repositories["model", name] = Repository(private=wish["visibility"] == "private")
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _batch(self, wish: dict[str, Any]) -> None:
        objects = []
        for each in wish["objects"]:
            sha256, size = each["oid"], each["size"]
            actions: dict[str, Any] = {"upload": {"href": f"{self.hub.files_url}/large/{sha256}"}}
            if self.hub.part_bytes is not None:
                count = -(-size // self.hub.part_bytes)
                parts = {
                    f"{number:05}": f"{self.hub.files_url}/large/{sha256}/{number}" for number in range(1, count + 1)
                }
                header = {"chunk_size": str(self.hub.part_bytes), **parts}
                actions = {"upload": {"href": f"{self.hub.url}/complete/{sha256}", "header": header}}
            known = self.hub.large_file(sha256) is not None
            objects.append({"oid": sha256, "size": size, **({} if known else {"actions": actions})})
        self._json({"transfer": "multipart" if self.hub.part_bytes else "basic", "objects": objects})

    def _complete(self, sha256: str, wish: dict[str, Any]) -> None:
        parts = self.hub.parts[sha256]
        content = b"".join(parts[each["partNumber"]] for each in wish["parts"])
        if hashlib.sha256(content).hexdigest() != sha256:
            self.answer(400)
            return
        self.hub.stored[sha256] = content
        self._json({})

    def _commit(self, name: str, body: bytes) -> None:
        repository = self.hub.repositories["model", name]
        before = repository.revisions.get("main")
        files = dict(repository.commits[before]) if before else {}
        for line in body.splitlines():
            step = json.loads(line)
            if step["key"] == "file":
                files[step["value"]["path"]] = base64.b64decode(step["value"]["content"])
            elif step["key"] == "lfsFile":
                files[step["value"]["path"]] = self.hub.stored[step["value"]["oid"]]
        commit = self.hub.publish("model", name, files, private=repository.private)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def handle_path(self, path: str) -> None:
        if self.hub.down:
            self.answer(503)
            return
        for pattern, serve in ((_FILE, self._file), (_TREE, self._tree), (_INFO, self._info)):
            found = pattern.fullmatch(path)
            if found:
                kind = found["kind"] or "model" if pattern is _FILE else found[1]
                self._with_repository(kind, found, serve)
                return
        self.answer(404)

    def _with_repository(self, kind: str, found: re.Match[str], serve: Any) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", HubServer.TOKEN, HubServer.STRANGERS_TOKEN, HubServer.WRITERS_TOKEN):
            self.answer(401, X_Error_Message="Invalid credentials in Authorization header")
            return
        repository = self.hub.repositories.get((kind, found["name"]))
        if repository is None or (repository.private and token not in (HubServer.TOKEN, HubServer.WRITERS_TOKEN)):
            self.answer(404 if token else 401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            return
        if repository.gated and serve == self._file and token != HubServer.TOKEN:
            self.answer(403 if token else 401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
            return
        revision = found["revision"] or "main"
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
            return
        serve(found, repository, commit)

    def _info(self, found: re.Match[str], repository: Repository, commit: str) -> None:
        siblings = []
        for path, content in repository.commits[commit].items():
            entry: dict[str, Any] = {"rfilename": path}
            if "blobs" in parse_qs(urlsplit(self.path).query):
                entry |= {"blobId": _git_digest(content), "size": len(content)}
                if path.endswith(_LARGE):
                    entry["lfs"] = _pointer(content)
            siblings.append(entry)
        gated = "manual" if repository.gated else False
        self._json(
            {"id": found["name"], "sha": commit, "private": repository.private, "gated": gated, "siblings": siblings}
        )

    def _tree(self, found: re.Match[str], repository: Repository, commit: str) -> None:
        entries = []
        for path, content in repository.commits[commit].items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": _git_digest(content)}
            if path.endswith(_LARGE):
                pointer = _pointer(content)
                entry["lfs"] = {"oid": pointer["sha256"], "size": pointer["size"], "pointerSize": 134}
            entries.append(entry)
        self._json(entries)

    def _file(self, found: re.Match[str], repository: Repository, commit: str) -> None:
        content = repository.commits[commit].get(found["path"])
        if content is None:
            self.answer(404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", X_Repo_Commit=commit)
        elif found["path"].endswith(_LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            self.answer(
                302,
                Location=f"{self.hub.files_url}/large/{sha256}?signature={_signature(sha256)}",
                X_Repo_Commit=commit,
                X_Linked_Etag=f'"{sha256}"',
                X_Linked_Size=str(len(content)),
            )
        else:
            self.send_content(content, ETag=f'"{_git_digest(content)}"', X_Repo_Commit=commit)

    def _json(self, answer: Any) -> None:
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")


def _git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}


def _signature(sha256: str) -> str:
    return hashlib.sha256(f"signed {sha256}".encode()).hexdigest()[:16]
