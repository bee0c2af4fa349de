"""A Transport on a real socket, and aiortc's ICE and DTLS as the peer of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from unittest import mock

from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters

from relay.webrtc.certificate import make_certificate
from relay.webrtc.dtls import Dtls, FingerprintOf
from relay.webrtc.ice import Credentials
from relay.webrtc.transport import Address, Output, Send, Transport

HOST = "127.0.0.1"
DEADLINE_S = 20.0
UFRAG, PASSWORD = "ours", "o" * 24


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fails the test at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)


class Node(asyncio.DatagramProtocol):
    """One leg of ours: `outputs` has all but what was sent."""

    def __init__(self) -> None:
        self.certificate = make_certificate(datetime.now(UTC))
        self.shared = Dtls(self.certificate, Counter())
        self.leg = Transport(self.shared)
        self.outputs: list[Output] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._socket: asyncio.DatagramTransport | None = None

    async def open(self) -> Node:
        self._socket, _ = await self._loop.create_datagram_endpoint(
            lambda: self, local_addr=(HOST, 0)
        )
        return self

    @property
    def port(self) -> int:
        assert self._socket is not None
        return int(self._socket.get_extra_info("sockname")[1])

    @property
    def counters(self) -> Counter[str]:
        return self.shared.counters

    def describe(
        self, credentials: Credentials, fingerprints: tuple[FingerprintOf, ...], client: bool
    ) -> None:
        self.leg.describe(credentials, fingerprints, client, self._loop.time())
        self._carry_out()

    def datagram_received(self, data: bytes, source: Address) -> None:
        self.leg.feed(data, source[:2], self._loop.time())
        self._carry_out()

    def of(self, kind: type) -> list[Output]:
        return [output for output in self.outputs if isinstance(output, kind)]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
        self.leg.close()

    def _carry_out(self) -> None:
        assert self._socket is not None
        for output in self.leg.drain():
            if isinstance(output, Send):
                self._socket.sendto(output.data, output.to)
            else:
                self.outputs.append(output)
        if self._timer is not None:
            self._timer.cancel()
        due = self.leg.next_timer()
        self._timer = None if due is None else self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self.leg.on_timer(self._loop.time())
        self._carry_out()


class Peer:
    """aiortc: full ICE in control, and DTLS in the role that is asked for."""

    def __init__(self, role: str = "client") -> None:
        self.certificate = RTCCertificate.generateCertificate()
        self.gatherer = RTCIceGatherer(iceServers=[])
        self.ice = RTCIceTransport(self.gatherer)
        self.ice._connection.ice_controlling = True
        self.dtls = RTCDtlsTransport(self.ice, [self.certificate])
        self.dtls._set_role(role)

    async def gather(self) -> Peer:
        with mock.patch("aioice.ice.get_host_addresses", return_value=[HOST]):
            await self.gatherer.gather()
        return self

    @property
    def credentials(self) -> Credentials:
        """Ours and what of the peer's a check bears."""
        return Credentials(UFRAG, PASSWORD, self.gatherer.getLocalParameters().usernameFragment)

    @property
    def fingerprints(self) -> tuple[FingerprintOf, ...]:
        return tuple(
            (each.algorithm, bytes.fromhex(each.value.replace(":", "")))
            for each in self.certificate.getFingerprints()
        )

    async def connect(self, port: int, password: str = PASSWORD) -> None:
        """ICE only."""
        await self.ice.addRemoteCandidate(RTCIceCandidate(1, "1", HOST, port, 1, "udp", "host"))
        await self.ice.addRemoteCandidate(None)
        await self.ice.start(RTCIceParameters(UFRAG, password, iceLite=True))

    async def secure(self, digest: bytes) -> None:
        """DTLS with the one whose certificate has this SHA-256."""
        fingerprint = RTCDtlsFingerprint("sha-256", digest.hex(":").upper())
        await self.dtls.start(RTCDtlsParameters([fingerprint]))

    async def close(self) -> None:
        await self.dtls.stop()
        await self.ice.stop()


@contextlib.asynccontextmanager
async def rig(role: str = "client") -> AsyncIterator[tuple[Node, Peer]]:
    """Both, neither connected nor described. `role` is the peer's in DTLS."""
    async with asyncio.timeout(DEADLINE_S):
        node, peer = await Node().open(), await Peer(role).gather()
        try:
            yield node, peer
        finally:
            node.close()
            await peer.close()
