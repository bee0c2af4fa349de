"""A leg's ICE and DTLS together: with aiortc over sockets, and alone in virtual time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import aioice
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.webrtc.ice import CONSENT_S, Credentials
from relay.webrtc.transport import (
    MOST_EARLY,
    ConsentEnded,
    Failed,
    PathChosen,
    Replaced,
    Secured,
    Send,
    Transport,
)
from tests.unit.aiortc_rig import HOST, Peer, rig, until
from tests.unit.test_webrtc_dtls import OTHER, OURS, THEIRS, first_flight, named, node
from tests.unit.test_webrtc_ice import CELL, EVIL, FIRST, SECOND, WIFI, check

Test = Callable[[], Coroutine[Any, Any, None]]


def on_a_loop(test: Test) -> Callable[[], None]:
    """pytest's function for a coroutine."""

    def run() -> None:
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.mark.parametrize("role", ["client", "server"])
def test_aiortc_and_we_agree_on_keys(role: str) -> None:
    """ICE, then DTLS in both roles; what one side protects the other opens."""

    async def run() -> None:
        async with rig(role) as (here, peer):
            here.describe(peer.credentials, peer.fingerprints, client=role == "server")
            await peer.connect(here.port)
            assert peer.ice.state == "completed"
            await peer.secure(here.certificate.digest)
            assert peer.dtls.state == "connected"
            await until(lambda: here.of(Secured))
            assert isinstance(here.outputs[0], PathChosen)
            (secured,) = here.of(Secured)
            assert isinstance(secured, Secured)
            exported = peer.dtls._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 56)
            client, server = exported[:16], exported[16:32]
            assert secured.keys.suite == "AEAD_AES_128_GCM"
            assert secured.keys.receive[0] == (client if role == "client" else server)
            assert secured.keys.send[0] == (server if role == "client" else client)
            assert here.counters == {"dtls_secured": 1}

    asyncio.run(run())


@on_a_loop
async def test_a_peer_with_a_wrong_password_finds_no_path() -> None:
    async with rig() as (here, peer):
        here.describe(peer.credentials, peer.fingerprints, client=False)
        connecting = asyncio.create_task(peer.connect(here.port, "x" * 24))
        await until(lambda: here.counters["stun_not_authentic"] > 2)
        connecting.cancel()
        assert here.outputs == []
        assert here.leg.path is None


@on_a_loop
async def test_a_peer_with_another_certificate_gets_no_keys() -> None:
    async with rig() as (here, peer):
        here.describe(peer.credentials, named(OTHER), client=False)
        await peer.connect(here.port)
        await peer.secure(here.certificate.digest)
        assert peer.dtls.state == "failed"  # it got our alert
        (failed,) = here.of(Failed)
        assert "not the one whose fingerprint" in str(failed)
        assert not here.of(Secured)


@on_a_loop
async def test_a_peer_that_expects_another_certificate_takes_no_keys() -> None:
    async with rig() as (here, peer):
        here.describe(peer.credentials, peer.fingerprints, client=False)
        await peer.connect(here.port)
        await peer.secure(OTHER.digest)
        assert peer.dtls.state == "failed"


