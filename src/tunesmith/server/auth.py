"""Who calls is settled before a dialect sees the request; refusals come in the dialect's own shape."""

from collections.abc import Callable
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith.access.authentication import Authenticator
from tunesmith.access.caller import Caller
from tunesmith.access.permissions import Action, require
from tunesmith.dialects import Services
from tunesmith.spec.errors import InvalidRequestError, TunesmithError, UnauthenticatedError

RenderError = Callable[[TunesmithError, str], tuple[int, dict[str, Any]]]

_NEEDED = {"GET": Action.READ, "HEAD": Action.READ, "OPTIONS": Action.READ, "DELETE": Action.DELETE}


class Authenticated:
    """A dialect's application behind authentication. Its description of itself is open to all."""

    def __init__(
        self,
        application: ASGIApp,
        authenticator: Authenticator,
        open_doors: Callable[[Caller], Services],
        render_error: RenderError,
        public: frozenset[str],
    ) -> None:
        self._application = application
        self._authenticator = authenticator
        self._open_doors = open_doors
        self._render_error = render_error
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["path"] not in self._public:
            try:
                _refuse_nul(scope)
                caller = await anyio.to_thread.run_sync(self._authenticator.caller, Headers(scope=scope))
                require(caller, _NEEDED.get(scope["method"], Action.SUBMIT))
            except TunesmithError as error:
                status, body = self._render_error(error, scope["path"])
                headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthenticatedError) else None
                await JSONResponse(body, status_code=status, headers=headers)(scope, receive, send)
                return
            scope = {**scope, "state": {**scope.get("state", {}), "services": self._open_doors(caller)}}
        await self._application(scope, receive, send)


def _refuse_nul(scope: Scope) -> None:
    """The database has no such character, and no id has it."""
    if b"%00" in scope["query_string"] or "\0" in scope["path"]:
        raise InvalidRequestError("The address holds the character U+0000.")
