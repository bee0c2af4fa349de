"""(k) Memory and CPU of the relay for idle voice clients: 2,000 that are registered over wss, each
pinged every 30 s; at most 60 KiB each and 5 % of a core.

    python -m bench.idle_clients [--clients 2000] [--seconds 60]

A first lot of clients warms the allocators up and stays; the second lot is what is measured. The
clients are octets and TLS only, in one process beside the relay.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import uvloop

from bench import common
from relay.access_token import Signer, Wish
from relay.probe.certificates import Authority
from relay.probe.region import RegionSpec
from relay.probe.relay_process import RelayProcess

WARM_UP = 200
AT_ONCE = 20  # connections that are being made
TARGET_KIB = 60
TARGET_PERCENT = 5
PORT = 5443
KEEPALIVE_S = 30
SECRET = "0123456789abcdef0123456789abcdef"
SIGNER = Signer("t1", "app", "k1", "HS256", SECRET)
ACCOUNT = f"""
[[account]]
name = "app"
keys = [{{ id = "k1", secret = "{SECRET}" }}]
"""
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: sip\r\nOrigin: https://app.example.com\r\n\r\n"
)
PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"


class Client:
    """One idle client: registers, then answers pings."""

    def __init__(self, number: int) -> None:
        self.identity = f"c{number}"
        self.pings = 0

    async def start(self, trust: ssl.SSLContext) -> None:
        host = common.RELAY[0]
        self.reader, self.writer = await asyncio.open_connection(
            host, PORT, ssl=trust, server_hostname=host, local_addr=("127.5.10.9", 0)
        )
        self.writer.write(UPGRADE)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(f"no WebSocket: {answer!r}")
        self.writer.write(_frame(self._register()))
        answer = await self.reader.readuntil(b"\r\n\r\n")
        if b"SIP/2.0 200 " not in answer:
            raise SystemExit(f"not registered: {answer!r}")

    async def idle(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self.reader.readexactly(2) == PING:
                self.pings += 1
                self.writer.write(PONG)

    def _register(self) -> bytes:
        me = self.identity
        token = SIGNER.token(Wish(me, "1h", True, True, None).claims(SIGNER, time.time()))
        return (
            f"REGISTER sip:relay.example SIP/2.0\r\n"
            f"Via: SIP/2.0/WSS {me}.invalid;branch=z9hG4bK{me}\r\nMax-Forwards: 69\r\n"
            f"From: <sip:{me}@relay.example>;tag={me}\r\nTo: <sip:{me}@relay.example>\r\n"
            f"Call-ID: {me}\r\nCSeq: 1 REGISTER\r\nSupported: path,gruu,outbound\r\n"
            f"Contact: <sip:{me}@{me}.invalid;transport=ws>;reg-id=1;expires=600;"
            f'+sip.instance="<urn:uuid:00000000-0000-4000-8000-{int(me[1:]):012}>"\r\n'
            f"Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        ).encode()


def _frame(message: bytes) -> bytes:
    """A masked text frame (RFC 6455 section 5.2); the mask is nought."""
    return b"\x81\xfe" + len(message).to_bytes(2, "big") + b"\0\0\0\0" + message


class Clients:
    """All clients, on one loop."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        self._room = asyncio.Semaphore(AT_ONCE)
        self.all: list[Client] = []
        self._idling: list[asyncio.Task[None]] = []

    async def grow(self, count: int) -> float:
        """Until there are `count`; how many came a second."""
        began, new = time.monotonic(), range(len(self.all), count)
        self.all += await asyncio.gather(*(self._start(number) for number in new))
        return len(new) / (time.monotonic() - began)

    async def _start(self, number: int) -> Client:
        client = Client(number)
        async with self._room:
            await client.start(self._trust)
        self._idling.append(asyncio.create_task(client.idle()))
        return client

    @property
    def idling(self) -> int:
        return sum(not task.done() for task in self._idling)


async def measure(relay: RelayProcess, trust: ssl.SSLContext, count: int, seconds: float) -> int:
    clients = Clients(trust)
    await clients.grow(WARM_UP)
    await asyncio.sleep(2)  # the last log lines
    before = common.resident_octets(relay.pid)
    rate = await clients.grow(WARM_UP + count)
    await asyncio.sleep(2)
    after = common.resident_octets(relay.pid)
    used, began = common.cpu_s(relay.pid), time.monotonic()
    pings = sum(client.pings for client in clients.all)
    await asyncio.sleep(seconds)  # the measured time itself
    percent = 100 * (common.cpu_s(relay.pid) - used) / (time.monotonic() - began)
    kib = (after - before) / count / 1024
    common.report(
        "idle_clients",
        clients=count,
        kib_per_client=round(kib, 2),
        target_kib=TARGET_KIB,
        percent_of_a_core=round(percent, 3),
        target_percent=TARGET_PERCENT,
        pings=sum(client.pings for client in clients.all) - pings,
        still_connected=clients.idling - WARM_UP,
        registered_per_s=round(rate, 1),
        resident_mib=round(after / 2**20, 2),
    )
    fine = kib <= TARGET_KIB and percent <= TARGET_PERCENT
    return 0 if fine and clients.idling == WARM_UP + count else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        scratch = Path(directory)
        authority = Authority(scratch / "tls")
        pair = authority.issue("relay", common.RELAY[0])
        many = WARM_UP + options.clients
        websocket = {"per_address": many, "handshakes_per_second": 10000.0}
        sip = {
            "tls": {"certificate": str(pair.certificate), "key": str(pair.key)},
            "websocket": {**websocket, "origins": ["https://app.example.com"]},
        }
        listen = (f"wss:{common.RELAY[0]}:{PORT}",)
        region = RegionSpec(
            *common.RELAY, common.trunks(), scratch / "store", sip=sip, listen=listen, more=ACCOUNT
        )
        relay = RelayProcess(region.write(scratch / "relay.toml"), scratch / "relay.log")
        try:
            relay.wait("serving")
            trust = ssl.create_default_context(cafile=str(authority.file))
            return uvloop.run(measure(relay, trust, options.clients, options.seconds))
        finally:
            relay.stop()


if __name__ == "__main__":
    sys.exit(main())
