"""ws: listeners with the library's own client over loopback: what connects, what it may send."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Origin, Subprotocol

from relay.config import Tls, WebSocket
from relay.errors import MalformedMessage
from relay.probe.certificates import Authority, Pair
from relay.signalling import connection, parking, tls_session, upgrade, websocket
from relay.signalling.stream import Streams
from relay.signalling.tls import Credentials
from relay.signalling.upgrade import Entrance
from relay.sip.message import Request, Response
from relay.sip.parser import parse
from relay.sip.transaction import Hop
from tests.unit.test_endpoint_streams import RELAY, node

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
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\n\r\n"
)


class Rig:
    """Streams with one listener; what happens is kept and can be waited for."""

    def __init__(self, pair: Pair | None = None, **limits: object) -> None:
        self.pair = pair
        self.keep_s = 0.0
        self.used = False
        self.outside: set[str] = set()
        self.received: list[Request | Response | MalformedMessage] = []
        self.hop = Hop("ws", "", 0)
        self.failed: list[Hop] = []
        self.counted: Counter[str] = Counter()
        self.banned = False
        self._happened = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        tls = Tls(certificate=str(pair.certificate), key=str(pair.key)) if pair else None
        self.streams = Streams(
            self._take,
            self._fail,
            self._count,
            count(1),
            lambda host: True,  # a trunk's address: that says nothing over WebSocket
            lambda host, names: True,
            lambda host: self.banned,
            lambda hop: self.used,
            Credentials(tls, asks=pair is not None),
            lambda host: host not in self.outside,
            WebSocket.model_validate({"origins": (PAGE,), **limits}),
            lambda hop: self.keep_s,
        )

    async def listen(self) -> None:
        transport = "wss" if self.pair else "ws"
        self._server = await self.streams.listen(transport, HERE, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def connect(
        self,
        origin: str | None = None,
        protocols: tuple[Subprotocol, ...] = (SIP,),
        **options: Any,
    ) -> connect:
        return connect(
            f"{'wss' if self.pair else 'ws'}://{HERE}:{self.port}/any/path",
            origin=Origin(origin) if origin else None,
            **options,
            subprotocols=protocols or None,
            ping_interval=None,
            open_timeout=DEADLINE_S,
        )

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HERE, self.port)

    async def client(self) -> ClientConnection:
        """A client that has shown its token; `hop` is its connection."""
        client = await self.connect()
        number = len(self.received)
        await client.send(OPTIONS)
        await self.message(number + 1)
        self.streams.trust(self.hop)
        return client

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


def run(main: Callable[[Rig], Awaitable[None]], pair: Pair | None = None, **limits: object) -> Rig:
    async def serve() -> Rig:
        rig = Rig(pair, **limits)
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
        for number in range(5):
            writer.write(b"X-%d: %s\r\n" % (number, b"x" * 4000))
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
        assert 5 <= len(rig.received) < 40

    assert run(main, messages_per_second=5.0).counted == {"ws_cut_flooding": 1}


def test_frames_without_content_are_a_flood_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSING_S", 0.2)

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            for _ in range(40):
                await client.ping()
            code, _ = await closed(client)
            assert code == 1008

    assert run(main, messages_per_second=5.0).counted == {"ws_cut_flooding": 1}


@pytest.mark.parametrize("closing", [False, True])
def test_a_flood_of_tiny_frames_is_not_taken_apart_to_its_end(
    monkeypatch: pytest.MonkeyPatch, closing: bool
) -> None:
    """40,000 fit into what is read at once: 0.1 s of the loop's time, were all answered."""
    monkeypatch.setattr(connection, "CLOSING_S", 0.2)
    ping = b"\x89\x80abcd"

    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        if closing:
            writer.write(b"\x81\x80abcd\x81\x81\x00\x00\x00\x00\xff")  # no UTF-8
            await rig.counts("ws_cut_malformed")
        writer.write(40000 * ping)
        assert (await rest(reader)).count(b"\x8a\x00") < 1000

    run(main, messages_per_second=20.0)


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
        await rig.until(lambda: rig.counted["ws_refused_too_fast"] == 4)
        for writer in writers:
            writer.close()

    run(main, handshakes_per_second=0.1)


