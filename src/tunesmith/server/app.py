"""The HTTP application: every dialect as an application of its own, behind one dispatcher."""

import errno
import logging
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import ModuleType
from typing import get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tunesmith
from tunesmith.access.authentication import Authenticator
from tunesmith.access.caller import Caller
from tunesmith.dialects import Services
from tunesmith.dialects._wire import MAX_JSON_BYTES, to_error
from tunesmith.plugins import load_plugins
from tunesmith.server.auth import Authenticated, RenderError
from tunesmith.spec.errors import (
    DiskFullError,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    TunesmithError,
    UnsupportedError,
)
from tunesmith.spec.faults import path_of, sentence
from tunesmith.spec.job import JobSpec

_log = logging.getLogger(__name__)


IsAddressed = Callable[[Scope], bool]
"""Whether a request was meant for this server."""


def create_app(
    authenticator: Authenticator,
    open_doors: Callable[[Caller], Services],
    is_addressed: IsAddressed,
    *,
    start: Callable[[], None],
    stop: Callable[[], None],
) -> ASGIApp:
    """All dialects behind one address."""
    dialects = load_plugins("tunesmith.dialects")
    applications = {
        name: Authenticated(
            _dialect_app(name, dialect), authenticator, open_doors, dialect.render_error, frozenset({_openapi(dialect)})
        )
        for name, dialect in dialects.items()
    }

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        start()
        yield
        stop()

    server = FastAPI(title="Tunesmith", version=tunesmith.__version__, lifespan=lifespan, openapi_url=None)

    @server.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @server.get("/version")
    def version() -> dict[str, str]:
        return {"version": tunesmith.__version__}

    prefixes = {prefix: applications[name] for name, dialect in dialects.items() for prefix in dialect.PREFIXES}
    return Dispatcher(server, prefixes, is_addressed, fallback=applications["training_api"])


class Dispatcher:
    """Hands a request to the dialect that owns its path. A trailing slash makes no difference."""

    def __init__(
        self, server: ASGIApp, prefixes: Mapping[str, ASGIApp], is_addressed: IsAddressed, *, fallback: ASGIApp
    ) -> None:
        self._server = server
        self._is_addressed = is_addressed
        self._prefixes = sorted(prefixes.items(), key=lambda item: len(item[0]), reverse=True)
        self._fallback = fallback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._server(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        scope = {**scope, "path": path, "raw_path": path.encode()}
        application = self._application(path) if self._is_addressed(scope) else _refuse_host
        await application(scope, receive, _finishing(send))

    def _application(self, path: str) -> ASGIApp:
        if path in ("/healthz", "/version"):
            return self._server
        for prefix, application in self._prefixes:
            if path == prefix or path.startswith(f"{prefix}/"):
                return application
        return self._fallback


def _finishing(send: Send) -> Send:
    """Give every answer an id, and tell the openai client not to repeat a final refusal."""

    async def finish(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
            if message["status"] in (409, 429):
                headers["x-should-retry"] = "false"
        await send(message)

    return finish


def is_local(scope: Scope) -> bool:
    """Whether a request was addressed to this machine: a web page elsewhere may not reach an open server by name."""
    host = Headers(scope=scope).get("host", "localhost")
    return re.sub(r":\d+$", "", host.lower()) in ("localhost", "127.0.0.1", "[::1]")


async def _refuse_host(scope: Scope, receive: Receive, send: Send) -> None:
    error = ForbiddenError(
        f"Host {Headers(scope=scope).get('host')!r} is not this server.", hint="Address it as localhost or 127.0.0.1."
    )
    answer = JSONResponse({"error": error.info.model_dump(), "detail": error.info.sentence()}, status_code=403)
    await answer(scope, receive, send)


def _openapi(dialect: ModuleType) -> str:
    return f"{dialect.PREFIXES[0].rstrip('/')}/openapi.json"


def _dialect_app(name: str, dialect: ModuleType) -> FastAPI:
    description = (dialect.__doc__ or "").strip()
    app = FastAPI(
        title=f"Tunesmith: {name}",
        version=tunesmith.__version__,
        description=description,
        openapi_url=_openapi(dialect),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(dialect.routes())
    _handle_errors(app, dialect.render_error)
    return app


def _handle_errors(app: FastAPI, render: RenderError) -> None:
    def answer(request: Request, error: TunesmithError) -> JSONResponse:
        status, body = render(error, request.url.path)
        return JSONResponse(body, status_code=status)

    @app.exception_handler(TunesmithError)
    async def expected(request: Request, error: TunesmithError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, to_error(error, request.headers.get("content-type")))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        _, body = render(_of_http(request, error), request.url.path)
        return JSONResponse(body, status_code=error.status_code, headers=dict(error.headers or {}))

    @app.exception_handler(ValidationError)
    async def impossible(request: Request, error: ValidationError) -> JSONResponse:
        found = _of_spec(error)
        return await unexpected(request, error) if found is None else answer(request, found)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, _error: ClientDisconnect) -> JSONResponse:
        return answer(request, InvalidRequestError("The body ends too early."))  # nobody is there to read it

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            full = DiskFullError("No space is left on the server's disk.", hint="Free some space and try again.")
            return answer(request, full)
        return await unexpected(request, error)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, InternalError("The server met an unexpected fault; its log has the details."))


_PARTS_OF_A_SPEC = {
    kind.__name__: name
    for name, field in JobSpec.model_fields.items()
    for kind in (field.annotation, *get_args(field.annotation))
    if isinstance(kind, type) and issubclass(kind, BaseModel)
}


def _of_spec(error: ValidationError) -> InvalidRequestError | None:
    """A value that its dialect let through and no spec may have, by its path in the spec."""
    part = _PARTS_OF_A_SPEC.get(error.title)
    if part is None:
        return None
    first = error.errors()[0]
    path = ".".join(filter(None, [part, path_of(first["loc"])]))
    return InvalidRequestError(sentence(first, path), param=path)


def _of_http(request: Request, error: HTTPException) -> TunesmithError:
    path = request.url.path
    if error.status_code == 404:
        return NotFoundError(f"No route {request.method} {path}.")
    if error.status_code == 405:
        return UnsupportedError(f"Method {request.method} is not allowed on {path}.")
    if error.status_code == 413:
        return TooLargeError(f"The body has more than {MAX_JSON_BYTES:,} bytes, the limit for JSON.")
    return InvalidRequestError(str(error.detail))
