"""Calls over TCP and TLS through real sockets: connections that die, names, `sips:`, size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop

from relay.call.calls import Calls
from relay.call.record import Place
from relay.call.router import Router
from relay.config import Config, read
from relay.probe.certificates import Authority
from relay.residency.boundary import Boundary
from relay.signalling.endpoint import Endpoint
from relay.signalling.tls import Credentials
from relay.sip.message import Message, Request, Response
from relay.sip.parser import StreamParser, parse
from relay.sip.transaction import Hop
from tests.interop.region import free_port
from tests.scenario.world import FakeAdmission, FakeMedia, FakeRecorder, FakeRecords, Journal, sdp

DEADLINE_S = 10.0
# Not 127.0.0.1: whoever connects anywhere on the machine has a port of it for a while.
RELAY, PBX, CARRIER, STRANGER = "127.0.0.5", "127.0.0.2", "127.0.0.3", "127.0.0.4"
NUMBER = "+35315550199"
_calls = count(1)


class Peer:
    """One connection of a test's own: what comes is parsed, keep-alives are left out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._parser = StreamParser()
        self._read: list[Message] = []

    async def receive(self) -> Any:
        """The next message; fails when the connection ends."""
        async with asyncio.timeout(DEADLINE_S):
            while not self._read:
                data = await self.reader.read(65536)
                assert data, "the connection was closed"
                self._read += [m for m in self._parser.feed(data) if isinstance(m, Message)]
        return self._read.pop(0)

    async def until(self, what: int | str) -> Any:
        """The first message with this status or method."""
        while True:
            message = await self.receive()
            if what == (message.status if isinstance(message, Response) else message.method):
                return message

    def send(self, message: Message) -> None:
        self.writer.write(message.encode())

    def close(self) -> None:
        self.writer.close()


@dataclass
class Listener:
    """A peer that is connected to; `port` is where, `accepted` whom it has got."""

    port: int
    server: asyncio.Server
    accepted: asyncio.Queue[Peer]

    async def peer(self) -> Peer:
        async with asyncio.timeout(DEADLINE_S):
            return await self.accepted.get()

    async def next_call(self) -> tuple[Peer, Request]:
        peer = await self.peer()
        return peer, await peer.until("INVITE")


class Told(Journal):
    """A journal that says when a call is over."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    def event(self, name: str, call: str, **fields: object) -> None:
        super().event(name, call, **fields)
        if name == "call_ended":
            self.over.set()


@dataclass
class Node:
    """The relay's endpoint, and what its peers need to reach it."""

    endpoint: Endpoint
    calls: Calls
    journal: Told
    transport: str
    port: int
    authority: Authority
    bugs: list[Exception] = field(default_factory=list)

    async def connect(
        self, host: str = PBX, names: tuple[str, ...] = (), transport: str = ""
    ) -> Peer:
        """A connection from `host`, with a certificate for `names`."""
        context = None
        port = self.port
        if (transport or self.transport) == "tls":
            context = ssl.create_default_context(cafile=str(self.authority.file))
            if names:
                pair = self.authority.issue("client", *names)
                context.load_cert_chain(pair.certificate, pair.key)
        elif self.transport == "tls":
            port = self.port + 1
        return Peer(*await asyncio.open_connection(RELAY, port, ssl=context, local_addr=(host, 0)))

    async def listen(self, host: str, port: int = 0, *names: str) -> Listener:
        """A peer that takes connections, with a certificate for its address."""
        accepted: asyncio.Queue[Peer] = asyncio.Queue()
        context = None
        if self.transport == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            pair = self.authority.issue(f"at-{host}", *(names or (host,)))
            context.load_cert_chain(pair.certificate, pair.key)

        def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.put_nowait(Peer(reader, writer))

        server = await asyncio.start_server(take, host, port, ssl=context)
        return Listener(server.sockets[0].getsockname()[1], server, accepted)

    async def lost(self) -> None:
        """Wait until the relay has noticed that every connection is gone."""
        streams, done = self.endpoint._streams, asyncio.Event()
        failed = streams._by_link._failed

        def told(hop: Hop) -> None:
            failed(hop)
            if not streams._by_link:
                done.set()

        streams._by_link._failed = told
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()

    async def ended(self) -> dict[str, object]:
        """The line of the call that ended."""
        async with asyncio.timeout(DEADLINE_S):
            await self.journal.over.wait()
        return self.journal.last("call_ended")

    def invite(
        self, host: str, listens: int, scheme: str = "sip", body: bytes | None = None
    ) -> Request:
        """An INVITE of a PBX at `host` that listens at that port."""
        where = f"{host}:{listens}"
        call = next(_calls)
        text = (
            f"INVITE {scheme}:{NUMBER}@{RELAY}:{self.port} SIP/2.0\r\n"
            f"Via: SIP/2.0/{self.transport.upper()} {where};branch=z9hG4bK{call}\r\n"
            f"Max-Forwards: 70\r\nFrom: <{scheme}:+35315550100@{host}>;tag=a\r\n"
            f"To: <{scheme}:{NUMBER}@{RELAY}>\r\nCall-ID: call-{call}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <{scheme}:pbx@{where};transport={self.transport}>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: 0\r\n\r\n"
        )
        request = parse(text.encode())
        assert isinstance(request, Request)
        request.body = sdp(host, 4000) if body is None else body
        return request

    def within(self, method: str, invite: Request, answer: Response, cseq: int) -> Request:
        """A request of the caller's in the dialog that `answer` made."""
        request = Request(method, str(answer.contact.uri), invite.headers.copy())  # type: ignore[union-attr]
        headers = request.headers
        headers.set("Via", (invite.headers.get("Via") or "") + f"-{method}-{cseq}")
        headers.set("To", answer.headers.get("To") or "")
        headers.set("CSeq", f"{cseq} {method}")
        headers.remove("Content-Type")
        return request


