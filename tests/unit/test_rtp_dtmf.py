"""RFC 4733: one report a key press."""

from __future__ import annotations

import struct

from relay.rtp.dtmf import KEYS, KeyPresses, Press

MS = 1_000_000


def event(key: str, duration: int, end: bool = False) -> bytes:
    return struct.pack("!BBH", KEYS.index(key), 0x8A if end else 10, duration)


def test_three_end_packets_are_one_press() -> None:
    presses = KeyPresses()
    assert presses.feed(1, 800, event("5", 160), MS) == []
    assert presses.feed(1, 800, event("5", 640, end=True), 2 * MS) == [Press(5, 640)]
    for _ in range(2):
        assert presses.feed(1, 800, event("5", 640, end=True), 3 * MS) == []


def test_the_same_key_twice_is_two_presses() -> None:
    presses = KeyPresses()
    assert presses.feed(1, 800, event("5", 640, end=True), MS) == [Press(5, 640)]
    assert presses.feed(1, 2400, event("5", 640, end=True), 2 * MS) == [Press(5, 640)]


def test_a_lost_end_is_reported_by_the_next_press() -> None:
    presses = KeyPresses()
    presses.feed(1, 800, event("1", 480), MS)
    assert presses.feed(1, 4000, event("2", 160), 2 * MS) == [Press(1, 480)]


def test_a_lost_end_is_reported_after_a_silence_and_not_again() -> None:
    presses = KeyPresses()
    presses.feed(1, 800, event("1", 480), MS)
    assert presses.on_timer(400 * MS) == []
    assert presses.on_timer(401 * MS) == [Press(1, 480)]
    assert presses.on_timer(900 * MS) == []
    assert presses.feed(1, 800, event("1", 640, end=True), 901 * MS) == []


def test_late_packets_of_an_earlier_press_are_ignored() -> None:
    presses = KeyPresses()
    presses.feed(1, 800, event("1", 480, end=True), MS)
    presses.feed(1, 4000, event("2", 160), 2 * MS)
    assert presses.feed(1, 800, event("1", 480, end=True), 3 * MS) == []
    assert presses.feed(1, 4000, event("2", 320, end=True), 4 * MS) == [Press(2, 320)]


def test_a_press_longer_than_65535_ticks_is_one_press() -> None:
    """Section 2.5.1.3: it goes on as a new segment under a later timestamp."""
    presses = KeyPresses()
    assert presses.feed(1, 1000, event("#", 65535), MS) == []
    assert presses.feed(1, 1000 + 65535, event("#", 800), 2 * MS) == []
    assert presses.feed(1, 1000 + 65535, event("#", 1600, end=True), 3 * MS) == [
        Press(11, 65535 + 1600)
    ]


def test_reordered_updates_do_not_shorten_a_press() -> None:
    presses = KeyPresses()
    presses.feed(1, 800, event("9", 480), MS)
    presses.feed(1, 800, event("9", 320), 2 * MS)
    assert presses.on_timer(500 * MS) == [Press(9, 480)]


def test_short_and_unknown_events_are_ignored() -> None:
    presses = KeyPresses()
    assert presses.feed(1, 800, b"\x01\x80\x00", MS) == []
    assert presses.feed(1, 800, struct.pack("!BBH", 66, 0x80, 100), MS) == []
