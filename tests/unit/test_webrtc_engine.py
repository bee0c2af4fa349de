"""A voice client through the engine to plain RTP: aiortc's whole stack over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from relay.call.ports import (
    ConsentLost,
    LegMedia,
    MediaEvent,
    PathSelected,
    Secured,
    SecuringFailed,
    Side,
)
from relay.media.engine import Engine
from relay.media.engine_call import EngineCall
from relay.probe.audio import Samples, decode_g711, similarity
from relay.rtp import packet
from relay.rtp.g711 import PCMU, compress
from relay.sdp.description import Fingerprint, IceCredentials, IceDtls, MediaAddress
from relay.webrtc.half_open import HalfOpen
from tests.unit.aiortc_browser import PACKET, RATE_HZ, Browser, agreed, description, sound
from tests.unit.aiortc_rig import until
from tests.unit.media_rig import fresh_host
from tests.unit.test_webrtc_dtls import first_flight
from tests.unit.test_webrtc_ice import check as stun_check

pytestmark = pytest.mark.alone

UFRAG, PWD = "relay1", "r" * 24
SECONDS = 1.0
CLIENT, PHONE, OTHER = (sound(SECONDS, seed) for seed in (1, 2, 3))


class Phone(asyncio.DatagramProtocol):
    """Plain RTP: hears PCMU and says it."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._heard: list[bytes] = []
        self._talking: asyncio.Task[None] | None = None
        self._socket: asyncio.DatagramTransport | None = None

    async def open(self) -> Phone:
        loop = asyncio.get_running_loop()
        self._socket, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(self._host, 0)
        )
        return self

    def datagram_received(self, data: bytes, source: object) -> None:
        if data[1] & 0x7F == PCMU:
            self._heard.append(data[12:])

    @property
    def heard(self) -> Samples:
        return decode_g711(b"".join(self._heard), PCMU)

    def leg(self) -> LegMedia:
        assert self._socket is not None
        port = self._socket.get_extra_info("sockname")[1]
        return LegMedia(MediaAddress(self._host, port, port + 1), frozenset({PCMU}))

    def forget(self) -> None:
        self._heard.clear()

    def talk(self, to: MediaAddress, says: Samples) -> None:
        octets = bytes(compress(int(each), PCMU) for each in says * 32767)
        self._talking = asyncio.create_task(self._talk((to.host, to.port), octets))

    async def _talk(self, to: tuple[str, int], octets: bytes) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(10**6):
            at = number * PACKET % len(octets)
            payload = octets[at : at + PACKET]
            data = packet.build(PCMU, number % 65536, number * PACKET, 7, payload)
            self._socket.sendto(data, to)
            await asyncio.sleep(began + (number + 1) * 0.02 - loop.time())

    def close(self) -> None:
        if self._talking is not None:
            self._talking.cancel()
        if self._socket is not None:
            self._socket.close()


