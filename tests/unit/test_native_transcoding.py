"""Opus and G.711 in one call: what one side says, the other hears, in its own codec."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from relay import _native
from relay.call.ports import DtmfPressed, Side
from relay.errors import NotAcceptable
from relay.probe.audio import decode_g711, similarity
from relay.rtp import packet
from relay.rtp.g711 import PCMU as LAW_PCMU
from relay.rtp.g711 import compress
from relay.sdp.description import Coding
from tests.unit.media_rig import Rig, rig, until
from tests.unit.opus_codec import decode, encode, tune

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not _native.HAS_OPUS, reason="built without libopus"),
]

OPUS = Coding("OPUS", 111, 48000, telephone_event=110, fec=True)
PCMU = Coding("PCMU", 0, 8000, telephone_event=101, comfort_noise=13)
PCMA = Coding("PCMA", 8, 8000, telephone_event=101)
TICKS = {"OPUS": 960, "PCMU": 160, "PCMA": 160}


def describe(r: Rig, caller: Coding = OPUS, callee: Coding = PCMU) -> None:
    for side, peer, coding in (
        (Side.CALLER, r.caller, caller),
        (Side.CALLEE, r.callee, callee),
    ):
        types = {coding.payload_type, coding.telephone_event, coding.comfort_noise} - {None}
        r.call.update(side, peer.leg(payload_types=frozenset(types), coding=coding))


def hold(r: Rig, on: bool) -> None:
    """The callee is silent, by agreement."""
    for side, peer, coding in (
        (Side.CALLER, r.caller, OPUS),
        (Side.CALLEE, r.callee, PCMU),
    ):
        types = {coding.payload_type, coding.telephone_event, coding.comfort_noise} - {None}
        leg = peer.leg(payload_types=frozenset(types), coding=coding)
        if on and side is Side.CALLER:
            leg = leg._replace(may_receive=False)
        elif on:
            leg = leg._replace(may_send=False)
        r.call.update(side, leg)


@contextmanager
def transcoded(caller: Coding = OPUS, callee: Coding = PCMU) -> Iterator[Rig]:
    with rig() as r:
        describe(r, caller, callee)
        yield r


class Talk:
    """Packets from one side at their time, and what the other side got meanwhile."""

    def __init__(self, r: Rig, side: Side, coding: Coding) -> None:
        self.sender, self.receiver = (
            (r.caller, r.callee) if side is Side.CALLER else (r.callee, r.caller)
        )
        self.at = r.call.local(side)
        self.coding = coding
        self.got: list[packet.RtpPacket] = []
        self.arrived: list[float] = []
        self.receiver.rtp.setblocking(False)

    def run(self, sent: list[tuple[float, bytes]], then_s: float = 0.35) -> None:
        """`sent` are datagrams with the second at which each leaves."""
        began = time.monotonic()
        for when, data in sent:
            self._hear_until(began + when)
            self.sender.rtp.sendto(data, (self.at.host, self.at.port))
        self._hear_until(time.monotonic() + then_s)

    def _hear_until(self, deadline: float) -> None:
        while True:
            try:
                data = self.receiver.rtp.recv(2048)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return
                time.sleep(0.001)
                continue
            if packet.demux(data) is packet.Kind.RTP:
                self.got.append(packet.parse(data))
                self.arrived.append(time.monotonic())

    def said(self, payloads: list[bytes]) -> list[tuple[float, bytes]]:
        """Twenty milliseconds each."""
        kind, ticks = self.coding.payload_type, TICKS[self.coding.codec]
        return [
            (0.02 * n, packet.build(kind, n, n * ticks, 0x77, payload))
            for n, payload in enumerate(payloads)
        ]

    def heard(self, coding: Coding) -> np.ndarray:
        payloads = [got.payload for got in self.got if got.payload_type == coding.payload_type]
        if coding.codec == "OPUS":
            return decode(payloads)
        return decode_g711(b"".join(payloads), coding.payload_type)


def g711(sound: np.ndarray) -> list[bytes]:
    linear = (np.clip(sound, -1, 1) * 32767).astype(int)
    octets = bytes(compress(int(value), LAW_PCMU) for value in linear)
    return [octets[at : at + 160] for at in range(0, len(octets) - 159, 160)]


def frames(r: Rig, side: Side = Side.CALLER) -> dict[str, int]:
    return r.call._flows.figures(side.value)


@pytest.mark.parametrize("law", [PCMU, PCMA], ids=["PCMU", "PCMA"])
def test_opus_is_heard_as_g711(law: Coding) -> None:
    sound = tune(2.0)
    with transcoded(callee=law) as r:
        talk = Talk(r, Side.CALLER, OPUS)
        said = encode(sound)
        talk.run(talk.said(said))
        assert similarity(talk.heard(law), sound) > 0.97 * similarity(decode(said), sound)
        first = talk.got[0]
        assert first.marker and first.ssrc != 0x77
        assert {len(got.payload) for got in talk.got} == {160}
        assert {got.payload_type for got in talk.got} == {law.payload_type}
        steps = {
            (two.sequence - one.sequence) % 65536
            for one, two in zip(talk.got, talk.got[1:], strict=False)
        }
        clocks = {
            (two.timestamp - one.timestamp) % 2**32
            for one, two in zip(talk.got, talk.got[1:], strict=False)
        }
        assert steps == {1} and clocks == {160}
        assert r.call.figures(Side.CALLER).relayed == 100
        assert not r.call.figures(Side.CALLER).drops


def test_g711_is_heard_as_opus() -> None:
    sound = tune(2.0)
    with transcoded() as r:
        talk = Talk(r, Side.CALLEE, PCMU)
        talk.run(talk.said(g711(sound)))
        assert similarity(talk.heard(OPUS), sound) > 0.85
        assert {got.payload_type for got in talk.got} == {111}
        assert {
            (two.timestamp - one.timestamp) % 2**32
            for one, two in zip(talk.got, talk.got[1:], strict=False)
        } == {960}


def test_a_packet_of_40_ms_is_made_where_the_peer_wants_it() -> None:
    with transcoded(callee=PCMU._replace(ptime_ms=40)) as r:
        talk = Talk(r, Side.CALLER, OPUS)
        talk.run(talk.said(encode(tune(0.6))))
        assert {len(got.payload) for got in talk.got} == {320}
        assert {
            (two.timestamp - one.timestamp) % 2**32
            for one, two in zip(talk.got, talk.got[1:], strict=False)
        } == {320}


def test_a_long_pause_is_nothing_sent_and_the_clock_goes_on() -> None:
    with transcoded() as r:
        talk = Talk(r, Side.CALLER, OPUS)
        said = talk.said(encode(tune(0.4)))
        later = [
            (1.4 + when, packet.build(111, 20 + n, (70 + n) * 960, 0x77, data[12:]))
            for n, (when, data) in enumerate(said)
        ]
        talk.run(said + later)
        resumed = [n for n, got in enumerate(talk.got) if got.marker]
        assert len(resumed) == 2
        at = resumed[1]
        passed = (talk.got[at].timestamp - talk.got[at - 1].timestamp) / 8000
        assert passed == pytest.approx(talk.arrived[at] - talk.arrived[at - 1], abs=0.05)


def test_a_hold_ends_comfort_noise_and_takes_no_numbers() -> None:
    """They would be losses to the peer, and frames to encode for nobody."""
    with transcoded() as r:
        talk = Talk(r, Side.CALLEE, PCMU)
        said = talk.said(g711(tune(0.2)))
        noise = packet.build(13, 10, 1600, 0x77, bytes([30]))
        talk.run([*said, (0.2, noise)], then_s=0.2)
        played = frames(r, Side.CALLEE)["frames_transcoded"]
        hold(r, True)
        talk.run([], then_s=0.4)
        assert frames(r, Side.CALLEE)["frames_transcoded"] <= played + 3
        hold(r, False)
        later = [
            (0.02 * n, packet.build(0, 11 + n, 9000 + n * 160, 0x77, payload))
            for n, payload in enumerate(g711(tune(0.2)))
        ]
        heard = len(talk.got)
        talk.run(later)
        resumed = [got.sequence for got in talk.got[heard:]]
        first = talk.got[heard - 1].sequence + 1
        assert resumed == [(first + n) % 65536 for n in range(len(resumed))] != []


def test_a_key_for_a_held_leg_takes_no_number() -> None:
    with transcoded() as r:
        talk = Talk(r, Side.CALLEE, PCMU)
        talk.run(talk.said(g711(tune(0.2))))
        before = talk.got[-1].sequence
        r.call.update(
            Side.CALLER,
            r.caller.leg(payload_types=frozenset({111, 110}), coding=OPUS, may_receive=False),
        )
        talk.run([(0.0, data) for data in press(5, 101, 50, 9000, [160, 320])], then_s=0.1)
        describe(r)
        talk.run([(0.0, data) for data in press(6, 101, 70, 19000, [160, 320])], then_s=0.1)
        keys = [got for got in talk.got if got.payload_type == 110]
        assert [got.payload[0] for got in keys] == [6] * 4
        assert keys[0].sequence == (before + 1) % 65536


def press(digit: int, kind: int, number: int, timestamp: int, ticks: list[int]) -> list[bytes]:
    """One key: a packet for each duration, the last one three times with the end bit."""
    made = []
    for n, duration in enumerate([*ticks, ticks[-1], ticks[-1]]):
        end = 0x80 if n >= len(ticks) - 1 else 0
        payload = struct.pack("!BBH", digit, end | 10, duration)
        made.append(packet.build(kind, number + n, timestamp, 0x77, payload, marker=n == 0))
    return made


@pytest.mark.parametrize(
    ("side", "source", "target"),
    [(Side.CALLER, OPUS, PCMU), (Side.CALLEE, PCMU, OPUS)],
    ids=["opus to pcmu", "pcmu to opus"],
)
def test_a_key_crosses_in_the_other_side_s_number_and_clock(
    side: Side, source: Coding, target: Coding
) -> None:
    clock = source.clock_hz // 50
    with transcoded() as r:
        talk = Talk(r, side, source)
        kind = source.telephone_event
        assert kind is not None
        keys = press(5, kind, 1, 9000, [clock * n for n in range(1, 6)])
        keys += press(7, kind, 20, 99000, [clock * n for n in range(1, 6)])
        talk.run([(0.02 * n, data) for n, data in enumerate(keys)])
        events = [got for got in talk.got if got.payload_type == target.telephone_event]
        assert [got.payload[0] for got in events] == [5] * 7 + [7] * 7
        assert len({got.timestamp for got in events}) == 2
        durations = [struct.unpack("!H", got.payload[2:4])[0] for got in events[:5]]
        assert durations == [target.clock_hz // 50 * n for n in range(1, 6)]
        assert [bool(got.payload[1] & 0x80) for got in events[:7]] == [False] * 4 + [True] * 3
        r.engine.drain()
        assert [event for _, event in r.events if isinstance(event, DtmfPressed)] == [
            DtmfPressed(side, "5", 100),
            DtmfPressed(side, "7", 100),
        ]


def test_a_long_key_crosses_to_the_faster_clock_in_segments() -> None:
    """Two seconds are 96,000 ticks of 48 kHz: more than a packet can say (RFC 4733 2.5.1.3)."""
    with transcoded() as r:
        talk = Talk(r, Side.CALLEE, PCMU)
        keys = press(1, 101, 1, 5000, [800 * n for n in range(1, 21)])
        talk.run([(0.002 * n, data) for n, data in enumerate(keys)])
        events = [got for got in talk.got if got.payload_type == 110]
        first = events[0].timestamp
        last = events[-1]
        assert (last.timestamp - first) % 2**32 == 65535
        assert struct.unpack("!H", last.payload[2:4])[0] == 96000 - 65535


def test_a_long_key_in_segments_is_one_key_on_the_slower_clock() -> None:
    with transcoded() as r:
        talk = Talk(r, Side.CALLER, OPUS)
        first = press(1, 110, 1, 5000, [24000, 48000, 65535])[:3]
        first[2] = packet.build(110, 3, 5000, 0x77, struct.pack("!BBH", 1, 10, 65535))
        second = press(1, 110, 4, 5000 + 65535, [10000, 30465])
        talk.run([(0.005 * n, data) for n, data in enumerate(first + second)])
        events = [got for got in talk.got if got.payload_type == 101]
        assert len({got.timestamp for got in events}) == 1
        assert struct.unpack("!H", events[-1].payload[2:4])[0] == 96000 // 6


def test_garbage_is_counted_and_the_call_goes_on() -> None:
    sound = tune(1.0)
    chance = random.Random(3)
    with transcoded() as r:
        talk = Talk(r, Side.CALLER, OPUS)
        noise = [
            (
                0.0005 * n,
                packet.build(
                    111, n, n * 960, 0x55, chance.randbytes(chance.choice((1, 2, 40, 1276)))
                ),
            )
            for n in range(400)
        ]
        talk.run(noise, then_s=0.1)
        talk.got.clear()
        said = encode(sound)
        talk.run(talk.said(said))
        assert similarity(talk.heard(PCMU), sound) > 0.95 * similarity(decode(said), sound)


def test_a_packet_longer_than_opus_allows_is_refused() -> None:
    with transcoded() as r:
        r.caller.send(r.at_caller, packet.build(111, 1, 960, 0x77, bytes(1400)))
        r.wait_for_drop("malformed")


def test_g711_under_a_number_of_its_own_is_recorded() -> None:
    own = PCMU._replace(payload_type=96)
    with transcoded(callee=own) as r:
        tap = r.call.record(True)
        reader = _native.TapReader(r.engine.taps, 60)
        reader.start(tap, 0, time.monotonic_ns(), True)
        for side, coding in ((Side.CALLER, OPUS), (Side.CALLEE, own)):
            talk = Talk(r, side, coding)
            payloads = encode(tune(0.4)) if side is Side.CALLER else g711(tune(0.4))
            talk.run(talk.said(payloads))
        reader.stop(tap)
        totals = [block.totals for block in reader.drain(time.monotonic_ns()) if block.totals]
        assert [min(each.recorded) for each in totals] >= [20]
        assert totals[0].other == (0, 0)


def test_hold_and_the_same_coding_again_keep_the_stream() -> None:
    with transcoded() as r:
        talk = Talk(r, Side.CALLER, OPUS)
        talk.run(talk.said(encode(tune(0.4))))
        before = talk.got[-1]
        describe(r)
        later = [
            packet.build(111, 20 + n, (20 + n) * 960, 0x77, payload)
            for n, payload in enumerate(encode(tune(0.4)))
        ]
        talk.got.clear()
        talk.run([(0.02 * n, data) for n, data in enumerate(later)])
        assert talk.got[0].ssrc == before.ssrc
        assert (talk.got[0].sequence - before.sequence) % 65536 == 1


def test_without_coding_again_packets_pass_as_they_are() -> None:
    with transcoded() as r:
        talk = Talk(r, Side.CALLER, OPUS)
        talk.run(talk.said(encode(tune(0.2))))
        r.describe()
        sent = r.caller.next_packet()
        talk.got.clear()
        talk.run([(0.0, sent)], then_s=0.1)
        assert [got.payload for got in talk.got] == [sent[12:]]


def test_nothing_crosses_while_only_one_side_is_coded() -> None:
    with rig() as r:
        r.call.update(Side.CALLER, r.caller.leg(payload_types=frozenset({111}), coding=OPUS))
        r.call.update(Side.CALLEE, r.callee.leg())
        r.caller.send(r.at_caller, packet.build(111, 1, 960, 0x77, b"\xf8\xff\xfe"))
        r.wait_for_drop("payload_type_not_negotiated")


@pytest.mark.parametrize(
    "coding",
    [OPUS._replace(codec="G729"), OPUS._replace(clock_hz=8000), PCMU._replace(clock_hz=48000)],
)
def test_a_coding_that_does_not_exist_is_refused(coding: Coding) -> None:
    with rig() as r, pytest.raises(NotAcceptable, match="is not transcoded"):
        r.call.update(Side.CALLER, r.caller.leg(coding=coding))


def test_calls_close_while_they_are_transcoded() -> None:
    with rig(pairs=400) as r:
        calls = [r.engine.open(f"c{n}", False, False) for n in range(40)]
        payload = encode(tune(0.1))[0]
        for call in calls:
            for side, coding in ((Side.CALLER, OPUS), (Side.CALLEE, PCMU)):
                peer = r.caller if side is Side.CALLER else r.callee
                call.update(
                    side, peer.leg(payload_types=frozenset({coding.payload_type}), coding=coding)
                )
        for n in range(10):
            for call in calls:
                at = call.local(Side.CALLER)
                r.caller.rtp.sendto(packet.build(111, n, n * 960, 1, payload), (at.host, at.port))
            for call in calls[n * 4 : n * 4 + 4]:
                call.close()
        until(lambda: r.engine.counters()["calls"] == 1)
