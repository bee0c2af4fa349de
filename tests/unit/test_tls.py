"""TLS on real sockets: versions, names, what a certificate proves, renewal, and bad peers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from structlog.testing import capture_logs

from relay.config import Tls
from relay.errors import CertificateError
from relay.probe.certificates import Authority, Pair
from relay.signalling import connection, places, stream, tls, tls_session
from relay.signalling.stream import Streams
from relay.signalling.tls import Credentials, names_of
from relay.sip.transaction import Hop
from tests.unit.test_signalling import DEADLINE_S, OPTIONS, Rig

HERE = "127.0.0.1"


@pytest.fixture(autouse=True)
def _log() -> None:
    structlog.reset_defaults()  # another test may have configured it


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    return authority.issue("ours", "relay.example", HERE)


class TlsRig(Rig):
    """A TLS listener on a free port, with our certificate; `names` are those that it trusts."""

    def __init__(
        self,
        authority: Authority,
        pair: Pair | None,
        asks: bool = False,
        names: frozenset[str] = frozenset(),
        trunk: bool = False,
    ) -> None:
        super().__init__(is_trunk=trunk)
        keys = pair.tls if pair is not None else {}
        self.credentials = Credentials(Tls(**keys, ca=str(authority.file)), asks)
        self.streams = Streams(
            self._take,
            self._fail,
            self._count,
            count(1),
            lambda host: trunk,
            lambda host, proved: trunk or bool(names & proved),
            lambda host: False,
            lambda hop: False,
            self.credentials,
            lambda host: True,
        )

    async def listen(self, transport: str = "tls") -> tuple[str, int]:
        self._server = await self.streams.listen(transport, HERE, 0)
        return self._server.sockets[0].getsockname()[:2]


def client_context(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def connect(
    where: tuple[str, int], context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.open_connection(*where, ssl=context)


def run(main: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(main())  # type: ignore[arg-type]


# --- who connects to us


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_messages_pass_both_ways(authority: Authority, ours: Pair, version: Any) -> None:
    async def main() -> None:
        rig = TlsRig(authority, ours)
        context = client_context(authority)
        context.minimum_version = context.maximum_version = version
        reader, writer = await connect(await rig.listen(), context)
        writer.write(OPTIONS[:40])
        await writer.drain()
        writer.write(OPTIONS[40:] + OPTIONS)
        await rig.until("received")
        assert rig.hop.transport == "tls"
        assert rig.streams.send(OPTIONS, rig.hop)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(len(OPTIONS)) == OPTIONS
        suite = writer.get_extra_info("cipher")[0]
        assert "GCM" in suite or "CHACHA20" in suite
        writer.write(b"\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(2) == b"\r\n"
        writer.close()
        await rig.until("failed")
        assert len(rig.received) == 2
        rig.close()

    run(main)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("highest", "suites"),
    [
        (ssl.TLSVersion.TLSv1_1, "DEFAULT@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "DEFAULT@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA"),  # no authenticated encryption
    ],
)
def test_old_versions_and_suites_are_refused(
    authority: Authority, ours: Pair, highest: Any, suites: str
) -> None:
    async def main() -> None:
        rig = TlsRig(authority, ours)
        where = await rig.listen()
        context = client_context(authority)
        context.set_ciphers(suites)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = highest
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(where, context)
        await rig.until("tls_handshake_failed")
        rig.close()

    run(main)


def test_a_client_certificate_proves_names(authority: Authority, ours: Pair) -> None:
    pbx = authority.issue("pbx", "pbx.example", "sip:PBX.example", "10.0.0.1")

    async def main() -> None:
        rig = TlsRig(authority, ours, asks=True, names=frozenset({"pbx.example"}))
        where = await rig.listen()
        _, writer = await connect(where, client_context(authority, pbx))
        writer.write(OPTIONS)
        await rig.until("received")
        assert rig.streams.peer_names(rig.hop) == {"pbx.example", "10.0.0.1"}
        assert rig.hop.name in rig.streams.peer_names(rig.hop)
        assert rig.streams._by_link.at(rig.hop.link).trusted
        _, plain = await connect(where, client_context(authority))  # asked, not compelled
        plain.write(OPTIONS)
        rig.counted.clear()
        await rig.until("received")
        assert rig.streams.peer_names(rig.hop) == frozenset()
        assert not rig.streams._by_link.at(rig.hop.link).trusted
        for each in (writer, plain):
            each.close()
        rig.close()

    run(main)


@pytest.mark.parametrize("bad", ["of another authority", "expired"])
def test_a_bad_client_certificate_is_refused(
    authority: Authority, ours: Pair, tmp_path: Path, bad: str
) -> None:
    if bad == "expired":
        pair = authority.issue("expired", "pbx.example", begins=-9, days=-2)
    else:
        pair = Authority(tmp_path, "other").issue("pbx", "pbx.example")

    async def main() -> None:
        rig = TlsRig(authority, ours, asks=True, names=frozenset({"pbx.example"}), trunk=True)
        context = client_context(authority, pair)
        where = await rig.listen()
        with capture_logs() as logs:
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # with TLS 1.3 it learns late
                _, writer = await connect(where, context)
                writer.write(OPTIONS)
            await rig.until("tls_handshake_failed")
        assert not rig.received
        (line,) = logs
        assert line["event"] == "tls_handshake_failed"
        assert ("expired" if bad == "expired" else "issuer") in line["problem"]
        rig.close()

    run(main)


def send_raw(data: bytes) -> Callable[[tuple[str, int]], Awaitable[socket.socket]]:
    async def send(where: tuple[str, int]) -> socket.socket:
        peer = socket.socket()
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, where)
        if data:
            await loop.sock_sendall(peer, data)
        return peer

    return send


# A ClientHello of 16 MiB, by its own length fields, in records of 16 KiB.
HUGE_HELLO = b"".join(
    b"\x16\x03\x01\x40\x00" + (b"\x01\xff\xff\xff" if n == 0 else b"\0" * 4) + b"\0" * 16380
    for n in range(9)
)


@pytest.mark.parametrize(
    "data",
    [OPTIONS, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05\x01", b"", HUGE_HELLO, b"\0" * 99],
    ids=["plain SIP", "HTTP", "half a record", "silence", "huge hello", "zeros"],
)
def test_what_is_no_handshake_costs_a_connection_and_no_more(
    authority: Authority, ours: Pair, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(tls_session, "HANDSHAKE_S", 0.2)

    async def main() -> None:
        rig = TlsRig(authority, ours)
        where = await rig.listen()
        _, good = await connect(where, client_context(authority))
        peer = await send_raw(data)(where)
        await rig.until("tls_handshake_failed")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            try:
                while await loop.sock_recv(peer, 4096):  # an alert, perhaps; then the end
                    pass
            except ConnectionError:
                pass
        assert len(rig.streams._places) == 1  # the good one's
        assert rig.counted["tls_handshake_failed"] == 1
        good.write(OPTIONS)
        await rig.until("received")
        good.close()
        peer.close()
        rig.close()

    run(main)


def test_tls_to_a_plain_port_is_cut(authority: Authority) -> None:
    async def main() -> None:
        rig = TlsRig(authority, None)
        where = await rig.listen("tcp")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(where, client_context(authority))
        await rig.until("tcp_cut_malformed")
        rig.close()

    run(main)


@pytest.mark.parametrize("limit", ["at once", "a second"])
def test_a_flood_of_handshakes_by_strangers_is_bounded(
    authority: Authority, ours: Pair, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "at once":
        monkeypatch.setattr(places, "MAX_STRANGERS", 2)
    else:
        monkeypatch.setattr(stream, "STRANGERS_PER_S", 2.0)

    async def main() -> None:
        rig = TlsRig(authority, ours)
        where = await rig.listen()
        peers = [await send_raw(b"")(where) for _ in range(3)]
        await rig.until("tls_refused_too_many")
        assert rig.counted["tls_refused_too_many"] == 1
        assert len(rig.streams._places) == 2
        for peer in peers:
            peer.close()
        async with asyncio.timeout(DEADLINE_S):
            while rig.counted["tls_handshake_failed"] < 2:
                rig.changed.clear()
                await rig.changed.wait()
        assert not rig.streams._places.strangers
        rig.close()

    run(main)


def test_a_client_cannot_renegotiate(authority: Authority, ours: Pair) -> None:
    credentials = Credentials(Tls(**ours.tls, ca=str(authority.file)), asks=False)
    assert credentials.server is not None
    assert credentials.server.options & ssl.OP_NO_RENEGOTIATION


# --- whom we connect to


def peer_server(
    pair: Pair, received: list[bytes], answer: bytes = b""
) -> Callable[[], Awaitable[asyncio.Server]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            received.append(data)
            if answer:
                writer.write(answer)
        writer.close()

    async def start() -> asyncio.Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        return await asyncio.start_server(serve, HERE, 0, ssl=context)

    return start


@pytest.mark.parametrize(
    ("names", "expected", "right"),
    [
        (("pbx.example",), "pbx.example", True),
        (("PBX.Example",), "pbx.example", True),
        (("sip:pbx.example",), "pbx.example", True),
        ((HERE,), HERE, True),
        (("other.example",), "pbx.example", False),
        (("*.example",), "pbx.example", False),  # RFC 5922 section 7.2
        (("sip:other.example", "pbx.example"), "pbx.example", False),  # a URI counts alone
        (("sip:bob@pbx.example",), "pbx.example", False),  # a user is no domain
        (("https:pbx.example",), "pbx.example", False),
        (("pbx.example",), HERE, False),
        ((), "pbx.example", False),  # the common name does not count
    ],
)
def test_a_peer_must_prove_the_domain_that_is_called(
    authority: Authority, names: tuple[str, ...], expected: str, right: bool
) -> None:
    pair = authority.issue("peer", *names, common_name="pbx.example")
    received: list[bytes] = []

    async def main() -> None:
        rig = TlsRig(authority, None)
        server = await peer_server(pair, received, answer=OPTIONS)()
        port = server.sockets[0].getsockname()[1]
        hop = Hop("tls", HERE, port, name=expected)
        with capture_logs() as logs:
            assert rig.streams.send(OPTIONS, hop)
            await rig.until("received" if right else "failed")
        if right:
            assert received == [OPTIONS]
            assert rig.streams.peer_names(rig.hop) == {expected}
        else:
            (line,) = logs
            assert (line["event"], line["expected"]) == ("tls_peer_refused", expected)
            assert line["found"] == sorted(names_of({"subjectAltName": san(names)}))
            assert rig.counted["tls_peer_refused"] == 1
            assert not received
            assert rig.failed[-1].name == expected
            assert not rig.streams._by_peer
        rig.streams.close()
        server.close()

    run(main)


def san(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    kinds = {True: "URI", False: "DNS"}
    return tuple(
        ("IP Address", name) if name == HERE else (kinds[":" in name], name) for name in names
    )


@pytest.mark.parametrize("bad", ["of another authority", "expired"])
def test_a_server_that_nobody_vouches_for_is_refused(
    authority: Authority, tmp_path: Path, bad: str
) -> None:
    if bad == "expired":
        pair = authority.issue("old", "pbx.example", begins=-9, days=-2)
    else:
        pair = Authority(tmp_path, "other").issue("peer", "pbx.example")
    received: list[bytes] = []

    async def main() -> None:
        rig = TlsRig(authority, None)
        server = await peer_server(pair, received)()
        port = server.sockets[0].getsockname()[1]
        with capture_logs() as logs:
            rig.streams.send(OPTIONS, Hop("tls", HERE, port, name="pbx.example"))
            await rig.until("failed")
        (line,) = logs
        assert line["event"] == "tls_peer_refused"
        assert ("expired" if bad == "expired" else "issuer") in line["problem"]
        assert not received and not rig.streams._by_peer
        server.close()

    run(main)


def test_a_peer_that_wants_our_certificate_says_so(authority: Authority) -> None:
    """With TLS 1.3 its refusal comes after the handshake."""
    pair = authority.issue("strict", "pbx.example")

    async def main() -> None:
        peer, rig = TlsRig(authority, pair, asks=True), TlsRig(authority, None)
        assert peer.credentials.server is not None
        peer.credentials.server.verify_mode = ssl.CERT_REQUIRED
        host, port = await peer.listen()
        with capture_logs() as logs:
            rig.streams.send(OPTIONS, Hop("tls", host, port, name="pbx.example"))
            await rig.until("failed")
        assert not peer.received
        (line,) = logs
        assert line["event"] == "tls_broken"
        assert "certificate required" in line["problem"]
        peer.close()

    run(main)


@pytest.mark.parametrize("answers", [False, True])
def test_a_peer_that_speaks_no_tls_fails_in_time(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(tls_session, "HANDSHAKE_S", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answers:
            writer.write(b"SIP/2.0 400 Bad Request\r\n\r\n")
        await reader.read()

    async def main() -> None:
        rig = TlsRig(authority, None)
        server = await asyncio.start_server(serve, HERE, 0)
        port = server.sockets[0].getsockname()[1]
        rig.streams.send(OPTIONS, Hop("tls", HERE, port, name="pbx.example"))
        await rig.until("failed")
        assert rig.counted["failed"] == 1
        server.close()

    run(main)


def test_one_connection_serves_one_name_and_is_made_again(authority: Authority) -> None:
    """Two names at one address are two peers; a lost connection is opened anew."""
    pair = authority.issue("both", "one.example", "two.example")
    received: list[bytes] = []

    async def main() -> None:
        rig = TlsRig(authority, None)
        server = await peer_server(pair, received, answer=OPTIONS)()
        port = server.sockets[0].getsockname()[1]
        links = []
        for name in ("one.example", "one.example", "two.example"):
            rig.counted.clear()
            rig.streams.send(OPTIONS, Hop("tls", HERE, port, name=name))
            await rig.until("received")
            links.append(rig.hop.link)
        assert links[0] == links[1] != links[2]
        lost = rig.hop
        rig.streams._by_link.at(lost.link).close()
        await rig.until("failed")
        assert not rig.streams.send(OPTIONS, lost)  # that one is gone
        rig.counted.clear()
        assert rig.streams.send(OPTIONS, lost._replace(link=0))
        await rig.until("received")
        assert rig.hop.link not in links
        rig.streams.close()
        server.close()

    run(main)


def test_a_peer_that_proved_its_name_is_called_over_its_own_connection(
    authority: Authority, ours: Pair
) -> None:
    """RFC 5923: with `alias` in its Via; without it, or without a name, never."""
    pbx = authority.issue("pbx", "pbx.example")
    alias = OPTIONS.replace(b"TCP 127.0.0.1;", b"TLS 127.0.0.1:5099;alias;")

    async def main() -> None:
        rig = TlsRig(authority, ours, asks=True, names=frozenset({"pbx.example"}))
        reader, writer = await connect(await rig.listen(), client_context(authority, pbx))
        to = Hop("tls", HERE, 5099, name="pbx.example")
        writer.write(OPTIONS)
        await rig.until("received")
        assert (to.transport, to.host, to.port, to.name) not in rig.streams._by_peer
        writer.write(alias)
        rig.counted.clear()
        await rig.until("received")
        assert rig.streams.send(OPTIONS, to)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(len(OPTIONS)) == OPTIONS
        writer.close()
        await rig.until("failed")
        assert not rig.streams._by_peer
        rig.close()

    run(main)


# --- keep-alive


@pytest.mark.parametrize("peer", ["answers", "stops answering", "never answers"])
def test_pings_over_a_connection_of_ours(monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    """RFC 5626 section 4.4.1; a peer that knows nothing of pings is left alone."""
    monkeypatch.setattr(connection, "PING_S", 0.05)
    monkeypatch.setattr(connection, "PONG_S", 0.04)
    pings = 0
    enough = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal pings
        while data := await reader.read(4096):
            if data.startswith(b"OPTIONS"):
                writer.write(OPTIONS)
                continue
            assert data == b"\r\n\r\n"
            pings += 1
            if peer == "answers" or (peer == "stops answering" and pings == 1):
                writer.write(b"\r\n")
            if pings == 4:
                enough.set()
        writer.close()

    async def main() -> None:
        rig = Rig(is_trunk=True)
        server = await asyncio.start_server(serve, HERE, 0)
        rig.streams.send(OPTIONS, Hop("tcp", HERE, server.sockets[0].getsockname()[1]))
        await rig.until("received")
        if peer == "stops answering":
            await rig.until("failed")
            assert rig.counted["tcp_cut_no_pong"] == 1
        else:
            async with asyncio.timeout(DEADLINE_S):
                await enough.wait()
            assert rig.streams.is_open(rig.hop)
            assert rig.counted["received"] == 1
        rig.streams.close()
        server.close()

    run(main)


@pytest.mark.parametrize("used", [False, True])
def test_an_idle_connection_is_closed_unless_a_call_needs_it(
    monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    monkeypatch.setattr(connection, "PING_S", 0.02)
    monkeypatch.setattr(connection, "IDLE_S", 0.1)

    async def main() -> None:
        rig = Rig(is_trunk=True)
        asked = asyncio.Event()

        def is_used(hop: Hop) -> bool:
            asked.set()
            return used

        rig.streams.is_used = is_used  # type: ignore[method-assign]
        _, writer = await asyncio.open_connection(*await rig.listen())
        writer.write(OPTIONS)
        await rig.until("received")
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        if used:
            assert rig.streams.is_open(rig.hop)
        else:
            await rig.until("failed")
            assert rig.counted["tcp_cut_idle"] == 1
        writer.close()
        rig.close()

    run(main)


# --- our certificate


def replace(old: Pair, new: Pair) -> None:
    """As certificate tools do it: new files are moved over the old ones."""
    os.replace(new.key, old.key)
    os.replace(new.certificate, old.certificate)


async def loaded_is(credentials: Credentials, pair: Pair) -> None:
    """Wait until the watch has taken it."""
    done = asyncio.Event()
    reload = credentials.reload

    def told() -> None:
        reload()
        if credentials.certificate is not None and credentials.certificate.serial == pair.serial:
            done.set()

    credentials.reload = told  # type: ignore[method-assign]
    async with asyncio.timeout(DEADLINE_S):
        await done.wait()


def serial_of(writer: asyncio.StreamWriter) -> str:
    return writer.get_extra_info("peercert")["serialNumber"].lower().lstrip("0")


def test_a_new_certificate_serves_new_handshakes_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.02)
    authority = Authority(tmp_path)
    first, second = authority.issue("ours", HERE), authority.issue("next", HERE)

    async def main() -> None:
        rig = TlsRig(authority, first)
        where = await rig.listen()
        rig.credentials.watch()
        reader, old = await connect(where, client_context(authority))
        old.write(OPTIONS)
        await rig.until("received")
        hop = rig.hop
        assert serial_of(old) == first.serial
        with capture_logs() as logs:
            replace(first, second)
            await loaded_is(rig.credentials, second)
        loaded = [line for line in logs if line["event"] == "tls_certificate_loaded"]
        assert loaded[-1]["serial"] == second.serial
        assert loaded[-1]["subject"] == "CN=relay test"
        _, new = await connect(where, client_context(authority))
        assert serial_of(new) == second.serial
        assert rig.streams.send(OPTIONS, hop)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.readexactly(len(OPTIONS)) == OPTIONS
        rig.credentials.close()
        for writer in (old, new):
            writer.close()
        rig.close()

    run(main)


@pytest.mark.parametrize("bad", ["half", "mismatch", "expired", "missing", "not yet", "no ca"])
def test_files_that_cannot_be_used_change_nothing(tmp_path: Path, bad: str) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("ours", HERE)
    credentials = Credentials(Tls(**pair.tls, ca=str(authority.file)), asks=True)
    before = credentials.server
    if bad == "half":
        text = pair.certificate.read_bytes()
        pair.certificate.write_bytes(text[: len(text) // 2])
    elif bad == "mismatch":
        os.replace(authority.issue("next", HERE).key, pair.key)
    elif bad == "expired":
        replace(pair, authority.issue("next", HERE, begins=-9, days=-1))
    elif bad == "not yet":
        replace(pair, authority.issue("next", HERE, begins=2))
    elif bad == "missing":
        pair.key.unlink()
    else:
        authority.file.write_text("")
    with capture_logs() as logs:
        credentials.look()
        credentials.look()  # told once
    (line,) = logs
    assert line["event"] == "tls_certificate_refused"
    wanted = {
        "half": "not a whole certificate",
        "mismatch": "is the key of another certificate",
        "expired": "expired on",
        "not yet": "is not valid before",
        "missing": "No such file",
        "no ca": "holds no certificates",
    }
    assert wanted[bad] in line["problem"]
    assert "PRIVATE" not in line["problem"]
    assert credentials.server is before
    if bad != "no ca":
        replace(pair, authority.issue("good", HERE))
        credentials.look()
        assert credentials.server is not before


def test_a_certificate_near_its_end_is_warned_of_once_a_day(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.issue("soon", HERE, days=3)
    credentials = Credentials(Tls(**pair.tls), asks=False)
    times = iter((1000.0, 1002.0, 80000.0, 88000.0))
    monkeypatch.setattr(tls.time, "monotonic", lambda: next(times))
    with capture_logs() as logs:
        for _ in range(4):
            credentials.look()
    assert [line["event"] for line in logs] == ["tls_certificate_expires"] * 2
    assert logs[0]["days_left"] == pytest.approx(3, abs=0.1)


def test_an_encrypted_key_asks_nobody_for_its_password(
    authority: Authority, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as s

    pair = authority.issue("locked", HERE)
    key = s.load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")
    )
    pair.key.write_bytes(locked)
    with pytest.raises(CertificateError, match="the key is encrypted"):
        Credentials(Tls(**pair.tls), asks=False)
