"""Holds N calls up through the relay: both ends in one thread, no media of its own.

For the figures that need many standing calls with known RTP ports. It answers what the
relay asks of it and no more; SIPp makes the calls wherever the calls come and go.
"""

from __future__ import annotations

import re
import select
import socket
import time

from bench.common import CALLEE, CALLER, RELAY
from bench.relay_cost import PEER

WINDOW = 20  # calls being set up at a time
DEADLINE_S = 60.0
MEDIA = PEER  # both ends' RTP: where the load generator of bench (a) is
Leg = tuple[int, int, str]  # the own RTP port, the relay's, no SRTP keys

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


class Callers:
    """`set_up()` makes the calls and leaves them; `legs` are their RTP ends."""

    def __init__(self, count: int, first_port: int = 10000) -> None:
        self.count = count
        self.first_port = first_port
        self.legs: list[Leg] = []
        self._started = 0
        self._answers: dict[str, bytes] = {}  # by Call-ID, for a repeated INVITE
        self._confirmed = 0
        self._uac = _bound(CALLER)
        self._uas = _bound(CALLEE)

    def set_up(self, count: int) -> None:
        """Until `count` calls are up. Raises TimeoutError when not in time."""
        deadline = time.monotonic() + DEADLINE_S
        while self._confirmed < count:
            while self._started < min(count, self._confirmed + WINDOW):
                self._invite(self._started)
                self._started += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._confirmed} of {count} calls in {DEADLINE_S:g} s")
            for ready in select.select([self._uac, self._uas], [], [], 0.5)[0]:
                message = ready.recv(65536).decode()
                self._response(message) if ready is self._uac else self._request(message)

    def close(self) -> None:
        self._uac.close()
        self._uas.close()

    def _invite(self, number: int) -> None:
        body = SDP.format(host=MEDIA, port=self.first_port + 4 * number)
        here = f"{CALLER[0]}:{CALLER[1]}"
        self._uac.send(
            (
                f"INVITE sip:+35315550199@{RELAY[0]}:{RELAY[1]} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {here};branch=z9hG4bK-{number}\r\n"
                f"From: <sip:+35315550100@{here}>;tag={number}\r\n"
                f"To: <sip:+35315550199@{RELAY[0]}>\r\nCall-ID: bench-{number}\r\n"
                f"CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:bench@{here}>\r\n"
                f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )

    def _response(self, message: str) -> None:
        status = int(message.split(" ", 2)[1])
        if status < 200 or _header(message, "CSeq") != "1 INVITE":
            return
        if status != 200:
            raise RuntimeError(f"a call was refused:\n{message}")
        number = int(_header(message, "Call-ID").removeprefix("bench-"))
        contact = _header(message, "Contact").strip("<>").split(">")[0]
        fields = "".join(f"{name}: {_header(message, name)}\r\n" for name in ("From", "To"))
        self._uac.send(
            (
                f"ACK {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER[0]}:{CALLER[1]};"
                f"branch=z9hG4bK-ack-{number}\r\n{fields}Call-ID: bench-{number}\r\n"
                "CSeq: 1 ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            ).encode()
        )
        self.legs.append((self.first_port + 4 * number, _media_port(message), "- -"))
        self._confirmed += 1

    def _request(self, message: str) -> None:
        method = message.split(" ", 1)[0]
        if method != "INVITE":
            return
        call_id = _header(message, "Call-ID")
        if call_id in self._answers:
            self._uas.send(self._answers[call_id])
            return
        number = len(self._answers)
        port = self.first_port + 4 * number + 2
        self.legs.append((port, _media_port(message), "- -"))
        body = SDP.format(host=MEDIA, port=port)
        names = ("Via", "From", "Call-ID", "CSeq")
        fields = "".join(f"{name}: {_header(message, name)}\r\n" for name in names)
        self._answers[call_id] = (
            f"SIP/2.0 200 OK\r\n{fields}To: {_header(message, 'To')};tag=b{number}\r\n"
            f"Contact: <sip:bench@{CALLEE[0]}:{CALLEE[1]}>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._uas.send(self._answers[call_id])


def _bound(address: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    made.bind(address)
    made.connect(RELAY)
    return made


def _header(message: str, name: str) -> str:
    found = re.search(rf"(?im)^{name}:\s*(.*?)\r$", message)
    return found.group(1) if found else ""


def _media_port(message: str) -> int:
    port = re.search(r"m=audio (\d+)", message)
    if port is None:
        raise RuntimeError(f"no usable SDP:\n{message}")
    return int(port.group(1))