def reply(request: Request, status: int, contact: str = "", body: bytes = b"") -> Response:
    response = request.response(status, to_tag="b")
    if contact:
        response.headers.add("Contact", contact)
    if body:
        response.headers.add("Content-Type", "application/sdp")
        response.body = body
    return response


def configuration(
    transport: str, port: int, callee: str, authority: Authority, pbx: str, tmp_path: Path
) -> Config:
    pair = authority.issue("relay", RELAY)
    listen = [f"{transport}:{RELAY}:{port}", f"udp:{RELAY}:{port}"]
    if transport == "tls":
        listen.append(f"tcp:{RELAY}:{port + 1}")
    return read(
        f"""
[region]
id = "t1"
jurisdiction = "EU"
networks = ["127.0.0.0/8"]
[sip]
listen = {listen}
tls = {{ certificate = "{pair.certificate}", key = "{pair.key}", ca = "{authority.file}" }}
[media]
address = "{RELAY}"
ports = "20000-20100"
[[trunk]]
name = "pbx"
{pbx}
[[trunk]]
name = "carrier"
allow = ["{CARRIER}/32"]
origination = [{{ uri = "{callee}" }}]
[[route]]
from = "pbx"
number = "+*"
to = "carrier"
""",
        "test",
    )


@asynccontextmanager
async def node(
    tmp_path: Path, transport: str, callee: str, pbx: str = f'allow = ["{PBX}/32"]'
) -> AsyncIterator[Node]:
    """An endpoint between the PBX and the carrier at the URI `callee`; no bug, nothing left."""
    authority = Authority(tmp_path)
    port = free_port(RELAY)
    config = configuration(transport, port, callee, authority, pbx, tmp_path)
    journal = Told()
    tokens = count(1)
    calls = Calls(
        Router(config),
        FakeAdmission(),  # type: ignore[arg-type]
        FakeMedia(),
        FakeRecorder(),
        FakeRecords(),
        journal,
        token=lambda: f"{next(tokens):016x}",
        wall_clock=lambda: datetime.now(UTC),
        boundary=Boundary(config.region.networks),
        place=Place("ie1", "n1"),
    )
    bugs: list[Exception] = []
    asks = any(trunk.tls_names for trunk in config.trunk)
    credentials = Credentials(config.sip.tls, asks)
    endpoint = Endpoint(calls, config.sip, bugs.append, credentials)
    await endpoint.start()
    try:
        yield Node(endpoint, calls, journal, transport, port, authority, bugs)
    finally:
        endpoint.close()
    assert not bugs


