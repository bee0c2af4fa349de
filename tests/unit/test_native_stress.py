"""Calls that open, change and close under fire: for the sanitizers, and for what must not pass.

Commands race with packets on two workers while figures and events are read; packets are
authentic, mutated, cut, of the largest size, with every header field, and somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
import time

from relay.call.ports import Side
from relay.sdp.description import SrtpKeys
from tests.unit.media_rig import DEADLINE_S, Peer, Rig, rig, until
from tests.unit.srtp_rig import SUITE_NAMES, fresh_key, native

SECONDS = float(os.environ.get("RELAY_STRESS_SECONDS", "2"))
LARGEST = 2048


def rtp(chance: random.Random, ssrc: int, sequence: int) -> bytes:
    """A packet with any header: CSRCs, an extension, padding, no payload, or a huge one."""
    csrc = chance.choice((0, 0, 1, 15))
    octets = chance.choice((0, 1, 160, 160, 1400, LARGEST - 12, chance.randrange(LARGEST)))
    extension = chance.random() < 0.3
    body = chance.randbytes(4 * csrc)
    if extension:
        words = chance.choice((0, 1, 40))
        body += struct.pack("!HH", 0xBEDE, words) + chance.randbytes(4 * words)
    payload = chance.randbytes(max(0, min(octets, LARGEST - 12 - len(body))))
    padded = bool(payload) and chance.random() < 0.3
    if padded:
        payload = payload[:-1] + bytes([chance.choice((0, 1, 4, 255))])
    first = 0x80 | padded << 5 | extension << 4 | csrc
    kind = chance.choice((0, 0, 0, 101, 0x80, 72 | 0x80, 127))
    head = struct.pack("!BBHII", first, kind, sequence % 65536, sequence * 160 % 2**32, ssrc)
    return head + body + payload


def rtcp(chance: random.Random, ssrc: int) -> bytes:
    words = chance.choice((1, 6, 100, 500))
    return struct.pack("!BBHI", 0x80, chance.choice((200, 201, 203)), words, ssrc) + bytes(
        4 * words - 4
    )


class Attacker(threading.Thread):
    """Sends from one peer's own sockets until told to stop."""

    def __init__(self, peer: Peer, seed: int) -> None:
        super().__init__()
        self.peer = peer
        self.chance = random.Random(seed)
        self.ports = [20000, 20002]
        self.key = native(fresh_key(), True)
        self.stop = threading.Event()

    def run(self) -> None:
        chance, sequence = self.chance, 65000
        ssrcs = [chance.getrandbits(32) for _ in range(20)]
        while not self.stop.is_set():
            sequence += chance.choice((1, 1, 1, 0, -3, 500))
            ssrc = chance.choice(ssrcs)
            report = chance.random() < 0.2
            data = rtcp(chance, ssrc) if report else rtp(chance, ssrc, sequence)
            if chance.random() < 0.8:
                closed = self.key.close_rtcp(data) if report else self.key.close(data)
                data = closed if isinstance(closed, bytes) else data
            if data and chance.random() < 0.2:
                at = chance.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            if chance.random() < 0.1:
                data = data[: chance.randrange(len(data) + 1)]
            sock = chance.choice((self.peer.rtp, self.peer.rtcp))
            sock.sendto(data, (self.peer.host, chance.choice(self.ports) + chance.randrange(2)))


def changes(r: Rig, chance: random.Random, attackers: list[Attacker], end: float) -> int:
    """Until `end`, at random: keys, plain RTP, a tap, another call on the same ports' pool."""
    turns = 0
    while time.monotonic() < end:
        turns += 1
        call = r.engine.open(f"call-{turns}", False, False)
        ports = [call.local(side).port for side in Side]
        for attacker in attackers:
            attacker.ports = ports
        for _ in range(chance.randrange(12)):
            for side, attacker in zip(Side, attackers, strict=True):
                srtp = None
                mki = chance.choice((b"", b"", b"\x01", bytes(128)))
                if chance.random() < 0.8:
                    suite = chance.choice(SUITE_NAMES)
                    keys = tuple(
                        fresh_key(suite, mki[:-1] + bytes([i]) if mki else b"")
                        for i in range(chance.choice((1, 3)) if mki else 1)
                    )
                    attacker.key = native(keys[-1], True)
                    srtp = SrtpKeys(keys, fresh_key(chance.choice(SUITE_NAMES)))
                mux = chance.random() < 0.3
                call.update(side, attacker.peer.leg(srtp=srtp, mux=mux, symmetric=True))
                call.figures(side)
            call.record(chance.random() < 0.5)
            r.engine.drain()
            r.engine.counters()
            time.sleep(chance.choice((0, 0.001, 0.005)))
        call.close()
        for side in Side:
            call.figures(side)
        del call
    return turns


def drain(peer: Peer) -> None:
    """What its full socket still holds."""
    peer.rtp.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            peer.rtp.recv(4096)
    peer.rtp.settimeout(DEADLINE_S)


def test_calls_that_change_and_close_under_fire() -> None:
    chance = random.Random(7)
    with rig(networks=("127.0.0.0/8",), workers=2, pairs=2000, quarantine_s=0.0) as r:
        attackers = [Attacker(peer, seed) for seed, peer in enumerate((r.caller, r.callee))]
        for attacker in attackers:
            attacker.start()
        try:
            turns = changes(r, chance, attackers, time.monotonic() + SECONDS)
            assert all(attacker.is_alive() for attacker in attackers)
        finally:
            for attacker in attackers:
                attacker.stop.set()
                attacker.join()
        assert turns > 5
        counters = r.engine.counters()
        assert counters["relayed"] > 0, "nothing was relayed: the test shows nothing"
        assert counters["rtcp_relayed"] > 0
        assert counters["drop_srtp_authentication_failed"] > 0
        # It still works.
        r.describe()
        drain(r.callee)
        sent = r.caller.send(r.at_caller)
        until(lambda: r.callee.rtp.recv(4096) == sent)
