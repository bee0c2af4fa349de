"""The media engine as the application sees it: `Media` of call/ports.py.

Opens ports, hands settings to the native workers, and turns what they report into events.
Nothing here runs per packet. All methods belong to the thread of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from weakref import WeakValueDictionary

from relay import _native
from relay.call.ports import MediaAddress, MediaEvent, Side
from relay.errors import NoMediaPorts, NotAcceptable
from relay.media.engine_call import EngineCall
from relay.media.port_pool import PortPool
from relay.media.report import media_event
from relay.media.webrtc import WebRtcLegs
from relay.sdp.description import Fingerprint
from relay.webrtc.certificate import make_certificate

OnPacket = Callable[[EngineCall, Side, bytes, tuple[str, int]], None]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_BIND_TRIES = 50  # ports that other programs hold are passed over
_SIDES = (Side.CALLER, Side.CALLEE)
TRANSCODES: bool = _native.HAS_OPUS  # it was built with libopus
_PACKETS = 8  # STUN and DTLS that are dealt with before the loop goes on: 3 ms at most


class Engine:
    """Native workers, the port pool, and the way back for events.

    `latch_networks`, none by default, are where a symmetric leg's source may be learned and
    where a WebRTC leg's STUN and DTLS may come from; those go to `webrtc`.
    """

    def __init__(
        self,
        address: str,
        advertise: str | None,
        ports: tuple[int, int],
        workers: int,
        idle_timeout_s: float,
        address_ipv6: str | None = None,
        on_event: Callable[[str, MediaEvent], None] = lambda call_id, event: None,
        latch_networks: Sequence[Network] = (),
        quarantine_s: float = 6.0,
        record: bool = True,
        nap_us: int = 1000,
        advertise_ipv6: str | None = None,
        on_packet: OnPacket = EngineCall.on_packet,
        report_s: float = 5.0,
    ) -> None:
        self._bind_hosts = {False: address, True: address_ipv6}  # by family: is it IPv6?
        self._told = {False: advertise or address, True: advertise_ipv6 or address_ipv6 or ""}
        certificate = make_certificate(datetime.now(UTC))
        self.fingerprint = Fingerprint("sha-256", certificate.digest)
        self.webrtc = WebRtcLegs(certificate, on_event)
        self.transcodes = TRANSCODES
        self._pool = PortPool(*ports, quarantine_s)
        self._on_event = on_event
        self._on_packet = on_packet
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: WeakValueDictionary[int, EngineCall] = WeakValueDictionary()
        self._numbers = 0
        self._taps = 0
        networks = [
            (network.network_address.packed, network.prefixlen) for network in latch_networks
        ]
        self.taps = [_native.TapRing() for _ in range(workers)] if record else []
        self._workers = [
            _native.Worker(
                self._wake,
                idle_timeout_s,
                networks,
                self.taps[i] if record else None,
                nap_us,
                report_s=report_s,
            )
            for i in range(workers)
        ]
        self._load = [0] * workers

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start the workers; events reach `on_event` from `loop`. Raises OSError."""
        for worker in self._workers:
            worker.start()
        if loop is not None:
            self._loop = loop
            loop.add_reader(self._wake, self.drain)
            self.webrtc.start(loop)

    def open(self, call_id: str, caller_ipv6: bool, callee_ipv6: bool) -> EngineCall:
        """Reserve ports for both legs. Raises NoMediaPorts."""
        binds = (self._bind_address(caller_ipv6), self._bind_address(callee_ipv6))
        index = min(range(len(self._workers)), key=self._load.__getitem__)
        number = self._numbers = self._numbers + 1
        flows, ports = self._bind(self._workers[index], number, binds)
        self._load[index] += 1
        hosts = (self._told[caller_ipv6], self._told[callee_ipv6])
        call = self._calls[number] = EngineCall(self, call_id, number, flows, index, ports, hosts)
        return call

    def _bind_address(self, ipv6: bool) -> str:
        host = self._bind_hosts[ipv6]
        if host is None:
            raise NotAcceptable("no media.address_ipv6 is configured")
        return host

    def _bind(
        self, worker: _native.Worker, number: int, binds: tuple[str, str]
    ) -> tuple[_native.CallFlows, tuple[int, int]]:
        now = time.monotonic()
        first, second = self._pool.take(now), 0
        try:
            second = self._pool.take(now)
            for _ in range(_BIND_TRIES):
                try:
                    flows = worker.open(number, binds[0], first, binds[1], second)
                    return flows, (first, second)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        why = error.strerror  # the peer is told: not our address
                        raise NoMediaPorts(f"cannot bind media ports: {why}") from error
                    blocked = error.filename
                # The blocked pair rests; the other one is kept and tried with the next.
                if blocked == f"{binds[0]}:{first}":
                    first = self._another(first, now)
                else:
                    second = self._another(second, now)
            raise NoMediaPorts(f"{_BIND_TRIES} media ports in a row are held by other programs")
        except NoMediaPorts:
            for port in filter(None, (first, second)):
                self._pool.restore(port)
            raise

    def _another(self, blocked: int, now: float) -> int:
        port = self._pool.take(now)
        self._pool.give_back(blocked, now)
        return port

    def is_ours(self, remote: MediaAddress) -> bool:
        """Whether a call has the RTP or the RTCP port of this address now."""
        if not (self._pool.in_use(remote.port) or self._pool.in_use(remote.rtcp_port)):
            return False
        bound = self._bind_hosts[":" in remote.host]
        if remote.host in (bound, self._told[":" in remote.host]):
            return True
        return bound in ("0.0.0.0", "::") and _is_local(remote.host)

    def next_tap(self) -> int:
        """A tap number that no other call of this process has."""
        self._taps += 1
        return self._taps

    def closed(self, number: int, worker: int, ports: tuple[int, int]) -> None:
        """A call let go of its ports (called by `EngineCall.close`)."""
        now = time.monotonic()
        for port in ports:
            self._pool.give_back(port, now)
        self._load[worker] -= 1
        self._calls.pop(number, None)

    def drain(self) -> None:
        """Deliver what the workers reported. The loop calls this; tests may, too."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        for worker in self._workers:
            for kind, number, side, key, amount, source in worker.events():
                call = self._calls.get(number)
                if call is None:
                    continue  # closed meanwhile
                event = media_event(kind, _SIDES[side], key, amount, source)
                self._on_event(call.call_id, event)
            packets = worker.packets(_PACKETS)
            for number, side, data, origin in packets:
                if (call := self._calls.get(number)) is not None:
                    self._hand_up(call, _SIDES[side], data, origin)
            if len(packets) == _PACKETS and self._wake >= 0:
                os.eventfd_write(self._wake, 1)  # the rest when the loop comes round again

    def _hand_up(self, call: EngineCall, side: Side, data: bytes, source: tuple[str, int]) -> None:
        """A bug with one leg's packet must not lose the others'."""
        try:
            self._on_packet(call, side, data, source)
        except Exception as bug:
            if self._loop is None:
                raise
            context = {"message": "STUN or DTLS of a WebRTC leg", "exception": bug}
            self._loop.call_exception_handler(context)

    def counters(self) -> Mapping[str, int]:
        """Totals since the start, added over the workers, and the state of the port pool."""
        totals: dict[str, int] = {}
        for worker in self._workers:
            for name, value in worker.counters().items():
                totals[name] = totals.get(name, 0) + value
        totals["port_pairs"] = self._pool.pairs
        totals["port_pairs_free"] = self._pool.free
        totals["port_pairs_resting"] = self._pool.resting
        return totals

    def close(self) -> None:
        """Stop the workers and close all sockets. Waits for the threads; idempotent."""
        self.webrtc.close()
        for worker in self._workers:
            worker.stop()
        if self._wake >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._wake)
            os.close(self._wake)
            self._wake = -1


def _is_local(host: str) -> bool:
    """Whether this machine has the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
