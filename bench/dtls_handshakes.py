"""DTLS handshakes of voice clients: how many a second, and how long the loop is away.

    python -m bench.dtls_handshakes [--clients 600] [--at-once 24]

An engine on uvloop has a call for each client; the clients, in a process of their own, send a
connectivity check that nominates and shake hands, so many at once. CPU is that of the relay's
process for each handshake, check included. `loop_late_ms` is how much later than asked a timer
of 1 ms fires meanwhile, as SIP would: with nothing to do, and under this load.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import multiprocessing
import os
import select
import socket
import statistics
import time
from collections import Counter
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import aioice.stun
import uvloop

from bench.common import report
from bench.relay_cost import cpu_ns
from relay.call.ports import LegMedia, MediaEvent, Secured, Side
from relay.media.engine import Engine
from relay.sdp.description import Fingerprint, IceDtls
from relay.webrtc.certificate import make_certificate
from relay.webrtc.dtls import Association, Dtls, FingerprintOf, State

HOST, CLIENT_HOST = "127.6.10.1", "127.6.10.2"
FIRST_PORT = 20000
DEADLINE_S = 60.0
OURS, PASSWORD, THEIRS = "relay", "r" * 24, "client"


class Client:
    """One leg's peer: a check, then DTLS as the client."""

    def __init__(self, shared: Dtls, port: int, named: tuple[FingerprintOf, ...]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((CLIENT_HOST, 0))
        self.socket.connect((HOST, port))
        self.socket.setblocking(False)
        self.dtls = Association(shared, True, named)
        self.socket.send(check())

    def on_datagram(self) -> bool:
        """Whether it is done."""
        now = time.monotonic()
        data = self.socket.recv(2048)
        if data[0] < 4:
            self.dtls.start(now)
        else:
            self.dtls.feed(data, now)
        for datagram in self.dtls.drain():
            self.socket.send(datagram)
        if self.dtls.state is State.FAILED:
            raise RuntimeError(self.dtls.why)
        return self.dtls.state is State.SECURED


def check() -> bytes:
    """A connectivity check that nominates."""
    message = aioice.stun.Message(
        aioice.stun.Method.BINDING,
        aioice.stun.Class.REQUEST,
        attributes={
            "USERNAME": f"{OURS}:{THEIRS}",
            "PRIORITY": 1,
            "ICE-CONTROLLING": 1,
            "USE-CANDIDATE": None,
        },
    )
    message.add_message_integrity(PASSWORD.encode())
    return bytes(message)


def clients(pipe: Connection) -> None:
    """The other process: shakes hands with each port that it is told."""
    certificate = make_certificate(datetime.now(UTC))
    shared = Dtls(certificate, Counter())
    pipe.send(certificate.digest)
    digest, ports, at_once = pipe.recv()
    waiting, poll = list(ports), select.poll()
    under_way: dict[int, Client] = {}
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            client = Client(shared, waiting.pop(), (("sha-256", digest),))
            under_way[client.socket.fileno()] = client
            poll.register(client.socket, select.POLLIN)
        for fd, _ in poll.poll(1000):
            if under_way[fd].on_datagram():
                poll.unregister(fd)
                under_way.pop(fd).socket.close()
    pipe.send("done")


def own_cpu_s() -> float:
    """Of this process with all its threads, without its children."""
    return cpu_ns(os.getpid()) / 1e9


async def lateness(over: asyncio.Event) -> list[float]:
    """In milliseconds, until `over`."""
    late = []
    while not over.is_set():
        asked = time.monotonic() + 0.001
        await asyncio.sleep(0.001)
        late.append(1000 * (time.monotonic() - asked))
    return late


def summary(late: list[float]) -> dict[str, float]:
    late.sort()
    return {
        "median": round(statistics.median(late), 2),
        "p99": round(late[int(0.99 * (len(late) - 1))], 2),
        "most": round(late[-1], 2),
    }


async def measure(count: int, at_once: int, pipe: Connection) -> None:
    loop, over, secured = asyncio.get_running_loop(), asyncio.Event(), 0

    def on_event(call_id: str, event: MediaEvent) -> None:
        nonlocal secured
        if isinstance(event, Secured):
            secured += 1
            if secured == count:
                over.set()

    engine = Engine(
        HOST,
        None,
        (FIRST_PORT, FIRST_PORT + 4 * count + 1),
        1,
        600.0,
        on_event=on_event,
        latch_networks=[ipaddress.ip_network("127.0.0.0/8")],
        record=False,
    )
    engine.start(loop)
    try:
        named = (Fingerprint("sha-256", pipe.recv()),)
        agreed = IceDtls(OURS, PASSWORD, THEIRS, "t" * 24, named)
        calls = [engine.open(str(number), False, False) for number in range(count)]
        for call in calls:
            call.update(Side.CALLER, LegMedia(None, frozenset({0}), webrtc=agreed))
        ports = [call.local(Side.CALLER).port for call in calls]
        quiet = asyncio.Event()
        loop.call_later(1.0, quiet.set)
        idle = await lateness(quiet)
        used, began = own_cpu_s(), time.monotonic()
        pipe.send((engine.fingerprint.digest, ports, at_once))
        async with asyncio.timeout(DEADLINE_S):
            busy = await lateness(over)
        elapsed, used = time.monotonic() - began, own_cpu_s() - used
        report(
            "dtls_handshakes",
            handshakes=count,
            at_once=at_once,
            per_second=round(count / elapsed),
            cpu_ms_each=round(1000 * used / count, 3),
            loop_late_ms={"idle": summary(idle), "busy": summary(busy)},
            counters=dict(engine.webrtc.counters),
        )
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=600)
    parser.add_argument("--at-once", type=int, default=24)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=clients, args=(theirs,), daemon=True
    )
    process.start()
    try:
        uvloop.run(measure(options.clients, options.at_once, ours))
    finally:
        process.join(5)
        process.kill()


if __name__ == "__main__":
    main()