@on_a_loop
async def test_dtls_from_a_foreign_address_is_not_heard() -> None:
    async with rig() as (here, peer):
        here.describe(peer.credentials, peer.fingerprints, client=False)
        await peer.connect(here.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
            foreign.sendto(first_flight(), (HOST, here.port))
            await until(lambda: here.counters["dtls_off_path"])
        assert len(here.shared.half_open) == 0
        await peer.secure(here.certificate.digest)
        assert peer.dtls.state == "connected"


@on_a_loop
async def test_aioice_keeps_consent_and_moves_after_a_restart() -> None:
    """A second aioice agent with new credentials takes the path over, DTLS goes on."""
    async with rig() as (here, peer):
        here.describe(peer.credentials, peer.fingerprints, client=False)
        await peer.connect(here.port)
        await peer.secure(here.certificate.digest)
        await until(lambda: here.of(Secured))
        other = await Peer().gather()
        restarted = Credentials("restart", "r" * 24, other.credentials.remote_ufrag)
        here.describe(restarted, peer.fingerprints, client=False)
        connection = other.ice._connection
        connection.remote_is_lite = True
        connection.remote_username, connection.remote_password = "restart", "r" * 24
        await connection.add_remote_candidate(
            aioice.Candidate("1", 1, "udp", 1, HOST, here.port, "host")
        )
        await connection.add_remote_candidate(None)
        assert len(here.of(PathChosen)) == 1
        await connection.connect()
        await until(lambda: len(here.of(PathChosen)) == 2)
        assert here.leg.path == (HOST, connection.local_candidates[0].port)
        assert len(here.of(Secured)) == 1
        await connection.close()


# --- in virtual time


def leg(client: bool = False) -> Transport:
    transport = Transport(node())
    transport.describe(FIRST, named(THEIRS), client, 1.0)
    return transport


def kinds(transport: Transport) -> list[type]:
    return [type(output) for output in transport.drain()]


def test_the_client_speaks_as_soon_as_there_is_a_path() -> None:
    transport = leg(client=True)
    assert kinds(transport) == []
    transport.feed(check(True), WIFI, 2.0)
    path, response, hello = transport.drain()
    assert path == PathChosen(WIFI)
    assert isinstance(response, Send) and response.to == WIFI
    assert isinstance(hello, Send) and hello.data[0] == 22


def test_dtls_before_a_path_is_not_heard() -> None:
    transport = leg()
    transport.feed(first_flight(), WIFI, 2.0)
    assert transport.drain() == []
    transport.feed(check(), WIFI, 2.0)  # checked, but not nominated
    transport.feed(first_flight(), WIFI, 2.0)
    assert kinds(transport) == [Send]


def test_nothing_is_sent_without_consent() -> None:
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.0)
    transport.drain()
    now = 2.0
    while (due := transport.next_timer()) is not None:
        now = due
        transport.on_timer(now)
        if transport.path is None:
            break
        transport.drain()
    assert now == 2.0 + CONSENT_S
    assert ConsentEnded() in transport.drain()
    transport.feed(first_flight(), WIFI, now)
    assert transport.drain() == []


def test_a_peer_that_never_speaks_dtls_is_told_of() -> None:
    transport = leg()
    for now in (2.0, 12.0, 22.0):
        transport.feed(check(True), WIFI, now)
    transport.drain()
    transport.on_timer(22.0)
    assert transport.drain() == [Failed("no DTLS handshake within 20 s")]
    transport.on_timer(30.0)
    assert transport.drain() == []


def test_a_handshake_that_gave_way_is_told_of_at_its_next_timer() -> None:
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.0)
    transport.drain()
    assert transport._dtls is not None
    transport._dtls.give_way()
    transport.on_timer(2.4)
    (failed,) = transport.drain()
    assert isinstance(failed, Failed) and "took too long" in failed.why


def test_an_ice_restart_keeps_the_association_and_another_certificate_does_not() -> None:
    """RFC 8842 section 3.1."""
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.0)
    before = transport._dtls
    transport.describe(SECOND, named(THEIRS), False, 3.0)
    assert transport._dtls is before
    transport.feed(check(True, SECOND), CELL, 3.0)
    assert transport.path == CELL
    transport.describe(SECOND, named(OURS), False, 4.0)
    assert transport._dtls is not before
    assert transport._shared.half_open._began == {}


def test_somebody_else_gets_neither_the_path_nor_the_keys_of_the_one_before() -> None:
    """New credentials and another certificate at once, as after a transfer."""
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.drain()
    transport.describe(SECOND, named(OURS), False, 3.0)
    assert transport.drain() == [Replaced()]
    assert transport.path is None
    transport.feed(check(True), WIFI, 3.0)  # with the old credentials
    assert transport.drain() == []
    transport.feed(check(True, SECOND), CELL, 3.0)
    assert transport.drain()[0] == PathChosen(CELL)


