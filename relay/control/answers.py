"""What the API answers when it cannot do what was asked: JSON that names the rule.

`{"error": {"rule": "grant", "text": "..."}}`; the rule is a fixed word, the text is for a person.
Neither repeats what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.errors import Forbidden, KeyMissing, RelayError, TokenRefused

MOST_OCTETS = 1 << 16  # of a request's body
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


def rule_of(error: RelayError) -> str:
    """Its fixed word: "not-kept", "audit-unavailable"."""
    if isinstance(error, Forbidden):
        return error.rule
    if isinstance(error, TokenRefused):
        return error.reason
    return _WORDS.sub("-", type(error).__name__).lower()


def refusal(status: int, rule: str, text: str, **headers: str) -> JSONResponse:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": {"rule": rule, "text": text}}, status, fields)


def add_refusals(
    app: FastAPI,
    on_refused: Callable[[RelayError, str], None],
    on_bug: Callable[[Exception], None],
) -> None:
    """Every failure of `app` becomes such an answer; `on_refused` hears of it and of the
    address that asked."""

    @app.exception_handler(RelayError)
    async def expected(request: Request, error: RelayError) -> JSONResponse:
        on_refused(error, request.client.host if request.client is not None else "")
        # A key that is not there, as of what only a customer can play, will not come by waiting.
        status = 409 if isinstance(error, KeyMissing) else error.status_hint
        headers = {"www_authenticate": "Bearer"} if status == 401 else {}
        headers |= {"retry_after": "5"} if status == 503 else {}
        return refusal(status, rule_of(error), str(error), **headers)

    @app.exception_handler(RequestValidationError)
    async def mistaken(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            f"{'.'.join(str(part) for part in each['loc'][1:] or each['loc'])}: {each['msg']}"
            for each in error.errors()
        ]
        return refusal(422, "input", "; ".join(found[:10]))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        rule = {404: "no-such-path", 405: "method"}.get(error.status_code, "http")
        response = refusal(error.status_code, rule, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        on_bug(error)
        return refusal(500, "bug", "Internal error")


class SmallBodies:
    """Takes no more than `MOST_OCTETS` of a request; and nothing of an answer is to be cached."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        octets = 0

        async def counted() -> Message:
            nonlocal octets
            message = await receive()
            octets += len(message.get("body", b""))
            if octets > MOST_OCTETS:
                raise HTTPException(413, f"a request has up to {MOST_OCTETS} octets")
            return message

        async def uncached(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"no-store")]
            await send(message)

        await self._app(scope, counted, uncached)