def test_one_address_has_half_of_the_handshakes_at_most() -> None:
    """Whoever connects as fast as it can would keep all others from coming back."""
    entrance = Entrance(
        WebSocket(handshakes_per_second=10.0), lambda host: False, lambda host: True
    )
    now = 100.0
    for link in range(50):
        entrance.bars(link, "192.0.2.1", now)
    assert entrance.bars(50, "192.0.2.1", now) == "too_fast"
    assert len(entrance.places) == 5
    assert [entrance.bars(60 + last, f"192.0.2.{last}", now) for last in range(2, 7)] == [""] * 5
    assert entrance.bars(70, "192.0.2.9", now) == "too_fast"  # of all together
    now += 1.0
    assert entrance.bars(71, "192.0.2.1", now) == ""


def test_what_is_known_of_sources_is_bounded() -> None:
    entrance = Entrance(WebSocket(), lambda host: False, lambda host: True)
    for number in range(2 * upgrade.MOST_SOURCES):
        entrance.bars(number, f"10.0.{number >> 8}.{number & 255}", number)
        entrance.places.leave(number)
    assert len(entrance._of_one) == upgrade.MOST_SOURCES


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
    monkeypatch.setattr(connection, "SILENT_S", 1.0)

    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(OPTIONS)
            await rig.message()
            assert await closed(client) == (1008, "no access token was shown in time")

    assert run(main).counted == {"ws_cut_silent": 1}


def test_a_quiet_client_is_pinged_and_one_that_is_gone_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "PONG_S", 0.5)

    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(UPGRADE)
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await rig.until(lambda: bool(rig.streams._by_link))
            (link,) = rig.streams._by_link
            rig.streams.trust(link.hop)
            for _ in range(2):
                assert await reader.readexactly(2) == b"\x89\x00"  # a ping
                writer.write(b"\x8a\x80\0\0\0\0")  # its pong
            assert await reader.readexactly(2) == b"\x89\x00"
            assert await rest(reader) == b""
        writer.close()

    assert run(main, keepalive_s=0.05).counted == {"ws_cut_no_pong": 1}


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def main(rig: Rig) -> None:
        client = await rig.client()
        client.transport.pause_reading()
        for number in range(400):
            rig.streams.send(b"%d" % number + b"x" * 50_000, rig.hop)
        await rig.until(lambda: rig.failed == [rig.hop])
        client.transport.abort()

    assert run(main).counted == {"ws_cut_not_reading": 1}


@pytest.mark.parametrize("used", [False, True])
def test_a_client_that_nobody_needs_is_closed(monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.1)
    monkeypatch.setattr(connection, "PONG_S", 0.5)

    async def main(rig: Rig) -> None:
        rig.used = used
        client = await rig.client()
        if used:
            async with asyncio.timeout(DEADLINE_S):
                for _ in range(5):  # pings of ours have passed
                    await (await client.ping())
                    await asyncio.sleep(0.05)
            await client.close()
        else:
            assert await closed(client) == (1000, "not used any more")

    assert run(main, keepalive_s=0.05).counted == ({} if used else {"ws_cut_idle": 1})


def test_the_end_of_the_node_is_told() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect() as client:
            await client.send(OPTIONS)
            await rig.message()
            rig.streams.close()
            assert await closed(client) == (1001, "the relay is shutting down")

    run(main)


# --- lost, and back


def test_what_is_for_a_lost_client_waits_until_it_is_back() -> None:
    """RFC 5626 section 4.3: the flow is another one, the client the same."""

    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        client = await rig.client()
        old = rig.hop
        client.transport.abort()
        await rig.counts("ws_parked")
        assert rig.streams.is_open(old) and not rig.failed
        for text in (b"first", b"second", b"first"):
            assert rig.streams.send(text, old)
        client = await rig.client()
        new = rig.hop
        rig.streams.move(old, new)
        assert rig.streams.send(b"third", old)
        assert rig.streams.send(b"fourth", new)
        found = [await received(client) for _ in range(4)]
        assert found == ["first", "second", "third", "fourth"]
        rig.keep_s = 0.0
        await client.close()
        await rig.until(lambda: rig.failed == [old, new])
        assert not rig.streams.is_open(old) and not rig.streams.send(b"fifth", old)

    assert run(main).counted == {"ws_parked": 1, "ws_moved": 1}