def test_a_leg_that_has_ended_is_deaf() -> None:
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.drain()
    transport.close()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.0)
    transport.on_timer(100.0)
    assert transport.drain() == []
    assert transport.next_timer() is None


# --- before the answer to our offer


def offered() -> Transport:
    transport = Transport(node())
    transport.offer(*FIRST[:2])
    return transport


def test_a_peer_that_is_faster_than_its_answer_is_answered_as_soon_as_it_is_known() -> None:
    transport = offered()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.1)
    (response,) = transport.drain()  # nothing but that, before the answer
    assert isinstance(response, Send) and response.data[0] < 4
    assert transport.next_timer() is None
    transport.describe(FIRST, named(THEIRS), False, 2.2)
    path, *flight = transport.drain()
    assert path == PathChosen(WIFI)
    assert flight and all(isinstance(each, Send) and each.data[0] == 22 for each in flight)
    assert transport._shared.counters == {}


def test_a_hello_that_overtakes_its_nomination_is_heard() -> None:
    transport = leg()
    transport.feed(check(), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.1)
    transport.drain()
    transport.feed(check(True), WIFI, 2.2)
    path, response, *flight = transport.drain()
    assert path == PathChosen(WIFI)
    assert isinstance(response, Send) and flight


def test_an_early_hello_of_another_phone_is_not_heard() -> None:
    transport = offered()
    other = FIRST._replace(remote_ufrag="another")
    transport.feed(check(True, other), CELL, 2.0)
    transport.feed(first_flight(), CELL, 2.0)
    transport.feed(check(True), WIFI, 2.0)
    transport.drain()
    transport.describe(FIRST, named(THEIRS), False, 2.2)
    assert transport.drain() == [PathChosen(WIFI)]
    assert len(transport._shared.half_open) == 0
    assert not transport._early


def test_the_phone_whose_answer_replaces_anothers_has_its_early_path() -> None:
    transport = offered()
    other = FIRST._replace(remote_ufrag="another")
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(check(True, other), CELL, 2.0)
    transport.drain()
    transport.describe(FIRST, named(THEIRS), False, 2.2)
    assert transport.drain() == [PathChosen(WIFI)]
    transport.describe(other, named(OURS), False, 2.3)
    assert transport.drain() == [Replaced(), PathChosen(CELL)]


def test_an_early_hello_is_for_a_server_only() -> None:
    transport = offered()
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), WIFI, 2.0)
    transport.drain()
    transport.describe(FIRST, named(THEIRS), True, 2.2)
    path, hello = transport.drain()
    assert path == PathChosen(WIFI)
    assert isinstance(hello, Send) and hello.data[0] == 22


def test_only_a_hello_of_who_has_checked_is_kept() -> None:
    transport = offered()
    transport.feed(first_flight(), WIFI, 2.0)
    transport.feed(check(True), WIFI, 2.0)
    transport.feed(first_flight(), EVIL, 2.0)
    transport.feed(bytes((22, 254, 253)) + bytes(40), WIFI, 2.0)
    assert not transport._early
    assert transport._shared.counters["dtls_off_path"] == 3
    for _ in range(9):
        transport.feed(first_flight(), WIFI, 2.0)
    assert [len(flight) for flight in transport._early.values()] == [MOST_EARLY]


@given(st.lists(st.tuples(st.binary(max_size=300), st.sampled_from([WIFI, CELL, EVIL]))))
def test_garbage_does_no_harm(datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
    transport = leg()
    transport.feed(check(True), WIFI, 2.0)
    transport.drain()
    for data, source in datagrams:
        transport.feed(data, source, 2.0)
        assert transport.drain() == []
    assert transport.path == WIFI
