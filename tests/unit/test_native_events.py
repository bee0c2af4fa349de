"""What the engine reports: first packet, keys, silence. Through the real event loop, too."""

from __future__ import annotations

import asyncio
import struct
import threading
import time

from relay import _native
from relay.call.ports import (
    DtmfPressed,
    FirstPacket,
    MediaEvent,
    MediaTimeout,
    Side,
    StreamChanged,
)
from relay.media.engine import Engine
from relay.rtp import packet
from tests.unit.media_rig import DEADLINE_S, EVENTS, Peer, Rig, fresh_host, rig


def key_packet(
    r: Rig, timestamp: int, event: int, duration: int, end: bool, marker: bool = False
) -> bytes:
    r.caller.sequence += 1
    payload = struct.pack("!BBH", event, (0x80 if end else 0) | 10, duration)
    return packet.build(
        EVENTS, r.caller.sequence % 65536, timestamp, r.caller.ssrc, payload, marker
    )


def press(r: Rig, timestamp: int, event: int, ends: int = 3) -> None:
    for step in range(1, 5):
        r.caller.send(r.at_caller, key_packet(r, timestamp, event, 160 * step, False, step == 1))
    for _ in range(ends):
        r.caller.send(r.at_caller, key_packet(r, timestamp, event, 800, True))


def keys(r: Rig) -> list[tuple[str, int]]:
    r.engine.drain()
    return [(e.key, e.duration_ms) for _, e in r.events if isinstance(e, DtmfPressed)]


def test_one_event_a_key_press_whatever_the_number_of_end_packets() -> None:
    with rig() as r:
        r.describe()
        for number, (event, ends) in enumerate([(1, 3), (1, 1), (11, 6), (15, 3)]):
            press(r, 8000 * (number + 1), event, ends)
        r.wait_for(DtmfPressed(Side.CALLER, "D", 100))
        assert keys(r) == [("1", 100), ("1", 100), ("#", 100), ("D", 100)]


def test_a_press_without_its_end_is_reported_by_the_next_or_after_a_silence() -> None:
    with rig() as r:
        r.describe()
        press(r, 8000, 5, ends=0)
        press(r, 16000, 6, ends=0)
        r.wait_for(DtmfPressed(Side.CALLER, "6", 80))
        assert keys(r) == [("5", 80), ("6", 80)]


def test_keys_are_forwarded_and_do_not_disturb_the_jitter() -> None:
    with rig() as r:
        r.describe()
        press(r, 8000, 5)
        for _ in range(7):
            r.callee.rtp.recv(4096)
        r.wait_for_relayed(7)
        figures = r.call.figures(Side.CALLER)
        assert (figures.relayed, figures.jitter_ms, figures.lost) == (7, 0.0, 0)


def test_keys_of_a_phone_that_sends_by_its_own_number() -> None:
    """They arrive by the partner's number, and are heard under either."""
    with rig() as r:
        partners = EVENTS - 5
        numbers = frozenset({0, EVENTS, partners})
        r.describe(
            payload_types=numbers, telephone_event=partners, payload_map=((EVENTS, partners),)
        )
        press(r, 8000, 5)
        assert {r.callee.rtp.recv(4096)[1] & 0x7F for _ in range(7)} == {partners}
        theirs = key_packet(r, 16000, 6, 800, True)
        r.caller.send(r.at_caller, theirs[:1] + bytes([partners]) + theirs[2:])
        assert r.callee.rtp.recv(4096)[1] == partners
        r.wait_for(DtmfPressed(Side.CALLER, "6", 100))
        assert keys(r) == [("5", 100), ("6", 100)]


def test_the_first_packet_of_each_side_is_reported_once() -> None:
    with rig() as r:
        r.describe()
        for _ in range(5):
            r.caller.send(r.at_caller)
            r.callee.rtp.recv(4096)
        r.callee.send(r.at_callee)
        r.wait_for(FirstPacket(Side.CALLEE))
        assert r.events == [
            ("call-1", FirstPacket(Side.CALLER)),
            ("call-1", FirstPacket(Side.CALLEE)),
        ]


def test_many_drops_for_one_reason_are_one_event() -> None:
    with rig() as r:
        r.describe()
        for count in range(1, 61):  # in step: a socket's buffer holds only so many
            r.callee.send(r.at_callee, b"\x80\x00")
            r.caller.send(r.at_caller, b"\x80\x00")
            r.caller.send(r.at_caller, bytes(20))
            r.wait_for_drop("short", count=count)
            r.wait_for_drop("stun", count=count)
            r.wait_for_drop("short", Side.CALLEE, count)
        r.engine.drain()
        assert sorted((e.side.value, e.reason, e.count) for _, e in r.events) == [  # type: ignore[union-attr]
            (0, "short", 50),
            (0, "stun", 50),
            (1, "short", 50),
        ]