@dataclass
class World:
    """An engine on the loop with one call: the client calls, the phone answers."""

    engine: Engine
    call: EngineCall
    browser: Browser
    phone: Phone
    events: list[MediaEvent] = field(default_factory=list)

    def of(self, kind: type) -> list[MediaEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def describe(self, ice: IceDtls) -> None:
        leg = LegMedia(None, frozenset({PCMU}), webrtc=ice)
        self.call.update(Side.CALLER, leg)
        self.call.update(Side.CALLEE, self.phone.leg())

    async def connect(self, setup: str = "passive", ufrag: str = UFRAG) -> None:
        """The client offers, we answer."""
        offer = await self.browser.offer()
        self.describe(agreed(offer, ufrag, PWD, dtls_client=setup == "active"))
        local = self.call.local(Side.CALLER)
        answer = description(local, self.engine.fingerprint, setup, ufrag, PWD)
        await self.browser.answered(answer)

    async def both_talk(self) -> None:
        """Until each has heard all of what the other said, or the deadline."""
        self.phone.talk(self.call.local(Side.CALLEE), PHONE)
        whole = 2 * CLIENT.size + RATE_HZ // 4  # it is said over and over, and heard from anywhere
        await until(lambda: self.phone.heard.size > whole and self.browser.heard.size > whole)


@contextlib.asynccontextmanager
async def world(ipv6: bool = False) -> AsyncIterator[World]:
    host = fresh_host()
    events: list[MediaEvent] = []
    engine = Engine(
        host,
        None,
        (20000, 20100),
        1,
        60.0,
        address_ipv6="::1",
        on_event=lambda call_id, event: events.append(event),
        latch_networks=[ipaddress.ip_network(each) for each in ("127.0.0.0/8", "::1/128")],
    )
    engine.start(asyncio.get_running_loop())
    browser = Browser(CLIENT, "::1" if ipv6 else host)
    phone = await Phone(host).open()
    call = engine.open("call-1", ipv6, False)
    try:
        yield World(engine, call, browser, phone, events)
    finally:
        call.close()
        await browser.close()
        phone.close()
        engine.close()


async def half_open_client(w: World) -> EngineCall:
    """A call of its own, whose client begins a handshake and never goes on."""
    call = w.engine.open("flood", False, False)
    ice = IceDtls("ours", "p" * 24, "theirs", "q" * 24, (Fingerprint("sha-256", bytes(32)),))
    call.update(Side.CALLER, LegMedia(None, frozenset({PCMU}), webrtc=ice))
    local = call.local(Side.CALLER)
    selected, begun = len(w.of(PathSelected)), hellos(w)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((local.host, 0))
        peer.sendto(stun_check(True), (local.host, local.port))
        await until(lambda: len(w.of(PathSelected)) > selected)
        peer.sendto(first_flight(), (local.host, local.port))
        await until(lambda: hellos(w) > begun)
    return call


def hellos(w: World) -> int:
    """Handshakes that were begun, and those that found no place."""
    counters = w.engine.webrtc.counters
    going = len(w.engine.webrtc.shared.half_open)
    return going + counters["dtls_gave_way"] + counters["dtls_no_place"]


def _resident_octets() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("setup", "ipv6"), [("passive", False), ("active", False), ("passive", True)]
)
def test_audio_both_ways_when_the_client_offers(setup: str, ipv6: bool) -> None:
    async def run() -> None:
        async with world(ipv6) as w:
            await w.connect(setup)
            await w.both_talk()
            assert similarity(w.phone.heard, CLIENT) > 0.95
            assert similarity(w.browser.heard, PHONE) > 0.95
            (selected,) = w.of(PathSelected)
            assert isinstance(selected, PathSelected) and selected.host == w.browser._host
            assert w.of(Secured) == [Secured(Side.CALLER, "AEAD_AES_128_GCM")]
            assert w.events.index(selected) < w.events.index(w.of(Secured)[0])
            assert not w.of(SecuringFailed)
            drops = w.call.figures(Side.CALLER).drops
            assert set(drops) <= {"not_secured", "no_path_selected"}  # before DTLS was done

    asyncio.run(run())


def test_audio_both_ways_when_we_offer() -> None:
    async def run() -> None:
        async with world() as w:
            local = w.call.local(Side.CALLER)
            offer = description(local, w.engine.fingerprint, "actpass", UFRAG, PWD)
            answer = await w.browser.answer(offer)
            assert "a=setup:active" in answer
            w.describe(agreed(answer, UFRAG, PWD))
            await w.both_talk()
            assert similarity(w.phone.heard, CLIENT) > 0.95
            assert similarity(w.browser.heard, PHONE) > 0.95

    asyncio.run(run())


def test_a_client_that_is_faster_than_its_answer_has_keys_as_soon_as_the_answer_is_here() -> None:
    """Its path and its first flight come before; only responses to its checks are sent then."""

    async def run() -> None:
        async with world() as w:
            local = w.call.local(Side.CALLER)
            other = Browser(OTHER, w.browser._host)  # has the same offer, and does not get the call
            w.call.offer(Side.CALLER, IceCredentials(UFRAG, PWD))
            offer = description(local, w.engine.fingerprint, "actpass", UFRAG, PWD)
            try:
                await other.answer(offer)
                answer = await w.browser.answer(offer)
                pcs = other.pc, w.browser.pc
                await until(lambda: all(pc.iceConnectionState == "completed" for pc in pcs))
                assert w.events == []
                assert w.call.figures(Side.CALLER).drops == {}
                w.describe(agreed(answer, UFRAG, PWD))
                assert (
                    w.call._webrtc[Side.CALLER]._transport.path is not None
                )  # with no packet more
                assert w.events == []  # told of after what the call does now
                await w.both_talk()
                assert similarity(w.phone.heard, CLIENT) > 0.95
                assert similarity(w.browser.heard, PHONE) > 0.95
                assert other.heard.size == 0
                assert len(w.of(PathSelected)) == len(w.of(Secured)) == 1
            finally:
                await other.close()

    asyncio.run(run())


