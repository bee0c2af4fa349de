"""The shells of SIP on real sockets: what cannot be sent, and connections that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from functools import partial
from itertools import count

import pytest
import uvloop

from relay.errors import ListenError
from relay.signalling import connection, places
from relay.signalling.stream import Streams
from relay.signalling.tls import Credentials
from relay.signalling.udp import UdpListener
from relay.sip.transaction import Hop

DEADLINE_S = 10.0
OPTIONS = (
    b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
    b"Content-Length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("host", "octets", "sent"),
    [
        ("127.0.0.1", 1200, True),
        ("127.0.0.1", 65508, False),
        ("999.999.1.1", 10, False),
        ("name.invalid", 10, False),
        ("::1", 10, False),
        ("255.255.255.255", 10, False),
    ],
)
def test_a_datagram_that_can_never_leave_is_told(host: str, octets: int, sent: bool) -> None:
    """It must neither raise, which would lose what else waits to be sent, nor hang a call."""

    async def main() -> None:
        udp = UdpListener(1, lambda data, hop: None)
        await udp.bind("127.0.0.1", 0)
        assert udp.send(b"x" * octets, host, 5060) is sent
        assert udp.send(b"x", "127.0.0.1", 5060)
        udp.close()

    uvloop.run(main())


class Rig:
    """Streams on a free port; `received` are the messages."""

    def __init__(self, is_trunk: bool) -> None:
        self.received: list[object] = []
        self.failed: list[Hop] = []
        self.counted: Counter[str] = Counter()
        self.changed = asyncio.Event()
        self.streams = Streams(
            self._take,
            self._fail,
            self._count,
            count(1),
            lambda host: is_trunk,
            lambda host, names: is_trunk,
            lambda host: False,
            lambda hop: False,
            Credentials(None, asks=False),
            lambda host: True,
        )

    async def listen(self) -> tuple[str, int]:
        self._server = await self.streams.listen("tcp", "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[:2]

    async def until(self, name: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not self.counted[name]:
                self.changed.clear()
                await self.changed.wait()

    def _take(self, message: object, hop: Hop) -> None:
        self.received.append(message)
        self._count("received")
        self.hop = hop

    def _fail(self, hop: Hop) -> None:
        self.failed.append(hop)
        self._count("failed")

    def _count(self, name: str) -> None:
        self.counted[name] += 1
        self.changed.set()

    def close(self) -> None:
        self._server.close()
        self.streams.close()


def test_a_stranger_does_not_keep_its_connection_by_talking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.05)

    async def main() -> None:
        rig = Rig(is_trunk=False)
        reader, writer = await asyncio.open_connection(*await rig.listen())
        writer.write(OPTIONS)
        await rig.until("received")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        assert rig.counted["tcp_cut_silent"] == 1
        writer.close()
        rig.close()

    uvloop.run(main())


def test_a_stranger_that_has_a_password_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_S", 0.2)
    monkeypatch.setattr(places, "MAX_STRANGERS", 1)

    async def main() -> None:
        rig = Rig(is_trunk=False)
        where = await rig.listen()
        _, proved = await asyncio.open_connection(*where)
        proved.write(OPTIONS)
        await rig.until("received")
        known = rig.hop
        rig.streams.trust(known)
        _, stranger = await asyncio.open_connection(*where)  # there is room for one again
        await rig.until("tcp_cut_silent")
        assert rig.streams.is_open(known)
        assert rig.counted["tcp_refused_too_many"] == 0
        for writer in (proved, stranger):
            writer.close()
        rig.close()

    uvloop.run(main())


def test_strangers_cannot_take_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MAX_STRANGERS", 1)

    async def main() -> None:
        rig = Rig(is_trunk=False)
        where = await rig.listen()
        _, first = await asyncio.open_connection(*where)
        first.write(OPTIONS)
        await rig.until("received")
        _, second = await asyncio.open_connection(*where)
        await rig.until("tcp_refused_too_many")
        first.close()
        await rig.until("failed")
        for writer in (first, second):
            writer.close()
        rig.close()

    uvloop.run(main())


@pytest.mark.parametrize("why", ["not_reading", "closed"])
def test_a_peer_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Closing waits for it to read what was written: that would be for ever."""
    monkeypatch.setattr(connection, "CLOSING_S", 0.05)

    async def main() -> None:
        rig = Rig(is_trunk=True)
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, await rig.listen())
        await loop.sock_sendall(peer, OPTIONS)
        await rig.until("received")
        for _ in range(40 if why == "not_reading" else 7):
            rig.streams.send(b"x" * 500_000, rig.hop)
        if why == "closed":
            rig.streams.close()
        await rig.until("failed")
        assert not rig.streams.is_open(rig.hop)
        peer.close()
        rig.close()

    uvloop.run(main())


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".invalid"])
def test_a_connection_to_what_can_be_no_host_fails(host: str) -> None:
    async def main() -> None:
        rig = Rig(is_trunk=True)
        await rig.listen()
        rig.streams.send(OPTIONS, Hop("tcp", host, 5060))
        await rig.until("failed")
        rig.close()

    uvloop.run(main())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_port_in_use_is_told_with_the_reason_and_who_to_ask(transport: str) -> None:
    async def main() -> None:
        kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", 0))
            if transport == "tcp":
                holder.listen()
            port = holder.getsockname()[1]
            listen = (
                UdpListener(1, lambda data, hop: None).bind
                if transport == "udp"
                else partial(Rig(is_trunk=True).streams.listen, "tcp")
            )
            with pytest.raises(ListenError) as told:
                await listen("127.0.0.1", port)
        for part in (f"{transport}:127.0.0.1:{port}", "Address already in use", "`ss -"):
            assert part in str(told.value)

    uvloop.run(main())


def test_a_banned_source_is_refused_when_it_connects() -> None:
    async def main() -> None:
        rig = Rig(is_trunk=False)
        rig.streams._is_banned = lambda host: host == "127.0.0.1"
        reader, writer = await asyncio.open_connection(*await rig.listen())
        await rig.until("tcp_refused_banned")
        async with asyncio.timeout(DEADLINE_S):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass  # it was cut off while we read
        writer.close()
        rig.close()

    uvloop.run(main())


def test_each_family_has_a_socket_of_its_own() -> None:
    """On one for both, IPv4 peers would look like `::ffff:192.0.2.1`: no voice over IPv4."""

    async def main() -> None:
        sources: list[str] = []
        got = asyncio.Event()

        def receive(data: bytes, hop: Hop) -> None:
            sources.append(hop.host)
            got.set()

        first, second = UdpListener(1, receive), UdpListener(2, receive)
        await first.bind("::", 0)
        await second.bind("0.0.0.0", first.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"x", ("127.0.0.1", first.port))
            async with asyncio.timeout(DEADLINE_S):
                await got.wait()
        assert sources == ["127.0.0.1"]
        for udp in (first, second):
            udp.close()

    uvloop.run(main())


def test_no_connection_is_opened_to_an_address_outside() -> None:
    async def main() -> None:
        rig = Rig(is_trunk=True)
        where = await rig.listen()
        rig.streams._permits = lambda host: False
        hop = Hop("tcp", *where)
        assert rig.streams.send(OPTIONS, hop)  # it waits for the connection
        await rig.until("failed")
        assert rig.failed == [hop] and not rig.received
        rig.close()

    uvloop.run(main())