def test_a_client_that_does_not_come_back_is_gone() -> None:
    async def main(rig: Rig) -> None:
        rig.keep_s = 0.05
        client = await rig.client()
        client.transport.abort()
        await rig.counts("ws_not_back")
        await rig.until(lambda: rig.failed == [rig.hop])
        assert not rig.streams.is_open(rig.hop) and not rig.streams.send(b"x", rig.hop)

    assert run(main).counted == {"ws_parked": 1, "ws_not_back": 1}


def test_a_client_is_back_before_its_old_connection_is_known_to_be_lost() -> None:
    """A phone in another network: what was sent into the void is sent again."""

    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        away = await rig.client()
        old = rig.hop
        away.transport.pause_reading()
        assert rig.streams.send(b"into the void", old)
        client = await rig.client()
        rig.streams.move(old, rig.hop)
        assert await received(client) == "into the void"
        away.transport.resume_reading()
        assert await closed(away) == (1000, "the client has connected anew")
        assert rig.streams.send(b"next", old)
        assert await received(client) == "next"
        assert not rig.failed
        await client.close()

    assert run(main).counted == {"ws_moved": 1, "ws_cut_replaced": 1, "ws_parked": 1}


def test_what_the_client_has_answered_is_not_sent_again() -> None:
    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        client = await rig.client()
        old = rig.hop
        assert rig.streams.send(b"answered", old)
        assert await received(client) == "answered"
        await client.send(OPTIONS)
        await rig.message(2)
        assert rig.streams.send(b"SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\n\r\n", old)
        assert rig.streams.send(b"not answered", old)
        client.transport.abort()
        await rig.counts("ws_parked")
        client = await rig.client()
        rig.streams.move(old, rig.hop)
        assert await received(client) == "not answered"
        await client.close()

    run(main)


def test_a_client_may_come_back_again_and_again() -> None:
    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        client = await rig.client()
        hops = [rig.hop]
        for number in range(parking.MOST_FORMER + 3):
            client.transport.abort()
            await rig.until(lambda n=number: rig.counted["ws_parked"] > n)  # type: ignore[misc]
            client = await rig.client()
            failed = len(rig.failed)
            rig.streams.move(hops[-1], rig.hop)
            assert len(rig.failed) == failed  # not yet: whoever moves it is not done
            hops.append(rig.hop)
        await rig.until(lambda: len(rig.failed) == 3)
        assert rig.failed == hops[:3]  # the oldest: what one stands for is bounded
        for hop in hops[3:]:
            assert rig.streams.send(b"%d" % hop.link, hop)
            assert await received(client) == str(hop.link)
        assert len(rig.streams._by_link) == parking.MOST_FORMER + 1
        rig.keep_s = 0.0
        await client.close()
        await rig.until(lambda: len(rig.failed) == len(hops))
        assert not rig.streams._by_link

    run(main)


def test_so_much_waits_for_a_lost_client() -> None:
    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        client = await rig.client()
        client.transport.abort()
        await rig.counts("ws_parked")
        sent = [rig.streams.send(b"%d" % number, rig.hop) for number in range(100)]
        assert sum(sent) == parking.MOST_WAITING and not sent[-1]

    run(main)


def test_a_page_that_is_closed_does_not_come_back() -> None:
    """RFC 6455 section 7.4.1: 1001 is what a browser says then."""

    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        client = await rig.client()
        await client.close(1001)
        await rig.until(lambda: rig.failed == [rig.hop])

    assert not run(main).counted


def test_no_place_is_kept_when_the_node_ends() -> None:
    async def main(rig: Rig) -> None:
        rig.keep_s = DEADLINE_S
        first = await rig.client()
        gone = rig.hop
        first.transport.abort()
        await rig.counts("ws_parked")
        second = await rig.client()
        rig.streams.close()
        assert (await closed(second))[0] == 1001
        await rig.until(lambda: rig.failed == [rig.hop])
        assert rig.streams.is_open(gone)

    assert run(main).counted == {"ws_parked": 1}


# --- behind a proxy, and outside


