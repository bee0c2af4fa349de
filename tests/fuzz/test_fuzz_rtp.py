"""Random datagrams: the engine agrees with the reference and survives them on a live port.

Bounded by RELAY_FUZZ_SECONDS (default 3) for each test; a failure prints the seed.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from relay import _native
from relay.call.ports import Side
from relay.rtp import packet, rtcp
from tests.unit.media_rig import Peer, Rig, rig, until
from tests.unit.srtp_rig import SUITE_NAMES, Phone, fresh_key, native
from tests.unit.test_native_differential import reference_view

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
CORPUS = (
    packet.build(0, 1, 160, 7, b"\xff" * 160),
    packet.build(101, 2, 320, 7, b"\x05\x8a\x03\x20"),
    b"\xb2\x80" + bytes(18) + b"\xbe\xde\x00\x01abcd" + b"audio\x00\x00\x03",
    rtcp.receiver_report(7) + b"\x81\xca\x00\x03" + bytes(12),
    b"\x80\xc8\x00\x06" + bytes(24),
    b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
    b"\x16\xfe\xfd" + bytes(30),
)


def mutated(chance: random.Random, corpus: tuple[bytes, ...] = CORPUS) -> bytes:
    """A seed with octets changed, cut, repeated, or purely random octets."""
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(0, 64))
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randrange(0, 6)):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    cut = chance.random()
    if cut < 0.3:
        del data[chance.randrange(len(data) + 1) :]
    elif cut < 0.4:
        data += chance.randbytes(chance.randrange(0, 2100))
    return bytes(data)


def test_the_view_of_mutated_packets() -> None:
    chance = random.Random(SEED)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for _ in range(500):
            data = mutated(chance)
            assert _native.view(data) == reference_view(data), (SEED, data)


def test_srtp_opens_nothing_that_was_changed() -> None:
    chance = random.Random(SEED)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        suite = chance.choice(SUITE_NAMES)
        key = fresh_key(suite, chance.choice((b"", b"mki")))
        sender, receiver = native(key, True), native(key, False)
        corpus = [sender.close(CORPUS[0]), sender.close_rtcp(CORPUS[3])]
        for _ in range(200):
            original = chance.choice(corpus)
            assert isinstance(original, bytes)
            data = mutated(chance, (original,))[:2048]
            if key.mki and len(data) == len(original):
                continue  # the MKI is no part of what is authenticated: another test has it
            if data != original:
                assert isinstance(receiver.open(data), str), SEED
                assert isinstance(receiver.open_rtcp(data), str), SEED
        assert receiver.open(corpus[0]) == CORPUS[0]
        assert receiver.open_rtcp(corpus[1]) == CORPUS[3]


def accounted(r: Rig) -> int:
    """Datagrams that were forwarded or dropped under a name: all that were received."""
    counters = r.engine.counters()
    drops = sum(value for name, value in counters.items() if name.startswith("drop_"))
    return counters["relayed"] + counters["rtcp_relayed"] + drops


@pytest.mark.parametrize("secure", [False, True], ids=["rtp", "srtp"])
def test_a_live_port_survives_them_and_the_next_good_packet_passes(secure: bool) -> None:
    chance = random.Random(SEED)
    deadline = time.monotonic() + SECONDS
    with rig() as r:
        phone = Phone(r.caller)
        corpus = CORPUS
        if secure:
            corpus += (phone.packet(), phone.sending.protect_rtcp(CORPUS[3]))
        r.call.update(Side.CALLER, phone.leg(mux=True) if secure else r.caller.leg(mux=True))
        r.call.update(Side.CALLEE, r.callee.leg())
        r.call.record(True)
        stranger = Peer(r.caller.host)
        while time.monotonic() < deadline:
            sent = r.engine.counters()["received"]
            for _ in range(10):
                chance.choice((r.caller, stranger)).send(r.at_caller, mutated(chance, corpus))
            until(lambda wanted=sent + 10: r.engine.counters()["received"] >= wanted)  # type: ignore[misc]
        until(lambda: accounted(r) == r.engine.counters()["received"])
        # Towards the side that was not attacked nothing has changed.
        back = r.callee.send(r.at_callee)
        assert (phone.hear() if secure else r.caller.rtp.recv(4096)) == back
        stranger.close()