def test_after_a_transfer_another_client_has_the_leg() -> None:
    """Another certificate and other credentials: the first client is not heard any more."""

    async def run() -> None:
        async with world() as w:
            await w.connect()
            await until(lambda: w.phone.heard.size > RATE_HZ // 4)
            first, w.browser = w.browser, Browser(OTHER, w.browser._host)
            try:
                await w.connect(ufrag="relay2")
                await until(lambda: len(w.of(Secured)) == 2)
                w.phone.forget()
                await w.both_talk()
                assert similarity(w.phone.heard, OTHER) > 0.95
                assert similarity(w.phone.heard, CLIENT) < 0.5
                assert similarity(w.browser.heard, PHONE) > 0.95
            finally:
                await first.close()

    asyncio.run(run())


def test_a_client_with_another_certificate_is_heard_by_nobody() -> None:
    async def run() -> None:
        async with world() as w:
            offer = await w.browser.offer()
            forged = replace(
                agreed(offer, UFRAG, PWD), fingerprints=(Fingerprint("sha-256", bytes(32)),)
            )
            w.describe(forged)
            answer = description(
                w.call.local(Side.CALLER), w.engine.fingerprint, "passive", UFRAG, PWD
            )
            await w.browser.answered(answer)
            await until(lambda: w.of(SecuringFailed))
            w.phone.talk(w.call.local(Side.CALLEE), PHONE)
            await until(
                lambda: w.call.figures(Side.CALLEE).drops.get("receiver_not_secured", 0) > 10
            )
            assert w.phone.heard.size == 0
            assert w.browser.heard.size == 0
            assert not w.of(Secured)

    asyncio.run(run())


def test_a_flood_of_half_open_handshakes_harms_no_live_call() -> None:
    """Clients that check, send a ClientHello and fall silent: what they cost is bounded."""

    async def run() -> None:
        async with world() as w:
            await w.connect()
            await until(lambda: w.of(Secured))
            shared = w.engine.webrtc.shared
            half_open = shared.half_open = HalfOpen(shared.counters, 16)
            before = _resident_octets()
            flood = [await half_open_client(w) for _ in range(22)]
            assert len(half_open) == 16
            assert shared.counters["dtls_no_place"] + shared.counters["dtls_gave_way"] == 6
            assert _resident_octets() - before < 22 * 256 * 1024
            w.phone.forget()
            await w.both_talk()
            assert similarity(w.phone.heard, CLIENT) > 0.95
            assert similarity(w.browser.heard, PHONE) > 0.95
            # An honest one gets the place of who has had his for long.
            call = w.engine.open("call-2", False, False)
            honest = Browser(OTHER, w.browser._host)
            offer = await honest.offer()
            leg = LegMedia(None, frozenset({PCMU}), webrtc=agreed(offer, UFRAG, PWD))
            call.update(Side.CALLER, leg)
            local = call.local(Side.CALLER)
            await honest.answered(description(local, w.engine.fingerprint, "passive", UFRAG, PWD))
            await until(lambda: len(w.of(Secured)) == 2)
            assert len(half_open) <= 16
            await honest.close()
            for each in (*flood, call):
                each.close()
            assert len(half_open) == 0

    asyncio.run(run())


def test_a_call_without_checks_loses_consent_and_gets_it_back() -> None:
    """The engine's own timers, moved on by hand; no aiortc."""

    async def run() -> None:
        async with world() as w:
            ice = IceDtls("ours", "p" * 24, "theirs", "q" * 24, (Fingerprint("sha-256", b"x"),))
            w.describe(ice)
            local = w.call.local(Side.CALLER)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind((local.host, 0))
                peer.sendto(stun_check(True), (local.host, local.port))
                await until(lambda: w.of(PathSelected))
                legs = w.engine.webrtc
                legs.on_timer(legs._timer_at + 100.0)
                await until(lambda: ConsentLost(Side.CALLER) in w.events)
                peer.sendto(stun_check(), (local.host, local.port))
                await until(lambda: len(w.of(PathSelected)) == 2)

    asyncio.run(run())