def test_drops_are_told_once_a_minute_and_only_when_they_are_many() -> None:
    second = 1_000_000_000
    leg = _native.DropBursts()
    told = [n for n in range(300) if leg.feed("wrong_source", (n + 1) * second)]
    assert told == [49, 109, 169, 229, 289]
    rare = _native.DropBursts()
    assert not any(rare.feed("on_hold", (n + 1) * 2 * second) for n in range(300))


def test_another_ssrc_is_reported_once_however_often_it_changes() -> None:
    with rig() as r:
        r.describe()
        first = r.caller.ssrc
        for ssrc in (first, first, first + 1, first, first + 1):
            r.caller.ssrc = ssrc
            sent = r.caller.send(r.at_caller)
            assert r.callee.rtp.recv(4096) == sent
        r.wait_for(StreamChanged(Side.CALLER))
        r.wait_for_relayed(5)
        r.engine.drain()
        assert r.events == [
            ("call-1", FirstPacket(Side.CALLER)),
            ("call-1", StreamChanged(Side.CALLER)),
        ]


def timeouts(r: Rig) -> list[Side]:
    r.engine.drain()
    return [event.side for _, event in r.events if isinstance(event, MediaTimeout)]


def test_silence_is_reported_once_a_period_and_per_side() -> None:
    with rig(idle_timeout_s=0.05) as r:
        r.describe()
        r.wait_for(MediaTimeout(Side.CALLER))
        r.wait_for(MediaTimeout(Side.CALLEE))
        assert sorted(side.value for side in timeouts(r)) == [0, 1]
        r.caller.send(r.at_caller)
        r.callee.rtp.recv(4096)
        r.events.clear()
        r.wait_for(MediaTimeout(Side.CALLER))
        assert timeouts(r) == [Side.CALLER]


def test_a_side_on_hold_does_not_time_out_and_an_undescribed_call_neither() -> None:
    with rig(idle_timeout_s=0.05) as r:
        other = r.engine.open("half-described", False, False)
        other.update(Side.CALLER, r.caller.leg())
        r.call.update(Side.CALLER, r.caller.leg())
        r.call.update(Side.CALLEE, r.callee.leg(may_send=False))
        third = r.engine.open("later", False, False)
        third.update(Side.CALLER, r.caller.leg())
        third.update(Side.CALLEE, r.callee.leg())
        r.wait_for(MediaTimeout(Side.CALLER))
        r.wait_for(MediaTimeout(Side.CALLEE))  # the third call's: the others had as long
        assert {(call_id, event.side) for call_id, event in r.events} == {  # type: ignore[union-attr]
            ("call-1", Side.CALLER),
            ("later", Side.CALLER),
            ("later", Side.CALLEE),
        }


def test_packets_of_strangers_do_not_keep_a_call_alive() -> None:
    with rig(idle_timeout_s=0.1) as r:
        r.describe()
        stranger = Peer(r.caller.host)
        while not timeouts(r):
            stranger.send(r.at_caller)
        stranger.close()


def test_events_reach_the_loop() -> None:
    async def scenario() -> tuple[str, MediaEvent]:
        heard: asyncio.Queue[tuple[str, MediaEvent]] = asyncio.Queue()
        host = fresh_host()
        engine = Engine(
            host,
            None,
            (20000, 20010),
            1,
            60.0,
            on_event=lambda call_id, event: heard.put_nowait((call_id, event)),
        )
        engine.start(asyncio.get_running_loop())
        caller, callee = Peer(host), Peer(host)
        call = engine.open("a call", False, False)
        call.update(Side.CALLER, caller.leg())
        call.update(Side.CALLEE, callee.leg())
        caller.send(call.local(Side.CALLER))
        try:
            return await asyncio.wait_for(heard.get(), DEADLINE_S)
        finally:
            engine.close()
            caller.close()
            callee.close()

    assert asyncio.run(scenario()) == ("a call", FirstPacket(Side.CALLER))


def test_figures_read_while_packets_pass_are_not_from_the_future() -> None:
    """A packet that passed since the clock was read gave a silence of 584 years."""
    with rig(nap_us=0) as r:
        r.describe()
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                r.caller.send(r.at_caller)

        sender = threading.Thread(target=flood)
        sender.start()
        try:
            r.wait_for_relayed(1)
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                raw = r.call._flows.figures(0)
                assert 0 <= raw["relayed_since_s"] < 60
                assert raw["dropped_since_s"] is None or 0 <= raw["dropped_since_s"] < 60
        finally:
            stop.set()
            sender.join()
