"""ws: listeners with the library's own client over loopback: what connects, what it may send."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Origin, Subprotocol

from relay.config import WebSocket
from relay.errors import MalformedMessage
from relay.signalling import connection, websocket
from relay.signalling.stream import Streams
from relay.signalling.tls import Credentials
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.unit.test_endpoint_streams import node

DEADLINE_S = 10.0
HERE = "127.0.0.1"
PAGE = "https://app.example.com"
SIP = Subprotocol("sip")
OPTIONS = (
    "OPTIONS sip:relay.example SIP/2.0\r\n"
    "Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bK1\r\n"
    "From: <sip:alice@relay.example>;tag=a\r\nTo: <sip:relay.example>\r\n"
    "Call-ID: o1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n"
)


class Rig:
    """Streams with one listener; what happens is kept and can be waited for."""

    def __init__(self, **limits: object) -> None:
        self.received: list[Request | Response | MalformedMessage] = []
        self.hop = Hop("ws", "", 0)
        self.failed: list[Hop] = []
        self.counted: Counter[str] = Counter()
        self.banned = False
        self._happened = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.streams = Streams(
            self._take,
            self._fail,
            self._count,
            count(1),
            lambda host: True,  # a trunk's address: that says nothing over WebSocket
            lambda host, names: True,
            lambda host: self.banned,
            lambda hop: False,
            Credentials(None, asks=False),
            WebSocket.model_validate({"origins": (PAGE,), **limits}),
        )

    async def listen(self) -> None:
        self._server = await self.streams.listen("ws", HERE, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def connect(
        self, origin: str | None = None, protocols: tuple[Subprotocol, ...] = (SIP,)
    ) -> connect:
        return connect(
            f"ws://{HERE}:{self.port}/any/path",
            origin=Origin(origin) if origin else None,
            subprotocols=protocols or None,
            ping_interval=None,
            open_timeout=DEADLINE_S,
        )

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HERE, self.port)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._happened:
            await self._happened.wait_for(done)

    async def counts(self, name: str) -> None:
        await self.until(lambda: self.counted[name] > 0)

    async def message(self, number: int = 1) -> Request | Response | MalformedMessage:
        await self.until(lambda: len(self.received) >= number)
        return self.received[number - 1]

    def close(self) -> None:
        self._server.close()
        self.streams.close()

    def _take(self, message: Request | Response | MalformedMessage, hop: Hop) -> None:
        self.received.append(message)
        self.hop = hop
        self._tell()

    def _fail(self, hop: Hop) -> None:
        self.failed.append(hop)
        self._tell()

    def _count(self, name: str) -> None:
        self.counted[name] += 1
        self._tell()

    def _tell(self) -> None:
        async def tell() -> None:
            async with self._happened:
                self._happened.notify_all()

        task = asyncio.get_running_loop().create_task(tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def run(main: Callable[[Rig], Awaitable[None]], **limits: object) -> Rig:
    async def serve() -> Rig:
        rig = Rig(**limits)
        await rig.listen()
        try:
            await main(rig)
        finally:
            rig.close()
        return rig

    return uvloop.run(serve())


async def received(client: ClientConnection) -> str | bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await client.recv()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes before the end; a reset is one."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """The code and the reason that the relay closes with."""
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    return client.close_code, client.close_reason


# --- messages


@pytest.mark.parametrize("binary", [False, True])
def test_a_message_comes_in_and_one_goes_out(binary: bool) -> None:
    """RFC 7118 section 5.1: one SIP message a WebSocket message, text or binary."""

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            assert client.subprotocol == "sip"
            await client.send(OPTIONS.encode() if binary else OPTIONS)
            message = await rig.message()
            assert isinstance(message, Request) and message.call_id == "o1"
            assert rig.hop.transport == "ws" and rig.hop.host == HERE and rig.hop.link > 0
            assert rig.streams.is_open(rig.hop)
            assert rig.streams.send(b"SIP/2.0 200 OK\r\n\r\n", rig.hop)
            assert await received(client) == "SIP/2.0 200 OK\r\n\r\n"

    run(main)


def test_what_is_no_utf8_goes_out_as_binary() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(OPTIONS)
            await rig.message()
            rig.streams.send("Subject: é".encode(), rig.hop)
            rig.streams.send(b"Subject: \xff", rig.hop)
            assert await received(client) == "Subject: é"
            assert await received(client) == b"Subject: \xff"

    run(main)


def test_a_fragmented_message_is_put_together() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send([OPTIONS[:10], "", OPTIONS[10:200], OPTIONS[200:]])
            message = await rig.message()
            assert isinstance(message, Request) and message.method == "OPTIONS"

    run(main)


def test_a_malformed_message_is_told_and_the_next_one_is_read() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send("no SIP at all")
            await client.send(OPTIONS)
            assert isinstance(await rig.message(1), MalformedMessage)
            assert isinstance(await rig.message(2), Request)

    run(main)


def test_keep_alives_are_answered() -> None:
    """CRLF (RFC 5626 section 4.4.1) as SIP libraries send it, and WebSocket's own ping."""

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send("\r\n\r\n")
            assert await received(client) == "\r\n"
            async with asyncio.timeout(DEADLINE_S):
                await (await client.ping(b"1"))
            await client.send("\r\n")  # the answer to a ping of nobody's
            await client.send(OPTIONS)
            assert isinstance(await rig.message(), Request)
            assert len(rig.received) == 1

    run(main)


