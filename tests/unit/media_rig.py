"""A running engine with one call between two plain UDP peers, for the native tests.

Every engine gets a loopback address of its own, so tests do not meet on a port.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from relay.call.ports import LegMedia, MediaAddress, MediaEvent, Side
from relay.media.engine import Engine, OnPacket
from relay.media.engine_call import EngineCall
from relay.rtp import packet

DEADLINE_S = 10.0
PCMU = 0
EVENTS = 101
_hosts = itertools.count(1)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails the test at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.001)


def fresh_host() -> str:
    """A loopback address that no other test of this or a parallel run uses."""
    return f"127.1.{os.getpid() % 200 + 20}.{next(_hosts) % 250 + 1}"


class Peer:
    """One end of a call: an RTP socket and an RTCP socket."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.rtp = socket.socket(family, socket.SOCK_DGRAM)
        self.rtcp = socket.socket(family, socket.SOCK_DGRAM)
        for port in (self.rtp, self.rtcp):
            port.bind((host, 0))
            port.settimeout(DEADLINE_S)
        self.host = host
        self.ssrc = 0x1000 + self.port
        self.sequence = 100

    @property
    def port(self) -> int:
        return int(self.rtp.getsockname()[1])

    @property
    def rtcp_port(self) -> int:
        return int(self.rtcp.getsockname()[1])

    def leg(self, mux: bool = False, **more: object) -> LegMedia:
        """The description that this peer's SDP would give."""
        remote = MediaAddress(self.host, self.port, self.port if mux else self.rtcp_port)
        values: dict[str, object] = {
            "remote": remote,
            "payload_types": frozenset({PCMU, EVENTS}),
            "telephone_event": EVENTS,
        }
        return LegMedia(**(values | more))  # type: ignore[arg-type]

    def next_packet(self, payload_type: int = PCMU, payload: bytes = b"\xff" * 160) -> bytes:
        """The stream's next packet."""
        self.sequence += 1
        timestamp = self.sequence * 160 % 2**32
        return packet.build(payload_type, self.sequence % 65536, timestamp, self.ssrc, payload)

    def send(self, to: MediaAddress, data: bytes | None = None) -> bytes:
        """Send RTP (or anything) from the RTP socket; returns what was sent."""
        data = self.next_packet() if data is None else data
        self.rtp.sendto(data, (to.host, to.port))
        return data

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


@dataclass
class Rig:
    """One engine, one call, two peers; `events` collects what the engine reported."""

    engine: Engine
    call: EngineCall
    caller: Peer
    callee: Peer
    events: list[tuple[str, MediaEvent]] = field(default_factory=list)

    def describe(self, **more: object) -> None:
        """Apply both descriptions."""
        self.call.update(Side.CALLER, self.caller.leg(**more))
        self.call.update(Side.CALLEE, self.callee.leg(**more))

    @property
    def at_caller(self) -> MediaAddress:
        return self.call.local(Side.CALLER)

    @property
    def at_callee(self) -> MediaAddress:
        return self.call.local(Side.CALLEE)

    def wait_for(self, event: MediaEvent) -> None:
        """Until the engine has reported this event."""

        def reported() -> bool:
            self.engine.drain()
            return any(seen == event for _, seen in self.events)

        until(reported)

    def wait_for_relayed(self, count: int, side: Side = Side.CALLER) -> None:
        """Until so many were counted: a packet is counted after it has left."""
        until(lambda: self.call.figures(side).relayed >= count)
        until(lambda: self.engine.counters()["relayed"] >= count)

    def wait_for_drop(self, name: str, side: Side = Side.CALLER, count: int = 1) -> None:
        """Until that many datagrams of a side were dropped for this reason."""
        until(lambda: self.call.figures(side).drops.get(name, 0) >= count)


@contextlib.contextmanager
def rig(
    networks: tuple[str, ...] = (),
    idle_timeout_s: float = 60.0,
    callee_host: str | None = None,
    pairs: int = 64,
    workers: int = 1,
    nap_us: int = 1000,
    quarantine_s: float = 6.0,
    report_s: float = 5.0,
    on_packet: OnPacket = lambda call, side, data, source: None,
) -> Iterator[Rig]:
    """An engine with one open call whose legs are not described yet."""
    events: list[tuple[str, MediaEvent]] = []
    host = fresh_host()
    engine = Engine(
        host,
        None,
        (20000, 20000 + 2 * pairs),
        workers,
        idle_timeout_s,
        address_ipv6="::1",
        on_event=lambda call_id, event: events.append((call_id, event)),
        latch_networks=[ipaddress.ip_network(network) for network in networks],
        nap_us=nap_us,
        quarantine_s=quarantine_s,
        report_s=report_s,
        on_packet=on_packet,
    )
    callee_host = callee_host or host
    caller, callee = Peer(host), Peer(callee_host)
    try:
        engine.start()
        call = engine.open("call-1", False, ":" in callee_host)
        yield Rig(engine, call, caller, callee, events)
    finally:
        engine.close()
        caller.close()
        callee.close()
