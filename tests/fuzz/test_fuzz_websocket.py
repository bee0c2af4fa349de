"""WebSocket connections that say anything: upgrades, frames and octets, whole and in pieces.

Nothing raises, nothing is left behind, and what is kept for one stays small. Bounded by
RELAY_FUZZ_SECONDS (default 5 s); a failure prints its seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from itertools import count
from typing import Any

from relay.config import WebSocket
from relay.signalling.stream import Streams
from relay.signalling.tls import Credentials
from relay.sip.transaction import Hop

SECONDS = float(os.environ.get("RELAY_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("RELAY_FUZZ_SEED", str(random.SystemRandom().getrandbits(32))))
SIP = b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\n\r\n"
FIELDS = (
    b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Protocol: sip",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Sec-WebSocket-Version: 13",
)  # fmt: skip
ODD_FIELDS = (
    b"Origin: null", b"Origin: https://a.example", b"Upgrade: h2c", b"Connection: close", b"x",
    b"Sec-WebSocket-Key: a", b"Sec-WebSocket-Version: 8", b"Sec-WebSocket-Extensions: a; b=\"",
    b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-For: ::1, x", b"X-Forwarded-For: " + b"1," * 3000,
    b"Sec-WebSocket-Protocol: ,;", b"Transfer-Encoding: chunked", b"Content-Length: 5",
    b"Cookie: " + b"c" * 9000, b"\xff: \xff", b": ", b" folded",
)  # fmt: skip


class Wire:
    """A transport that keeps what is written."""

    def __init__(self, host: str) -> None:
        self.written = 0
        self.closed = False
        self._host = host

    def get_extra_info(self, name: str) -> Any:
        return (self._host, 4000) if name == "peername" else self

    def setsockopt(self, *option: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def get_write_buffer_size(self) -> int:
        return self.written

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass


class Fuzz:
    """Connections of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.streams = Streams(
            self._take,
            lambda hop: None,
            lambda name: self.counted.update([name]),
            count(1),
            lambda host: False,
            lambda host, names: False,
            lambda host: False,
            lambda hop: False,
            Credentials(None, asks=False),
            lambda host: host != "192.0.2.1",
            WebSocket.model_validate(
                {"origins": ("https://a.example",), "proxies": ("127.0.0.2/32",)}
            ),
            lambda hop: 0.0,
        )

    def _take(self, message: object, hop: Hop) -> None:
        chance = self.random.random()
        if chance < 0.3:
            self.streams.trust(hop)
        if chance < 0.6:
            self.streams.send(self.random.choice((SIP, b"\xff" * 300, b"")), hop)

    def upgrade(self) -> bytes:
        rnd = self.random
        fields = [*FIELDS]
        for _ in range(rnd.choice((0, 0, 0, 1, 2))):
            place = rnd.randrange(len(fields) + 1)
            fields[place : place + rnd.randrange(2)] = [rnd.choice(ODD_FIELDS)]
        line = b"GET / HTTP/1.1" if rnd.random() < 0.95 else rnd.choice((b"GET", b"PUT / HTTP/1.0"))
        return b"\r\n".join((line, *fields, b"", b""))

    def frame(self) -> bytes:
        rnd = self.random
        opcode = rnd.choice((0, 1, 1, 1, 2, 8, 9, 10, rnd.randrange(16)))
        first = opcode | (0x80 if rnd.random() < 0.7 else 0) | (0x40 if rnd.random() < 0.03 else 0)
        parts = (
            SIP,
            SIP[: rnd.randrange(len(SIP))],
            b"",
            b"\r\n\r\n",
            rnd.randbytes(50),
            b"x" * 3000,
        )
        data = rnd.choice(parts)
        if rnd.random() < 0.03:
            return bytes([first, 0xFF]) + rnd.randbytes(12)
        if len(data) > 125:
            return bytes([first, 0xFE]) + len(data).to_bytes(2, "big") + bytes(4) + data
        mask = 0x80 if rnd.random() < 0.97 else 0
        return bytes([first, mask | len(data)]) + bytes(4 if mask else 0) + data

    def connection(self) -> None:
        rnd = self.random
        wire = Wire(rnd.choice(("127.0.0.1", "127.0.0.2")))
        connection: Any = self.streams._accept("ws")
        connection.connection_made(wire)
        data = self.upgrade() + b"".join(self.frame() for _ in range(rnd.randrange(60)))
        if rnd.random() < 0.2:
            data = bytearray(data)
            for _ in range(rnd.randrange(4)):
                data[rnd.randrange(len(data))] = rnd.randrange(256)
            data = bytes(data)
        while data and not wire.closed:
            size = rnd.choice((1, 7, 100, 5000, len(data)))
            connection.data_received(data[:size])
            data = data[size:]
        assert sum(map(len, connection._parts)) <= 16384
        connection.connection_lost(None)


def test_whatever_is_said_over_a_websocket() -> None:
    async def main() -> None:
        fuzz = Fuzz(SEED)
        end, number = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            fuzz.connection()
            number += 1
        assert not fuzz.streams._by_link, SEED
        assert len(fuzz.streams._web.places) == 0, SEED  # type: ignore[union-attr]
        assert number > 50
        seen = {name.partition("_")[2].partition("_")[0] for name in fuzz.counted}
        assert seen == {"refused", "cut"}, (SEED, fuzz.counted)

    try:
        asyncio.run(main())
    except Exception as error:
        raise AssertionError(f"RELAY_FUZZ_SEED={SEED}") from error
