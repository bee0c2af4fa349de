"""rtpengine in userspace as a peer of the media figures: its process and control protocol."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from bench.srtp_keys import SUITE, fresh_key, session_text
from relay.sdp.description import SrtpKey, SrtpKeys

CONTROL_PORT = 2223
_CRYPTO = re.compile(rb"a=crypto:\d+ " + SUITE.encode() + rb" inline:([A-Za-z0-9+/=]+)")


def bencode(value: object) -> bytes:
    """The encoding of rtpengine's control protocol."""
    if isinstance(value, dict):
        items = sorted(value.items())
        return b"d" + b"".join(bencode(k) + bencode(v) for k, v in items) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(bencode(item) for item in value) + b"e"
    if isinstance(value, int):
        return b"i%de" % value
    data = str(value).encode()
    return b"%d:%s" % (len(data), data)


class Rtpengine:
    """rtpengine's control protocol, as far as a call needs it."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, port))
        self._socket.settimeout(3)
        self._cookie = 0

    def ask(self, **request: object) -> bytes:
        self._cookie += 1
        cookie = b"c%d " % self._cookie
        named = {name.replace("_", "-"): value for name, value in request.items()}
        self._socket.send(cookie + bencode(named))
        while True:
            reply = self._socket.recv(65536)
            if reply.startswith(cookie):
                return reply[len(cookie) :]

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 10
        while True:
            try:
                if b"pong" in self.ask(command="ping"):
                    return
            except (ConnectionRefusedError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def call(
        self, call_id: str, host: str, ports: tuple[int, int], secure: bool
    ) -> list[tuple[int, int, str]]:
        """Both legs of a call from and to `host`; with `secure` the caller's is SRTP.

        Each leg is (our port, rtpengine's port, session keys for the generator).
        """
        key = fresh_key() if secure else None
        more: dict[str, object] = {"transport_protocol": "RTP/AVP"} if secure else {}
        to_callee = self._describe("offer", call_id, sdp(host, ports[0], key), **more)
        more = {"transport_protocol": "RTP/SAVP"} if secure else {}
        to_caller = self._describe("answer", call_id, sdp(host, ports[1], None), to_tag="b", **more)
        keys = None
        if key is not None:
            crypto = _CRYPTO.search(to_caller)
            if crypto is None or b"a=crypto" in to_callee:
                raise RuntimeError("rtpengine did not put SRTP on the caller's leg alone")
            inline = base64.b64decode(crypto[1])
            keys = SrtpKeys((key,), SrtpKey(SUITE, inline[:16], inline[16:30]))
        return [
            (ports[0], media_port(to_caller), session_text(keys)),
            (ports[1], media_port(to_callee), session_text(None)),
        ]

    def _describe(self, command: str, call_id: str, text: str, **more: object) -> bytes:
        return self.ask(
            command=command, call_id=call_id, from_tag="a", sdp=text, ICE="remove", **more
        )


def sdp(host: str, port: int, key: SrtpKey | None) -> str:
    """A description of one PCMU stream, SRTP with a key."""
    text = (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/{'AVP' if key is None else 'SAVP'} 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
    if key is None:
        return text
    return text + f"a=crypto:1 {SUITE} inline:{base64.b64encode(key.key + key.salt).decode()}\r\n"


def media_port(reply: bytes) -> int:
    return int(reply.split(b"m=audio ")[1].split(b" ")[0])


@contextlib.contextmanager
def rtpengine(host: str, ports: tuple[int, int]) -> Iterator[tuple[int, Rtpengine]]:
    """The running daemon: its process id, and a client."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [
                *("rtpengine", "--table=-1", f"--interface={host}", "--foreground"),
                *(f"--listen-ng={host}:{CONTROL_PORT}", "--log-stderr", "--log-level=3"),
                *(f"--port-min={ports[0]}", f"--port-max={ports[1]}", "--config-file=none"),
            ],
            stdout=log,
            stderr=log,
        )
        try:
            client = Rtpengine(host, CONTROL_PORT)
            client.wait()
            yield process.pid, client
        finally:
            process.terminate()
            process.wait(10)
