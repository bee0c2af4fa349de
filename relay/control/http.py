"""HTTP in the relay's own loop: `/health` for whoever watches the node, the demo page, and the
API for staff.

It is plain HTTP for this machine (loopback by default): what is to be reached from elsewhere
stands behind a proxy that speaks HTTPS, without which a browser gives no page its microphone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mimetypes
import socket
from collections.abc import Callable, Iterator, Mapping
from importlib import resources

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from relay.errors import cannot_bind

CONNECTIONS = 100  # at once; more get 503
MOST_CONNECTIONS = 200  # each is an open file: what is above is closed unheard
CONNECTION_S = 15  # for all its requests: who sends none, or half of one, keeps others out
ANSWER_S = 600  # for an answer that has begun: a recording is long
LAST_ANSWERS_S = 1  # for those under way at a shutdown
NOT_BUILT = "The page is not built here: `make run` builds it (it needs Node.js and npm).\n"
HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Nothing is loaded from elsewhere; the page speaks to the region's own listeners only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self' {listeners}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def page_files() -> dict[str, bytes]:
    """The demo page as `make run` builds it; empty where it was not."""
    directory = resources.files("relay.control").joinpath("page")
    if not directory.is_dir():
        return {}
    return {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}


def application(
    region: str,
    listeners: tuple[str, ...],
    stopping: Callable[[], bool],
    files: Mapping[str, bytes],
    on_bug: Callable[[Exception], None],
    access: FastAPI | None = None,
) -> FastAPI:
    """What is served. `listeners` are the URLs at which voice clients connect, the first first;
    `access` is the API for staff."""
    app = FastAPI(openapi_url=None)  # its pages about itself load from elsewhere
    headers = {**HEADERS, "Content-Security-Policy": POLICY.format(listeners=" ".join(listeners))}
    app.add_middleware(_WithHeaders, headers=headers)
    app.add_middleware(_OneLength)
    if access is not None:
        app.mount("/v1", access)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        on_bug(error)
        return PlainTextResponse("Internal error\n", 500)

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> JSONResponse:
        state = "stopping" if stopping() else "serving"
        status = 503 if stopping() else 200
        return JSONResponse({"status": state, "region": region}, status)

    @app.get("/settings")
    async def settings() -> JSONResponse:
        """What the page must know to sign in."""
        return JSONResponse({"region": region, "listeners": listeners})

    @app.get("/{name}")
    @app.get("/")
    async def page(name: str = "index.html") -> Response:
        if not files:
            return PlainTextResponse(NOT_BUILT, 503)
        if name not in files:
            return PlainTextResponse("Not found\n", 404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind)

    return app


class _WithHeaders:
    """Adds these to each answer; what the answer says itself stands."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    present.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class _OneLength:
    """Refuses a request that has two lengths: a proxy may go by the other one, and would give the
    answer to what it left over to somebody else (RFC 9112 section 6.1)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            app = PlainTextResponse("Two lengths\n", 400, {"connection": "close"})
        await app(scope, receive, send)


class _Connection(H11Protocol):
    """The library's, which of itself waits for a request without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._last = self.loop.time() + ANSWER_S
        self._end = self.loop.call_later(CONNECTION_S, self._time_is_over)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()

    def _time_is_over(self) -> None:
        """But for an answer that is being sent."""
        cycle = self.cycle
        sending = cycle is not None and cycle.response_started and not cycle.response_complete
        if sending and self.loop.time() < self._last:
            self._end = self.loop.call_later(CONNECTION_S, self._time_is_over)
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)


class _Uvicorn(uvicorn.Server):
    """Signals are the relay's: they drain it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One listener. Everything runs on the loop that called `start`."""

    def __init__(self, host: str, port: int, app: FastAPI) -> None:
        self._address = (host, port)
        # Its own log is no log of ours: it knows neither our format nor our masks.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                loop="none",
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=LAST_ANSWERS_S,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve. Raises ListenError."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(self._address)
            listening.listen()
        except OSError as error:
            listening.close()
            raise cannot_bind("http", host, port, error) from error
        self._task = asyncio.create_task(self._server.serve([listening]))

    async def close(self) -> None:
        """No new request; those under way have a second."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