# --- the upgrade


@pytest.mark.parametrize(
    ("protocols", "why"), [((), "missing"), ((Subprotocol("chat"),), "expected one of sip")]
)
def test_without_the_subprotocol_nothing_is_upgraded(
    protocols: tuple[Subprotocol, ...], why: str
) -> None:
    async def main(rig: Rig) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await rig.connect(protocols=protocols)
        assert refused.value.response.status_code == 400
        assert why in (refused.value.response.body or b"").decode()

    assert run(main).counted == {"ws_refused_subprotocol": 1}


def test_a_page_that_is_not_listed_is_refused() -> None:
    async def main(rig: Rig) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await rig.connect("https://evil.example")
        assert refused.value.response.status_code == 403
        async with rig.connect(PAGE) as client:
            await client.send(OPTIONS)
            await rig.message()

    assert run(main).counted == {"ws_refused_origin": 1}


@pytest.mark.parametrize(("origins", "taken"), [(("*",), True), ((), False)])
def test_any_page_or_none(origins: tuple[str, ...], taken: bool) -> None:
    """Whoever names no origin is no browser."""

    async def main(rig: Rig) -> None:
        async with rig.connect():
            pass
        with nullcontext() if taken else pytest.raises(InvalidStatus):
            await (await rig.connect("https://any.example")).close()

    assert run(main, origins=origins).counted["ws_refused_origin"] == (not taken)


def test_compression_is_not_negotiated() -> None:
    """It would cost 64 KiB a connection, and a small message can inflate to a large one."""

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            assert client.response is not None
            assert "Sec-WebSocket-Extensions" not in client.response.headers

    run(main)


@pytest.mark.parametrize(
    ("request_", "status", "counter"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426 Upgrade Required", "http"),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"405 Method Not Allowed", "malformed"),
        (b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"400 Bad Request", "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"400 Bad Request", "malformed"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", b"431 ", "malformed"),
    ],
    ids=["http", "post", "sip", "tls", "long-field"],
)
def test_what_is_no_websocket_gets_a_readable_answer(
    request_: bytes, status: bytes, counter: str
) -> None:
    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(request_)
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"WebSocket" in answer
        writer.close()

    assert run(main).counted == {f"ws_refused_{counter}": 1}


def test_a_request_without_end_is_cut_off() -> None:
    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(b"GET / HTTP/1.1\r\n")
        for number in range(400):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 100))
        async with asyncio.timeout(DEADLINE_S):
            assert await rest(reader) == b""
        writer.close()

    assert run(main).counted == {"ws_refused_too_long": 1}


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
def test_a_slow_request_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(websocket, "UPGRADE_S", 0.05)

    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(sent)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()

    assert run(main).counted == {"ws_refused_too_slow": 1}


# --- limits