def test_a_proxy_says_whom_it_connects() -> None:
    async def main(rig: Rig) -> None:
        via = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7"}
        async with rig.connect(additional_headers=via) as client:
            await client.send(OPTIONS)
            await rig.message()
            assert rig.hop.host == "192.0.2.7"  # the proxy's own word; the rest is the client's
            with pytest.raises(InvalidStatus) as refused:
                await rig.connect(additional_headers=via)
            assert refused.value.response.status_code == 503
            async with rig.connect(additional_headers={"X-Forwarded-For": "192.0.2.8"}):
                pass
        with pytest.raises(InvalidStatus) as refused:
            await rig.connect()
        assert refused.value.response.status_code == 400
        rig.banned = True
        with pytest.raises((ConnectionError, InvalidMessage)):
            await rig.connect(additional_headers=via)

    counted = run(main, proxies=(f"{HERE}/32",), per_address=1).counted
    assert counted == {
        "ws_refused_too_many": 1,
        "ws_refused_forwarded": 1,
        "ws_refused_banned": 1,
    }


def test_only_a_proxy_is_believed() -> None:
    async def main(rig: Rig) -> None:
        async with rig.connect(additional_headers={"X-Forwarded-For": "192.0.2.7"}) as client:
            await client.send(OPTIONS)
            await rig.message()
            assert rig.hop.host == HERE

    run(main)


def test_an_address_outside_of_the_region_is_refused() -> None:
    async def main(rig: Rig) -> None:
        rig.outside.add(HERE)
        with pytest.raises(InvalidStatus) as refused:
            await rig.connect()
        assert refused.value.response.status_code == 403
        assert b"outside of the region" in (refused.value.response.body or b"")

    assert run(main).counted == {"ws_refused_outside": 1}


# --- wss


def test_a_message_comes_and_goes_over_tls(tmp_path: Path) -> None:
    """Though trunks are asked for a certificate, a browser's user is not."""
    authority = Authority(tmp_path)

    async def main(rig: Rig) -> None:
        context = ssl.create_default_context(cafile=str(authority.file))
        async with rig.connect(PAGE, ssl=context) as client:
            await client.send(OPTIONS)
            await rig.message()
            assert rig.hop.transport == "wss"
            rig.streams.send(b"SIP/2.0 200 OK\r\n\r\n", rig.hop)
            assert await received(client) == "SIP/2.0 200 OK\r\n\r\n"
        await rig.until(lambda: rig.failed == [rig.hop])
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with rig.connect(ssl=context) as client:
            socket = client.transport.get_extra_info("ssl_object")
            assert socket.version() == "TLSv1.2"

    assert not run(main, authority.issue("relay", HERE)).counted


def test_plain_http_to_a_tls_port_costs_a_handshake_that_fails(tmp_path: Path) -> None:
    async def main(rig: Rig) -> None:
        reader, writer = await rig.raw()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            await rest(reader)
        await rig.counts("tls_handshake_failed")
        assert len(rig.streams._web.places) == 0  # type: ignore[union-attr]
        writer.close()

    run(main, Authority(tmp_path).issue("relay", HERE))


def test_tls_handshakes_that_are_not_finished_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_session, "HANDSHAKE_S", 1.0)

    async def main(rig: Rig) -> None:
        opened = [await rig.raw() for _ in range(5)]
        await rig.until(lambda: rig.counted["ws_refused_too_many"] == 2)
        await rig.until(lambda: rig.counted["tls_handshake_failed"] == 3)
        assert len(rig.streams._web.places) == 0  # type: ignore[union-attr]
        for _, writer in opened:
            writer.close()

    run(main, Authority(tmp_path).issue("relay", HERE), per_address=3)


# --- through the endpoint


def test_a_stranger_is_refused_over_the_connection_that_it_came_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with node(tmp_path, "ws", f"sip:{HERE}:5060") as n:
            uri = f"ws://{RELAY}:{n.port}"
            async with connect(uri, subprotocols=[SIP], ping_interval=None) as client:
                await client.send(OPTIONS)
                answer = parse(str(await received(client)).encode())
                assert isinstance(answer, Response) and answer.status == 403
                assert answer.via.host == "df7jal23ls0d.invalid"
                assert answer.call_id == "o1"

    uvloop.run(main())
