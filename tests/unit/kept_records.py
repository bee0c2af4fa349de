"""Call records for tests: a customer's PBX calls numbers through a carrier."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from relay.residency.record import CallRecord, LegRecord, RecordingRecord, Seen

STARTED = datetime(2026, 11, 3, 14, 2, 31, tzinfo=UTC)
CALLER, CALLED = "+35315550111", "+4930901820"
PREFIXES = ("+3531555", "+4930901", "+33140205", "+1212555")


def recording(of: str) -> RecordingRecord:
    digest = hashlib.sha256(of.encode()).hexdigest()
    return RecordingRecord(
        f"rec-{of}",
        f"2026/11/{of}.rec",
        "PCMU",
        2,
        ("ie1-1",),
        digest,
        4096,
        42.0,
        4200,
        4200,
        True,
    )


def call(
    name: str = "c1",
    caller: str = CALLER,
    called: str = CALLED,
    started: datetime = STARTED,
    spoken_s: float | None = 42.0,
    account: str = "acme",
    mos: float = 4.4,
    recorded: bool = True,
) -> CallRecord:
    """One that was answered after 4 s and has ended, or was refused with 486."""
    answered = None if spoken_s is None else started + timedelta(seconds=4)
    ended = started + timedelta(seconds=4 + (spoken_s or 0))
    legs = (
        LegRecord(
            side="caller",
            peer=account,
            kind="trunk",
            number=caller,
            sip_call_id=f"{name}@pbx.example",
            codec="PCMU",
            status=200 if answered else 486,
            mos=mos,
            seen=(Seen("media", "192.0.2.17", 40000, True, True),),
        ),
        LegRecord(
            side="callee",
            peer="carrier",
            kind="trunk",
            number=called,
            sip_call_id=f"{name}@relay.example",
            codec="PCMU",
            status=200 if answered else 486,
            mos=mos,
            seen=(Seen("media", "198.51.100.9", 30000, True, True),),
        ),
    )
    return CallRecord(
        id=name,
        region="ie1",
        node="n1",
        policy="sha256:abc",
        started=started,
        caller=caller,
        called=called,
        answered=answered,
        ended=ended,
        status=200 if answered else 486,
        ended_by="caller",
        legs=legs,
        recording=recording(name) if recorded and answered else None,
    )


def month(calls: int, callers: int, seed: int = 5) -> list[CallRecord]:
    """Many calls of November 2026, some callers far busier than others."""
    chance = random.Random(seed)
    numbers = [f"{chance.choice(PREFIXES)}{at:04}" for at in range(callers)]
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    records = []
    for at in range(calls):
        caller = numbers[min(int(chance.expovariate(4 / callers)), callers - 1)]
        record = call(
            f"{chance.getrandbits(64):016x}",
            caller,
            f"{chance.choice(PREFIXES)}{chance.randrange(9000) + 1000}",
            begin + timedelta(seconds=chance.randrange(30 * 86400)),
            None if at % 7 == 0 else chance.expovariate(1 / 120),
            chance.choice(("acme", "acme", "initech")),
            chance.choice((4.4, 4.4, 4.0, 3.1)),
        )
        records.append(record)
    return records


def client_call(name: str = "c9", identity: str = "alice") -> CallRecord:
    """Of a voice client, who has an identity and a caller number."""
    record = call(name)
    leg = replace(record.legs[0], peer="app", kind="client", identity=identity)
    return replace(record, legs=(leg, record.legs[1]))
