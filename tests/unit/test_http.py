"""What the node serves over HTTP: its health, and the demo page with nothing from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from relay.control import http
from relay.control.http import HttpServer, application
from relay.errors import ListenError

FILES = {"index.html": b"<!doctype html>", "app.js": b"start()", "style.css": b"body {}"}
LISTENERS = ("ws://127.0.0.1:5070", "wss://127.0.0.1:5443")


class Node:
    """The application on its own, asked without a socket."""

    def __init__(self, files: dict[str, bytes] = FILES) -> None:
        self.stopping = False
        self.bugs: list[Exception] = []
        self.app = application("ie1", LISTENERS, lambda: self.stopping, files, self.bugs.append)

    def ask(self, path: str, method: str = "GET") -> httpx.Response:
        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
                return await client.request(method, path)

        return asyncio.run(exchange())


def test_health_says_serving_and_while_it_drains_stopping() -> None:
    node = Node()
    assert node.ask("/health").json() == {"status": "serving", "region": "ie1"}
    node.stopping = True
    answer = node.ask("/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "stopping")
    assert node.ask("/health", "HEAD").status_code == 503


def test_the_page_and_what_it_needs() -> None:
    node = Node()
    kinds = {"/": "text/html", "/app.js": "text/javascript", "/style.css": "text/css"}
    for path, kind in kinds.items():
        answer = node.ask(path)
        assert answer.content == FILES[path[1:] or "index.html"]
        assert answer.headers["content-type"].startswith(kind)
    assert node.ask("/settings").json() == {"region": "ie1", "listeners": list(LISTENERS)}


@pytest.mark.parametrize(
    "path", ["/nothing", "/..%2fhttp.py", "/%2e%2e/http.py", "/docs", "/openapi.json", "/page/x"]
)
def test_nothing_else_is_served(path: str) -> None:
    assert Node().ask(path).status_code == 404


def test_nothing_is_changed_by_asking() -> None:
    assert {Node().ask("/health", method).status_code for method in ("POST", "PUT")} == {405}


@pytest.mark.parametrize("path", ["/", "/health", "/nothing", "/settings"])
def test_every_answer_forbids_what_comes_from_elsewhere(path: str) -> None:
    headers = Node().ask(path).headers
    policy = dict(
        directive.split(" ", 1) for directive in headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://127.0.0.1:5070 wss://127.0.0.1:5443"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


def test_a_page_that_was_not_built_says_how() -> None:
    answer = Node({}).ask("/")
    assert answer.status_code == 503 and "make run" in answer.text


def test_a_bug_is_told_and_answered_without_its_text() -> None:
    node = Node()

    @node.app.get("/health/bug")
    async def fail() -> None:
        raise ValueError("secret")

    answer = node.ask("/health/bug")
    assert answer.status_code == 500 and "secret" not in answer.text
    assert [str(bug) for bug in node.bugs] == ["secret"]


def run(test: Callable[[int], Awaitable[None]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asyncio.run(asyncio.wait_for(test(port), 10))


def test_it_serves_on_its_address_until_it_is_closed() -> None:
    async def test(port: int) -> None:
        server = HttpServer("127.0.0.1", port, Node().app)
        await server.start()
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/health")
        assert json.loads(answer.content)["region"] == "ie1"
        assert "server" not in answer.headers
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    run(test)


def test_a_port_that_is_taken_is_named() -> None:
    async def test(port: int) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(ListenError, match=f"http:127.0.0.1:{port}.*`ss -tlnp") as raised:
                await HttpServer("127.0.0.1", port, Node().app).start()
        assert "in use" in str(raised.value)

    run(test)


def test_what_is_not_http_is_not_answered_with_a_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def test(port: int) -> None:
        server = HttpServer("127.0.0.1", port, Node().app)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 not HTTP\r\n\r\n")
        assert (await reader.read(100)).startswith(b"HTTP/1.1 400")
        writer.close()
        await server.close()

    run(test)
    assert capfd.readouterr().err == ""


def test_who_does_not_finish_its_request_does_not_keep_others_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What watches the node would think that it is down."""
    monkeypatch.setattr(http, "CONNECTION_S", 0.5)

    async def test(port: int) -> None:
        server = HttpServer("127.0.0.1", port, Node().app)
        await server.start()
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS)]
        for _, writer in held:
            writer.write(b"GET /health HTTP/1.1\r\nHo")
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{port}/health"
            assert (await client.get(url)).status_code == 503
            for reader, _ in held:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            assert (await client.get(url)).status_code == 200
        await server.close()

    run(test)


def test_a_request_of_two_lengths_is_refused_with_all_behind_it() -> None:
    """A proxy that goes by the other length takes what follows for another request's."""

    async def test(port: int) -> None:
        server = HttpServer("127.0.0.1", port, Node().app)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1 ") == 1
        writer.close()
        await server.close()

    run(test)


def test_of_many_connections_the_last_ones_take_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 3)

    async def test(port: int) -> None:
        server = HttpServer("127.0.0.1", port, Node().app)
        await server.start()
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        held[0][1].write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await held[0][0].readline()).startswith(b"HTTP/1.1 ")
        for _, each in (*held, (reader, writer)):
            each.close()
        await server.close()

    run(test)
