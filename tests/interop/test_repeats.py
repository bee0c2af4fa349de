"""A caller on a bare socket that sends everything twice, before a strict SIPp callee."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from tests.interop.region import DEADLINE_S, Region, need, region
from tests.interop.sipp_run import answering, assert_all

SDP = (
    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
)


class Caller:
    """Sends and receives whole messages over UDP."""

    def __init__(self, r: Region) -> None:
        self.own, self.relay = r.pbx, r.relay
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.own.host, self.own.port))
        self.received: list[bytes] = []

    def send(self, method: str, number: int, to: str, body: str = "", times: int = 1) -> None:
        lines = [
            f"{method} sip:+35315550199@{self.relay} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.own};branch=z9hG4bK-{method}-{number}",
            f"From: <sip:+35315550100@{self.own}>;tag=a",
            f"To: {to}",
            f"Call-ID: repeats@{self.own.host}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:+35315550100@{self.own}>",
            "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
        for _ in range(times):
            self.socket.sendto(data, (self.relay.host, self.relay.port))

    def wait(self, status: int, method: str, count: int = 1) -> list[bytes]:
        """Until `count` such responses have arrived."""
        deadline = time.monotonic() + DEADLINE_S
        while len(found := self.responses(status, method)) < count:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.received.append(self.socket.recv(65536))
        return found

    def responses(self, status: int, method: str) -> list[bytes]:
        pattern = rf"(?s)SIP/2.0 {status} .*CSeq: \d+ {method}\r\n".encode()
        return [message for message in self.received if re.match(pattern, message)]


def test_repeated_messages_change_nothing(tmp_path: Path) -> None:
    """INVITE, ACK and BYE each twice: the callee sees one of each, the caller the same answers.

    RFC 3261 sections 17.2.1 and 17.2.2: a repeated request gets the last response again.
    """
    need("sipp")
    with region(tmp_path) as r, answering("uas_strict", r.carrier, "-m", "1") as callee:
        caller = Caller(r)
        to = f"<sip:+35315550199@{r.relay}>"
        caller.send("INVITE", 1, to, SDP.format(host=r.pbx.host), times=2)
        answer = caller.wait(200, "INVITE")[0]
        header = re.search(rb"\r\nTo: ([^\r]+)", answer)
        assert header is not None
        to = header[1].decode()
        caller.send("ACK", 1, to, times=2)
        caller.send("BYE", 2, to, times=2)
        first, second = caller.wait(200, "BYE", 2)
        assert first == second
        caller.send("ACK", 1, to)  # late: the call is over
        r.ended()
        assert_all(callee.wait())
        assert len(r.process.find("call_started")) == 1
        assert not caller.responses(481, "BYE")
        caller.socket.close()