def run(main: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(main())  # type: ignore[arg-type]


def uri(transport: str, port: int) -> str:
    return f"sip:{CARRIER}:{port};transport={transport}"


both = pytest.mark.parametrize("transport", ["tcp", "tls"])


@both
def test_a_caller_whose_connection_dies_while_it_rings_cancels_the_call(
    tmp_path: Path, transport: str
) -> None:
    """Nobody is where its Via says: the callee is not to ring for nobody."""

    async def main() -> None:
        listens = free_port(CARRIER)
        async with node(tmp_path, transport, uri(transport, listens)) as n:
            carrier = await n.listen(CARRIER, listens)
            caller = await n.connect()
            caller.send(n.invite(PBX, free_port(PBX)))
            callee, invite = await carrier.next_call()
            callee.send(reply(invite, 180))
            await caller.until(180)
            caller.close()
            cancel = await callee.until("CANCEL")
            callee.send(cancel.response(200))
            callee.send(reply(invite, 487))
            await callee.until("ACK")
            assert (await n.ended())["cause"] == "the caller's connection was lost"
            carrier.server.close()

    run(main)


@both
def test_a_caller_that_listens_hears_the_answer_over_a_new_connection(
    tmp_path: Path, transport: str
) -> None:
    """RFC 3261 section 18.2.2: the 180 again, then the 200; the call goes on over it."""

    async def main() -> None:
        listens = free_port(CARRIER)
        async with node(tmp_path, transport, uri(transport, listens)) as n:
            carrier, pbx = await n.listen(CARRIER, listens), await n.listen(PBX)
            caller = await n.connect(names=(PBX,))
            invite = n.invite(PBX, pbx.port)
            caller.send(invite)
            callee, onward = await carrier.next_call()
            callee.send(reply(onward, 180))
            await caller.until(180)
            caller.close()
            again = await pbx.peer()
            await again.until(180)
            callee.send(reply(onward, 200, f"<{uri(transport, listens)}>", sdp(CARRIER, 5000)))
            answer = await again.until(200)
            await callee.until("ACK")
            again.send(n.within("ACK", invite, answer, 1))
            again.send(n.within("BYE", invite, answer, 2))
            await again.until(200)
            callee.send((await callee.until("BYE")).response(200))
            assert (await n.ended())["cause"] == "caller hung up"
            for listener in (carrier, pbx):
                listener.server.close()

    run(main)


@both
@pytest.mark.parametrize("who", ["the caller connects again", "the relay connects again"])
def test_a_call_outlives_its_connection(tmp_path: Path, transport: str, who: str) -> None:
    async def main() -> None:
        listens = free_port(CARRIER)
        async with node(tmp_path, transport, uri(transport, listens)) as n:
            carrier, pbx = await n.listen(CARRIER, listens), await n.listen(PBX)
            caller = await n.connect()
            invite = n.invite(PBX, pbx.port)
            caller.send(invite)
            callee, onward = await carrier.next_call()
            callee.send(reply(onward, 200, f"<{uri(transport, listens)}>", sdp(CARRIER, 5000)))
            answer = await caller.until(200)
            caller.send(n.within("ACK", invite, answer, 1))
            await callee.until("ACK")
            caller.close()
            callee.close()
            if who.startswith("the caller"):
                caller = await n.connect()
                caller.send(n.within("BYE", invite, answer, 2))
                await caller.until(200)
                callee = await carrier.peer()
                callee.send((await callee.until("BYE")).response(200))
            else:
                await n.lost()
                n.endpoint.end_calls()
                for side in (pbx, carrier):
                    peer = await side.peer()
                    peer.send((await peer.until("BYE")).response(200))
            await n.ended()
            for listener in (carrier, pbx):
                listener.server.close()

    run(main)


def test_a_trunk_is_its_certificate(tmp_path: Path) -> None:
    """From any address of the region; without the certificate 403, with another one too."""

    async def main() -> None:
        listens = free_port(CARRIER)
        names = 'tls_names = ["pbx.example"]'
        async with node(tmp_path, "tls", uri("tls", listens), names) as n:
            carrier = await n.listen(CARRIER, listens)
            for wrong in ((), ("other.example",)):
                stranger = await n.connect(STRANGER, wrong)
                stranger.send(n.invite(STRANGER, 5061))
                assert (await stranger.receive()).status == 403
                stranger.close()
            assert carrier.accepted.empty()
            caller = await n.connect(STRANGER, ("pbx.example",))
            caller.send(n.invite(STRANGER, 5061))
            callee, onward = await carrier.next_call()
            callee.send(reply(onward, 486))
            await caller.until(486)
            caller.close()
            carrier.server.close()

    run(main)


@pytest.mark.parametrize("source", [PBX, STRANGER])
@pytest.mark.parametrize("names", [(), ("pbx.example",)])
def test_with_allow_set_too_both_must_hold(
    tmp_path: Path, source: str, names: tuple[str, ...]
) -> None:
    async def main() -> None:
        listens = free_port(CARRIER)
        keys = f'tls_names = ["pbx.example"]\nallow = ["{PBX}/32"]'
        async with node(tmp_path, "tls", uri("tls", listens), keys) as n:
            caller = await n.connect(source, names)
            caller.send(n.invite(source, 5061, body=b""))
            known = source == PBX and bool(names)
            assert (await caller.receive()).status == (100 if known else 403)
            caller.close()

    run(main)


def test_a_secure_trunk_signals_over_tls_only(tmp_path: Path) -> None:
    async def main() -> None:
        keys = f'allow = ["{PBX}/32"]\nsecure = true'
        async with node(tmp_path, "tls", uri("tls", free_port(CARRIER)), keys) as n:
            caller = await n.connect(transport="tcp")
            caller.send(n.invite(PBX, 5060))
            refused = await caller.until(403)
            assert "trunk pbx is secure: signal over TLS" in refused.headers.get("Warning")
            assert n.calls.counters["refused_403"] == 1
            caller.close()

    run(main)


@pytest.mark.parametrize("onward", ["tls", "udp"])
def test_a_call_to_a_sips_address_is_tls_to_its_end(tmp_path: Path, onward: str) -> None:
    """RFC 5630: else 480; and our Contact is a sips: URI (RFC 3261 section 12.1.1)."""

    async def main() -> None:
        listens = free_port(CARRIER)
        async with node(tmp_path, "tls", uri(onward, listens)) as n:
            carrier = await n.listen(CARRIER, listens)
            caller = await n.connect()
            caller.send(n.invite(PBX, 5061, "sips"))
            if onward == "udp":
                refused = await caller.until(480)
                warning = refused.headers.get("Warning")
                assert "SIPS not allowed: the called side is not reached over TLS" in warning
            else:
                callee, invite = await carrier.next_call()
                callee.send(reply(invite, 180))
                ringing = await caller.until(180)
                assert str(ringing.contact.uri) == f"sips:{RELAY}:{n.port}"
                assert invite.contact.uri.scheme == "sip"  # that trunk is sip: over TLS
            caller.close()
            carrier.server.close()

    run(main)


class Datagrams(asyncio.DatagramProtocol):
    """A peer over UDP."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait(data)


@pytest.mark.parametrize("takes_tcp", [True, False])
@pytest.mark.parametrize("fixed", ["", ";transport=udp"])
def test_a_request_too_long_for_udp_goes_over_tcp_where_that_is_taken(
    tmp_path: Path, takes_tcp: bool, fixed: str
) -> None:
    """RFC 3261 section 18.1.1: above 1,300 octets, unless the URI says UDP."""
    offer = sdp(PBX, 4000, extra="a=x-long:" + "x" * 1000)

    async def main() -> None:
        listens = free_port(CARRIER)
        async with node(tmp_path, "tcp", f"sip:{CARRIER}:{listens}{fixed}") as n:
            loop = asyncio.get_running_loop()
            over_udp, udp = await loop.create_datagram_endpoint(
                Datagrams, local_addr=(CARRIER, listens)
            )
            carrier = await n.listen(CARRIER, listens) if takes_tcp else None
            for attempt in range(2):
                caller = await n.connect()
                caller.send(n.invite(PBX, free_port(PBX), body=offer))
                if carrier is not None and not fixed:
                    if attempt == 0:
                        callee = await carrier.peer()
                    invite = await callee.until("INVITE")
                    callee.send(reply(invite, 486))
                    await callee.until("ACK")
                    await caller.until(486)
                    assert udp.received.empty()
                    assert invite.via.transport == "TCP"
                else:
                    async with asyncio.timeout(DEADLINE_S):
                        invite = parse(await udp.received.get())
                    assert invite.via.transport == "UDP"
                    assert len(invite.vias) == 1
                    assert n.endpoint.counters["tcp_not_taken"] == (0 if fixed else 1)
                    over_udp.sendto(reply(invite, 486).encode(), (RELAY, n.port))
                    await caller.until(486)
                    async with asyncio.timeout(DEADLINE_S):
                        while parse(await udp.received.get()).method != "ACK":
                            pass
                caller.close()
            over_udp.close()
            if carrier is not None:
                carrier.server.close()

    run(main)


def test_no_request_leaves_for_an_address_outside_whoever_wants_it_sent(tmp_path: Path) -> None:
    """The last lock, behind all that asks the boundary before it decides."""

    async def main() -> None:
        async with node(tmp_path, "tcp", uri("tcp", free_port(CARRIER))) as n:
            for transport in ("udp", "tcp", "tls"):
                hop = Hop(transport, "203.0.113.1", 5060)
                assert not n.endpoint._transmit(b"BYE sip:x SIP/2.0\r\n\r\n", hop)
            assert not n.endpoint._streams._tasks

    run(main)