def test_a_message_that_is_too_long_is_refused() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send("x" * 5000)
            code, _ = await closed(client)
            assert code == 1009
        async with rig.connect() as client:
            await client.send(itertools.repeat("x" * 100, 100))
            code, _ = await closed(client)
            assert code == 1009
        assert not rig.received

    assert run(main, message_octets=4096).counted == {"ws_cut_too_long": 2}


def test_a_flood_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSING_S", 0.2)

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            for _ in range(40):
                await client.send(OPTIONS)
            assert await closed(client) == (1008, "too many messages in a second")
        assert len(rig.received) == 20

    assert run(main, messages_per_second=20.0).counted == {"ws_cut_flooding": 1}


def test_frames_without_content_are_a_flood_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSING_S", 0.2)

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            for _ in range(40):
                await client.ping()
            code, _ = await closed(client)
            assert code == 1008

    assert run(main, messages_per_second=20.0).counted == {"ws_cut_flooding": 1}


def test_text_that_is_not_utf8_is_refused() -> None:
    """RFC 6455 section 8.1."""

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(b"\xff\xfe", text=True)
            code, _ = await closed(client)
            assert code == 1007

    assert run(main).counted == {"ws_cut_malformed": 1}


def test_a_frame_that_is_not_masked_is_refused() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            client.transport.write(b"\x81\x02hi")
            code, _ = await closed(client)
            assert code == 1002

    assert run(main).counted == {"ws_cut_malformed": 1}


def test_one_address_has_so_many_connections() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect(), rig.connect():
            with pytest.raises((ConnectionError, InvalidMessage)):
                await rig.connect()
            await rig.counts("ws_refused_too_many")
        await rig.until(lambda: len(rig.failed) == 3)
        async with rig.connect():
            pass

    assert run(main, per_address=2).counted == {"ws_refused_too_many": 1}


def test_there_are_so_many_handshakes_a_second() -> None:
    async def main(rig: Rig) -> None:
        writers = [(await rig.raw())[1] for _ in range(5)]
        await rig.until(lambda: rig.counted["ws_refused_too_fast"] == 3)
        for writer in writers:
            writer.close()

    run(main, handshakes_per_second=2.0)


def test_a_banned_source_is_not_served() -> None:
    async def main(rig: Rig) -> None:
        rig.banned = True
        reader, writer = await rig.raw()
        async with asyncio.timeout(DEADLINE_S):
            assert await rest(reader) == b""
        writer.close()

    assert run(main).counted == {"ws_refused_banned": 1}


# --- a life


def test_who_shows_no_token_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it talks, and has the address of a trunk."""
    monkeypatch.setattr(connection, "SILENT_S", 0.1)

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(OPTIONS)
            await rig.message()
            assert await closed(client) == (1008, "no access token was shown in time")

    assert run(main).counted == {"ws_cut_silent": 1}


def test_a_quiet_client_is_pinged_and_one_that_is_gone_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PONG_S", 0.1)

    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: sip\r\n\r\n"
        )
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await rig.until(lambda: bool(rig.streams._by_link))
            (link,) = rig.streams._by_link
            rig.streams.trust(Hop("ws", HERE, 0, link))
            for _ in range(3):
                assert await reader.readexactly(2) == b"\x89\x00"  # a ping
                writer.write(b"\x8a\x80\0\0\0\0")  # its pong
            assert await reader.readexactly(2) == b"\x89\x00"
            assert await rest(reader) == b""
        writer.close()

    assert run(main, keepalive_s=0.05).counted == {"ws_cut_no_pong": 1}


def test_the_end_of_the_node_is_told() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(OPTIONS)
            await rig.message()
            rig.streams.close()
            assert await closed(client) == (1001, "the relay is shutting down")

    run(main)


# --- through the endpoint


def test_a_stranger_is_refused_over_the_connection_that_it_came_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with node(tmp_path, "ws", f"sip:{HERE}:5060") as n:
            uri = f"ws://{HERE}:{n.port}"
            async with connect(uri, subprotocols=[SIP], ping_interval=None) as client:
                await client.send(OPTIONS)
                answer = parse(str(await received(client)).encode())
                assert isinstance(answer, Response) and answer.status == 403
                assert answer.via.host == "df7jal23ls0d.invalid"
                assert answer.call_id == "o1"

    uvloop.run(main())
