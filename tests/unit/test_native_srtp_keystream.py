"""No two packets are ever closed with one keystream, whatever happens to keys, SSRCs and numbers.

Two such packets would give their audio away, and under GCM the authentication key as well.
"""

from __future__ import annotations

import random
import socket

import pytest

from relay.call.ports import Side
from relay.rtp import packet
from relay.sdp.description import SUITES, SrtpKey, SrtpKeys
from tests.unit.media_rig import PCMU, Rig, rig
from tests.unit.srtp_rig import SUITE_NAMES, fresh_key

ROUNDS = 60


def keystreams(r: Rig, sent: dict[bytes, bytes]) -> list[bytes]:
    """Of all that has arrived at the caller: what was sent is known by its RTP timestamp."""
    found = []
    r.caller.rtp.setblocking(False)
    try:
        while True:
            closed = r.caller.rtp.recv(4096)
            plain = sent[closed[4:8]]
            found.append(bytes(a ^ b for a, b in zip(closed[12:44], plain[12:44], strict=True)))
    except BlockingIOError:
        return found


def switch(r: Rig, ours: SrtpKey) -> None:
    """A branch answers: its key, and the one of ours whose tag it took."""
    r.call.update(Side.CALLER, r.caller.leg(srtp=SrtpKeys((fresh_key(ours.suite),), ours)))


@pytest.mark.parametrize("seed", range(4))
def test_no_keystream_is_used_twice(seed: int) -> None:
    """An offer has a key of ours for each suite, and forked answers may take any in turn."""
    chance = random.Random(seed)
    ours = [fresh_key(suite) for suite in SUITE_NAMES]
    assert len(ours) == len(SUITES)
    seen: list[bytes] = []
    sent: dict[bytes, bytes] = {}
    number = 0
    ssrcs = [chance.getrandbits(32) for _ in range(3)]
    sequences = dict.fromkeys(ssrcs, 65400)
    with rig() as r:
        r.caller.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        r.call.update(Side.CALLEE, r.callee.leg())
        for turn in range(ROUNDS):
            switch(r, ours[turn % 5] if seed == 0 else chance.choice(ours))
            ssrc = chance.choice(ssrcs)
            # On, started anew, back a little, over half of the numbers.
            sequences[ssrc] += chance.choice((0, 0, -40, -5000, 200, 32768))
            if chance.random() < 0.3:
                sequences[ssrc] = 65500
            for _ in range(10):
                number += 1
                sequence = sequences[ssrc] % 65536
                payload = chance.randbytes(160)
                plain = packet.build(PCMU, sequence, number, ssrc, payload)
                sent[plain[4:8]] = plain
                sequences[ssrc] += 1
                r.callee.send(r.at_callee, plain)
            figures = r.call.figures(Side.CALLEE)
            while figures.relayed + sum(figures.drops.values()) < number:
                figures = r.call.figures(Side.CALLEE)
            seen += keystreams(r, sent)
    assert len(seen) > number / 2, "hardly anything was sent: the test shows nothing"
    assert len(set(seen)) == len(seen), "a keystream was used twice"
