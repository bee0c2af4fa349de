"""`relay` whose recordings are in clear and stay in the spool: what encryption is compared with.

    python -m bench.plain_recorder serve --config region.toml

For measurements on made-up audio alone; the relay itself has no such switch.
"""

from __future__ import annotations

import asyncio
import hashlib

from relay.cli import app
from relay.recording import recorder
from relay.recording.shipper import Shipper
from relay.recording.sink import Sink


class PlainSink:
    """In the place of `relay.recording.encryption.EncryptedSink`."""

    sealed = True
    sha256 = hashlib.sha256().hexdigest()

    def __init__(self, sink: Sink, *_: object) -> None:
        self._sink = sink
        self.octets = 0

    def append(self, octets: bytes) -> None:
        self._sink.append(octets)
        self.octets += len(octets)

    def close(self) -> None:
        self._sink.close()


async def _nothing(self: Shipper, *_: object) -> None:
    await asyncio.sleep(0)


if __name__ == "__main__":
    recorder.EncryptedSink = PlainSink  # type: ignore[attr-defined, assignment]
    Shipper.finish = Shipper.ship = _nothing  # type: ignore[method-assign, assignment]
    app()
