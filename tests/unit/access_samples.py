"""Staff, grants and calls for the tests of access."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from relay.access.roles import Policy, Role, Staff
from relay.residency.record import CallRecord, LegRecord, RecordingRecord, Seen
from tests.unit.token_samples import PRIVATE, WALL

NOW = datetime.fromtimestamp(WALL, UTC)
HOUR = timedelta(hours=1)
POLICY = Policy("ie1", ("EU",), 1, 72 * HOUR)
CALLER, CALLED = "+353861234567", "+4915112345678"


def staff(name: str, *roles: str, jurisdiction: str = "EU") -> Staff:
    return Staff(name, jurisdiction, frozenset(map(Role, roles)), NOW + HOUR)


MAEVE = staff("maeve", "reviewer")
AOIFE = staff("aoife", "approver")
BRIAN = staff("brian", "approver", "reviewer")
JANE = staff("jane", "reviewer", "approver", jurisdiction="US")


def call(id_: str = "c1", started: datetime = NOW, peer: str = "acme", **more: Any) -> CallRecord:
    """Answered, a minute and a half long, recorded."""
    said: dict[str, Any] = {
        "region": "ie1",
        "node": "n1",
        "policy": "p1",
        "caller": CALLER,
        "called": CALLED,
        "answered": started + timedelta(seconds=5),
        "ended": started + timedelta(seconds=95),
        "status": 200,
        "legs": (
            LegRecord(
                *("caller", peer, "trunk"),
                number=CALLER,
                sip_call_id="abc@192.0.2.7",
                seen=(Seen("media", "192.0.2.7", 4000, True, True),),
            ),
            LegRecord("callee", "app", "client", identity="alice", number=CALLED),
        ),
        "recording": RecordingRecord(f"r-{id_}", f"2026/{id_}.rec", "PCMU", 2),
    }
    return CallRecord(id=id_, started=started, **(said | more))


def staff_token(key: Any = PRIVATE, typ: str = "staff+jwt", kid: str = "s1", **changes: Any) -> str:
    """A good token with changed claims; None leaves one out."""
    said: dict[str, Any] = {
        "sub": "maeve",
        "region": "ie1",
        "jurisdiction": "EU",
        "roles": ["reviewer"],
        "iat": WALL,
        "exp": WALL + 3600,
        "jti": "t1",
    }
    claims = {name: value for name, value in (said | changes).items() if value is not None}
    return jwt.encode(claims, key, "ES256", headers={"kid": kid, "typ": typ})
