"""Session timers, reliable responses and keys in INFO: what their header fields and bodies say."""

from __future__ import annotations

import pytest

from relay.call.alarms import Alarms
from relay.errors import MalformedMessage
from relay.sip.dtmf_info import pressed
from relay.sip.fields import Headers
from relay.sip.message import Request, Response
from relay.sip.options import requires, supports
from relay.sip.reliable import RAck, is_next, rseq_of
from relay.sip.session_timer import SessionExpires, agree, is_too_short, min_se, session_expires


def request(method: str = "INVITE", body: bytes = b"", **headers: str) -> Request:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(method, "sip:192.0.2.1", Headers(fields), body)


class TestSessionExpires:
    """RFC 4028 section 4."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1800", (1800, "")),
            ("90;refresher=uac", (90, "uac")),
            (" 4000 ; Refresher=UAS ;x=y", (4000, "uas")),
        ],
    )
    def test_values(self, text: str, expected: tuple[int, str]) -> None:
        assert SessionExpires.parse(text) == expected

    @pytest.mark.parametrize("text", ["", "x", "-5", "1800;refresher=me", "9" * 30, "1;;=2"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(MalformedMessage):
            SessionExpires.parse(text)
        assert session_expires(request(Session_Expires=text)) is None

    def test_the_compact_form_is_the_same_field(self) -> None:
        assert session_expires(request(x="600")) == (600, "")

    @pytest.mark.parametrize(
        ("text", "expected"), [("", 90), ("x", 90), ("30", 90), ("300", 300), ("300;a=b", 300)]
    )
    def test_min_se_is_90_at_least(self, text: str, expected: int) -> None:
        assert min_se(request(Min_SE=text)) == expected

    # Section 9, table 2: who refreshes, by what the peer knows and asks for.
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, None),
            ({"Supported": "timer"}, "1800;refresher=uac"),
            ({"Supported": "timer", "Session_Expires": "600"}, "600;refresher=uac"),
            ({"Supported": "timer", "Session_Expires": "600;refresher=uac"}, "600;refresher=uac"),
            ({"Supported": "timer", "Session_Expires": "600;refresher=uas"}, "600;refresher=uas"),
            ({"Require": "timer", "Session_Expires": "9000"}, "1800;refresher=uac"),
            ({"Session_Expires": "600"}, "600;refresher=uas"),  # asked for by a proxy
            ({"Supported": "timer", "Min_SE": "4000"}, "4000;refresher=uac"),
        ],
    )
    def test_what_a_2xx_says(self, headers: dict[str, str], expected: str | None) -> None:
        agreed = agree(request(**headers), 1800, 90)
        assert (str(agreed) if agreed else None) == expected

    def test_a_trunk_without_timers_takes_what_it_is_asked_for(self) -> None:
        assert agree(request(Supported="timer"), 0, 90) is None
        asked = request(Supported="timer", Session_Expires="5000")
        assert agree(asked, 0, 90) == (5000, "uac")

    def test_only_who_knows_timers_is_told_that_one_is_too_short(self) -> None:
        assert is_too_short(request(Supported="timer", Session_Expires="60"), 90)
        assert not is_too_short(request(Session_Expires="60"), 90)
        assert not is_too_short(request(Supported="timer", Session_Expires="90"), 90)


class TestReliable:
    """RFC 3262 sections 3 and 4."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("776656 1 INVITE", (776656, 1, "INVITE")),
            (" 1  2  INVITE ", (1, 2, "INVITE")),
            ("1 INVITE", None),
            ("x 1 INVITE", None),
            ("99999999999 1 INVITE", None),
            ("", None),
        ],
    )
    def test_rack(self, text: str, expected: tuple[int, int, str] | None) -> None:
        assert RAck.of(request("PRACK", RAck=text)) == expected

    @pytest.mark.parametrize(
        ("status", "headers", "expected"),
        [
            (180, [("Require", "100rel"), ("RSeq", "7")], 7),
            (183, [("Require", "precondition, 100REL"), ("RSeq", "7")], 7),
            (180, [("RSeq", "7")], None),
            (180, [("Require", "100rel")], None),
            (180, [("Require", "100rel"), ("RSeq", "seven")], None),
            (100, [("Require", "100rel"), ("RSeq", "7")], None),
            (200, [("Require", "100rel"), ("RSeq", "7")], None),
        ],
    )
    def test_rseq(self, status: int, headers: list[tuple[str, str]], expected: int | None) -> None:
        assert rseq_of(Response(status, None, Headers(headers))) == expected

    def test_order(self) -> None:
        assert is_next(None, 500) and is_next(500, 501)
        assert not is_next(500, 500) and not is_next(500, 499) and not is_next(500, 502)

    def test_option_tags(self) -> None:
        asks = request(Supported="replaces, 100rel", Require="timer")
        assert supports(asks, "100rel") and not requires(asks, "100rel")
        assert supports(asks, "timer") and requires(asks, "timer")
        assert not supports(asks, "path")


class TestKeys:
    @pytest.mark.parametrize(
        ("kind", "body", "expected"),
        [
            ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", ("5", 160)),
            ("application/dtmf-relay", b"signal = d\nduration = 80", ("D", 80)),
            ("application/dtmf-relay", b"Signal=10\r\n", ("*", None)),
            ("application/dtmf", b"#", ("#", None)),
            ("application/dtmf", b"Signal=3\r\nDuration=99999999\r\n", ("3", None)),
            ("Application/DTMF; charset=x", b" 1 \r\n", ("1", None)),
            ("application/dtmf", b"12", None),
            ("application/dtmf", b"", None),
            ("application/dtmf-relay", b"Signal=\r\n", None),
            ("application/dtmf-relay", "Signal=٣".encode(), None),
            ("application/sdp", b"5", None),
        ],
    )
    def test_info(self, kind: str, body: bytes, expected: tuple[str, int | None] | None) -> None:
        assert pressed(request("INFO", body, Content_Type=kind)) == expected


class TestAlarms:
    def test_dead_ones_are_swept_and_live_ones_come_in_order(self) -> None:
        woken: list[float] = []

        class Sleeper:
            def on_timer(self, now: float) -> None:
                woken.append(now)

        alarms = Alarms()
        kept = [alarms.set(Sleeper(), 1000.0 + n) for n in range(20)]
        for n in range(1000):
            alarms.set(Sleeper(), 500.0 + n).cancel()
        assert len(alarms) < 200
        kept[3].cancel()
        kept[3].cancel()  # twice is once
        for when in range(1000, 1020):
            for owner in alarms.due(float(when)):
                owner.on_timer(float(when))
        assert woken == [1000.0 + n for n in range(20) if n != 3]
        assert alarms.next_timer() is None and len(alarms) == 0

    def test_a_sweep_while_they_ring(self) -> None:
        """An owner that wakes may cancel a hundred others."""
        alarms = Alarms()
        woken: list[str] = []

        class Killer:
            def on_timer(self, now: float) -> None:
                woken.append("killer")
                for alarm in others:
                    alarm.cancel()

        class Victim:
            def on_timer(self, now: float) -> None:
                woken.append("victim")

        alarms.set(Killer(), 1.0)
        others = [alarms.set(Victim(), 2.0) for _ in range(300)]
        alarms.set(Victim(), 3.0)
        for owner in alarms.due(5.0):
            owner.on_timer(5.0)
        assert woken == ["killer", "victim"]
