"""Strangers on real sockets: scanners hear nothing, the banned cannot connect, trunks call on."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.interop.region import DEADLINE_S, Party, need, region
from tests.interop.sipp_run import answering, assert_all, call

LIMITS = "[limits]\nban_after = 4\nban_s = 600.0\nscanner_numbers = ['900']\n"


def _options(own: Party, number: int, agent: str, user: str = "+35315550199") -> bytes:
    return (
        f"OPTIONS sip:{user}@region SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{number};rport\r\n"
        f"From: <sip:100@{own}>;tag={number}\r\nTo: <sip:{user}@region>\r\n"
        f"Call-ID: {number}@{own.host}\r\nCSeq: 1 OPTIONS\r\n"
        f"User-Agent: {agent}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def test_a_scanner_is_banned_and_the_trunks_do_not_notice(tmp_path: Path) -> None:
    need("sipp")
    with (
        region(tmp_path, more=LIMITS) as r,
        answering("uas_pcma", r.carrier),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        relay = (r.relay.host, r.relay.port)
        stranger.bind((r.stranger.host, r.stranger.port))
        stranger.settimeout(DEADLINE_S)
        stranger.sendto(_options(r.stranger, 1, "a phone"), relay)
        assert stranger.recv(65536).startswith(b"SIP/2.0 403")
        for number in range(2, 6):
            user = "900442" if number % 2 else "100"
            agent = "a phone" if number % 2 else "Friendly-Scanner"
            stranger.sendto(_options(r.stranger, number, agent, user), relay)
        banned = r.process.wait("source_banned", DEADLINE_S)
        assert banned["source"] == r.stranger.host
        stranger.sendto(_options(r.stranger, 7, "a phone"), relay)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.settimeout(DEADLINE_S)
            stream.bind((r.stranger.host, 0))
            stream.connect(relay)
            try:
                assert stream.recv(100) == b""
            except ConnectionResetError:
                pass  # refused either way
        assert_all(call("uac", r.pbx, r.relay, "-d", "100", calls=5), 5)
        r.process.process.send_signal(signal.SIGUSR1)
        status = r.process.wait("status", DEADLINE_S)
        assert status["guard"] == {"scanner_dropped": 4, "banned": 1, "banned_dropped": 1}
        assert status["sip"]["tcp_refused_banned"] == 1
        stranger.setblocking(False)
        try:
            assert not stranger.recv(65536), "an answer to a scanner"
        except BlockingIOError:
            pass


def test_a_trunk_that_floods_rubbish_harms_no_call(tmp_path: Path) -> None:
    """From the PBX's own address: never banned, answered a little, calls go on."""
    need("sipp")
    with (
        region(tmp_path, more=LIMITS) as r,
        answering("uas_pcma", r.carrier),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rubbish,
    ):
        rubbish.bind((r.pbx.host, 0))
        broken = _options(r.pbx, 1, "x").replace(b"User-Agent: x", b"no header")
        for _ in range(300):
            rubbish.sendto(broken, (r.relay.host, r.relay.port))
        assert_all(call("uac", r.pbx, r.relay, "-d", "100", calls=5), 5)
        r.process.process.send_signal(signal.SIGUSR1)
        status = r.process.wait("status", DEADLINE_S)
        assert status["guard"]["malformed_dropped"] > 200
        assert not r.process.find("source_banned")
