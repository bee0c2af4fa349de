"""The jitter buffer and what fills its gaps, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import _native
from relay.probe.audio import Samples, similarity
from relay.rtp.g711 import PCMU as LAW_PCMU
from relay.rtp.g711 import compress
from tests.unit.opus_codec import decode, encode, tune

OPUS = ("OPUS", 111, 48000, 110, -1, 1, True)
PCMU = ("PCMU", 0, 8000, 101, 13, 1, False)
FRAME_NS = 20_000_000
needs_opus = pytest.mark.skipif(not _native.HAS_OPUS, reason="built without libopus")

Arrival = tuple[float, int, int, bytes]  # second, sequence number, timestamp, payload


def said(payloads: list[bytes], ticks: int) -> list[Arrival]:
    """Twenty milliseconds each, at their time."""
    return [(0.02 * n, n % 65536, n * ticks % 2**32, each) for n, each in enumerate(payloads)]


def play(
    playout: _native.Playout, arrivals: Iterable[Arrival], seconds: float, ssrc: int = 7
) -> tuple[list[bytes | None], list[Arrival]]:
    """A frame every 20 ms; what was played, and which packets came too late."""
    begin = 1_000_000_000
    waiting = sorted(arrivals, key=lambda each: each[0])
    late, played = [], []
    for n in range(int(seconds / 0.02)):
        now = begin + n * FRAME_NS
        while waiting and begin + waiting[0][0] * 1e9 <= now:
            arrival = waiting.pop(0)
            at, sequence, timestamp, payload = arrival
            if not playout.put(ssrc, sequence, timestamp, payload, begin + int(at * 1e9)):
                late.append(arrival)
        played.append(playout.frame(now))
    return played, late


def heard(played: list[bytes | None]) -> Samples:
    octets = b"".join(frame for frame in played if frame is not None)
    return np.frombuffer(octets, np.int16).astype(np.float32) / 32768


def count(played: list[bytes | None]) -> int:
    return sum(frame is not None for frame in played)


def g711(sound: Samples) -> list[bytes]:
    octets = bytes(compress(int(value * 32767), LAW_PCMU) for value in sound)
    return [octets[at : at + 160] for at in range(0, len(octets) - 159, 160)]


@needs_opus
def test_what_is_lost_is_restored_from_the_next_packet() -> None:
    sound = tune(4.0)
    payloads = encode(sound, fec="1", packet_loss="20")
    arrivals = [each for n, each in enumerate(said(payloads, 960)) if n % 10 != 5]
    playout = _native.Playout(OPUS)
    played, _ = play(playout, arrivals, 4.1)
    _, _, restored, _ = playout.figures
    assert restored == 20
    assert similarity(heard(played), sound) > 0.96 * similarity(decode(payloads), sound)


def test_lost_g711_is_concealed_and_the_stream_goes_on() -> None:
    sound = tune(4.0)
    arrivals = [each for n, each in enumerate(said(g711(sound), 160)) if n % 20 != 5]
    playout = _native.Playout(PCMU)
    played, _ = play(playout, arrivals, 4.1)
    frames, concealed, _, _ = playout.figures
    assert frames == count(played) and 10 <= concealed <= 20
    assert similarity(heard(played), sound) > 0.93


def test_lost_packets_of_10_ms_are_concealed_by_sound() -> None:
    sound = tune(4.0)
    octets = b"".join(g711(sound))
    talk = [(0.01 * n, n, n * 80, octets[n * 80 : n * 80 + 80]) for n in range(len(octets) // 80)]
    played, _ = play(
        _native.Playout(PCMU), [each for n, each in enumerate(talk) if n % 10 != 5], 4.1
    )
    assert similarity(heard(played), sound) > 0.9
    # As long as what was lost, and softer than it: not silence.
    assert count(played) <= 200 + 12
    loud = np.abs(heard(played))[1600:30400].reshape(-1, 80)
    assert np.sum(loud.max(axis=1) < 0.005) == 0


@pytest.mark.parametrize("ticks", [7000, -7000, 8000 * 3600, -8000 * 3600])
def test_a_clock_that_jumps_within_a_stream_costs_no_sound(ticks: int) -> None:
    """As when a PBX puts another source into it; a silence would have brought no packets."""
    talk = [
        (at, number, (stamp + (ticks if number >= 50 else 0)) % 2**32, payload)
        for at, number, stamp, payload in said(g711(tune(3.0)), 160)
    ]
    playout = _native.Playout(PCMU)
    played, _ = play(playout, talk, 3.4)
    sounding = [frame is not None for frame in played]
    first = sounding.index(True)
    assert all(sounding[first : first + 145])  # it never rested
    assert playout.figures[1] < 10 + 15
    assert 140 < count(played) < 175


def test_packets_out_of_order_and_twice_are_played_in_order_once() -> None:
    sound = tune(6.0)
    straight = said(g711(sound), 160)
    mixed = [(at + (0.06 if n % 5 == 1 else 0.0), *rest) for n, (at, *rest) in enumerate(straight)]
    mixed += [(at + 0.001, *rest) for at, *rest in straight[::7]]
    playout = _native.Playout(PCMU)
    played, late = play(playout, mixed, 6.2)
    assert len(late) <= 10  # until the buffer knows
    assert similarity(heard(played)[8000:], sound[8000:]) > 0.97


def test_the_delay_follows_the_jitter_and_comes_back() -> None:
    """100 ms of jitter for two seconds, then none."""
    chance = random.Random(5)
    arrivals = [
        (at + (chance.random() * 0.1 if at < 2 else 0.0), *rest)
        for at, *rest in said(g711(tune(12.0)), 160)
    ]
    early = _native.Playout(PCMU)
    play(early, [each for each in arrivals if each[0] < 2], 2.0)
    assert early.waiting_ms[1] > 60
    playout = _native.Playout(PCMU)
    played, late = play(playout, arrivals, 12.0)
    level, target = playout.waiting_ms
    assert target < 40 and level <= target + 40
    assert count(played) <= 600
    assert len(late) < 15


@pytest.mark.parametrize("jitter_s", [0.02, 0.06, 0.15])
def test_jitter_up_to_the_longest_delay_costs_little(jitter_s: float) -> None:
    sound = tune(8.0)
    chance = random.Random(9)
    arrivals = [(at + chance.random() * jitter_s, *rest) for at, *rest in said(g711(sound), 160)]
    played, late = play(_native.Playout(PCMU), arrivals, 8.3)
    assert len(late) <= 20
    assert similarity(heard(played)[16000:], sound[16000:]) > 0.9


@needs_opus
def test_a_silence_by_dtx_adds_no_delay() -> None:
    """200 ms of every half second are not sent, and the timestamp says so."""
    arrivals = []
    for n, payload in enumerate(encode(tune(6.0))):
        if n % 25 < 15:
            arrivals.append((0.02 * n, len(arrivals), n * 960, payload))
    playout = _native.Playout(OPUS)
    played, late = play(playout, arrivals, 6.0)
    assert not late
    assert count(played) <= 300
    assert playout.waiting_ms[0] <= 100


def test_a_pause_rests_the_stream_and_the_next_packet_begins_it_anew() -> None:
    talk = said(g711(tune(1.0)), 160)
    later = [
        (at + 3, sequence + 50, timestamp + 24000, payload)
        for at, sequence, timestamp, payload in talk
    ]
    played, late = play(_native.Playout(PCMU), talk + later, 4.5)
    assert not late
    silent = [n for n, frame in enumerate(played) if frame is None]
    assert len(silent) > 80
    assert heard(played[150:]).std() > 0.05


def test_comfort_noise_becomes_a_soft_sound_until_speech_comes_back() -> None:
    playout = _native.Playout(PCMU)
    talk = said(g711(tune(0.4)), 160)
    begin = 1_000_000_000
    frames = []
    for n in range(150):
        now = begin + n * FRAME_NS
        if n < 20:
            playout.put(7, n, n * 160, talk[n][3], now)
        elif n == 20:
            playout.put(7, n, n * 160, bytes([40]), now, True)
        elif n >= 100:
            playout.put(7, n - 79, n * 160, talk[n % 20][3], now)
        frames.append(playout.frame(now))
    noise = np.frombuffer(b"".join(frame or b"" for frame in frames[40:95]), np.int16)
    assert noise.size == 55 * 160
    assert 20 < float(noise.std()) < 400
    assert heard(frames[110:]).std() > 0.05


@needs_opus
def test_numbers_and_timestamps_wrap() -> None:
    sound = tune(4.0)
    payloads = encode(sound)
    arrivals = [
        (0.02 * n, (65500 + n) % 65536, (2**32 - 50 * 960 + n * 960) % 2**32, payload)
        for n, payload in enumerate(payloads)
    ]
    played, late = play(_native.Playout(OPUS), arrivals, 4.1)
    assert not late
    assert similarity(heard(played), sound) > 0.97 * similarity(decode(payloads), sound)


def test_the_sender_s_clock_may_be_a_little_off() -> None:
    """0.5 % too fast for a minute: 300 ms more sound than time, and the delay stays."""
    arrivals = [(at * 0.995, *rest) for at, *rest in said(g711(tune(6.0)) * 10, 160)]
    playout = _native.Playout(PCMU)
    played, late = play(playout, arrivals, 59.0)
    assert playout.waiting_ms[0] <= 120
    assert len(late) < 5 and count(played) > 2900


CODINGS = [OPUS, PCMU] if _native.HAS_OPUS else [PCMU]
PACKETS = st.tuples(
    st.floats(0, 2),
    st.integers(0, 65535),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=1, max_size=1276),
    st.booleans(),
    st.integers(1, 2),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([OPUS, PCMU] if _native.HAS_OPUS else [PCMU]), st.lists(PACKETS, max_size=60)
)
def test_whatever_comes_a_frame_is_a_frame(
    coding: tuple[str, int, int, int, int, int, bool],
    packets: list[tuple[float, int, int, bytes, bool, int]],
) -> None:
    playout = _native.Playout(coding)
    waiting = sorted(packets, key=lambda each: each[0])
    for n in range(120):
        now = 1_000_000_000 + n * FRAME_NS
        while waiting and 1_000_000_000 + waiting[0][0] * 1e9 <= now:
            _, sequence, timestamp, payload, is_noise, ssrc = waiting.pop(0)
            playout.put(ssrc, sequence, timestamp, payload, now, is_noise)
        frame = playout.frame(now)
        assert frame is None or len(frame) == 320
        level, target = playout.waiting_ms
        assert 20 <= target <= 200 and level < 5000
