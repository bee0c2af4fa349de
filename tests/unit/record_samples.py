"""Records of calls, as the tests of the database need them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.residency.record import CallRecord, LegRecord, RecordingRecord, Seen

STARTED = datetime(2026, 11, 3, 9, 30, 0, 250000, UTC)
CALLER, CALLED = "+4915112345678", "+35315550199"


def ongoing(call_id: str = "c1", at_s: float = 0.0, node: str = "n1") -> CallRecord:
    """A call that was answered."""
    started = STARTED + timedelta(seconds=at_s)
    return CallRecord(
        id=call_id,
        region="ie1",
        node=node,
        policy="sha256:00",
        started=started,
        caller=CALLER,
        called=CALLED,
        answered=started + timedelta(seconds=4),
        status=200,
        legs=(
            LegRecord(
                "caller",
                "pbx",
                "trunk",
                number=CALLER,
                sip_call_id="secret-call-id@192.0.2.77",
                transport="tls",
                codec="PCMA",
                encryption="AES_CM_128_HMAC_SHA1_80",
                seen=(Seen("media", "192.0.2.77", 40000, True, True),),
            ),
            LegRecord("callee", "app", "client", identity="alice", transport="wss", codec="OPUS"),
        ),
    )


def ended(record: CallRecord, after_s: float = 60.0, recorded: bool = False) -> CallRecord:
    """The same call when it was over; its recording may not be closed yet."""
    figures = {"packets": 3000, "octets": 516000, "relayed": 2999, "lost": 1}
    return replace(
        record,
        ended=record.started + timedelta(seconds=after_s),
        ended_by="caller hung up",
        legs=tuple(
            replace(leg, **figures, jitter_ms=1.5, mos=4.3, drops={"late": 1})
            for leg in record.legs
        ),
        recording=RecordingRecord(record.id, "", "PCMA", 2) if recorded else None,
    )


def final(record: CallRecord) -> CallRecord:
    """The same call once its recording is closed."""
    closed = RecordingRecord(
        *(record.id, f"2026/11/03/{record.id}.rec", "PCMA", 2, ("k1",), "ab" * 32),
        *(960044, 60.0, 5998, 5998, True),
    )
    return replace(record, recording=closed)
