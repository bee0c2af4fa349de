"""The tables of call records, as the newest migration leaves them.

What is personal (numbers, identities, addresses, SIP Call-IDs) is in `sealed` only; `parties` finds
a call by a number without holding one. Other columns are of no person.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import JSON

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """A time with its zone, kept in UTC; SQLite forgets zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value  # type: ignore[no-any-return]
        return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


def _of_call(**more: Any) -> Column[str]:
    return Column("call_id", String(64), ForeignKey("calls.id", ondelete="CASCADE"), **more)


CALLS = Table(
    "calls",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("region", String(64), nullable=False),
    Column("node", String(255), nullable=False),
    Column("policy", String(128), nullable=False),
    Column("started", Instant, nullable=False),
    Column("answered", Instant),
    Column("ended", Instant),
    Column("status", Integer),
    Column("ended_by", Text, nullable=False),
    # How far it was when this was written: a later row is never replaced by an earlier one.
    Column("stage", Integer, nullable=False),
    Column("redacted", Instant),
    Column("sealed", Text),  # caller, called and the reason in full
    Column("receipt", Text),  # the signed receipt, sealed as well
    Index("ix_calls_started", "started", "id"),
    Index("ix_calls_node_stage", "node", "stage"),
)

LEGS = Table(
    "legs",
    METADATA,
    _of_call(primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("side", String(8), nullable=False),
    Column("peer", String(255), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("transport", String(8), nullable=False),
    Column("codec", String(32), nullable=False),
    Column("encryption", String(64), nullable=False),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
    Column("packets", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("relayed", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("jitter_ms", Float, nullable=False),
    Column("mos", Float),
    Column("drops", JSON, nullable=False),
    Column("sealed", Text),  # identity, number, SIP Call-ID, addresses
    Index("ix_legs_peer", "peer"),
)

RECORDINGS = Table(
    "recordings",
    METADATA,
    Column("id", String(128), primary_key=True),
    _of_call(nullable=False, index=True),
    Column("object", Text, nullable=False),
    Column("codec", String(32), nullable=False),
    Column("channels", Integer, nullable=False),
    Column("keys", JSON, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("relayed", BigInteger, nullable=False),
    Column("recorded", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("problem", Text, nullable=False),
)

PARTIES = Table(
    "parties",
    METADATA,
    Column("party", String(64), primary_key=True),  # a blind index of what `rows.named` says
    _of_call(primary_key=True, index=True),
)

HOLDS = Table(
    "holds",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("scope", String(16), nullable=False),
    Column("subject", Text, nullable=False),  # sealed
    Column("reason", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("released", Instant),
    Column("released_by", Text, nullable=False),
)

ERASURES = Table(
    "erasures",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("region", String(64), nullable=False),
    Column("entity", Text, nullable=False),
    Column("made", Instant, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("reference", Text, nullable=False),
)

# Of this party nothing from before then is kept, however late it comes.
TOMBSTONES = Table(
    "tombstones",
    METADATA,
    Column("party", String(64), primary_key=True),
    Column("erasure_id", String(64), primary_key=True),
    Column("account", String(64), nullable=False),  # in calls of this one only, if any
    Column("before", Instant, nullable=False),
)

ERASED_CALLS = Table(
    "erased_calls",
    METADATA,
    Column("call_id", String(64), primary_key=True),
    Column("erasure_id", String(64), nullable=False, index=True),
)

# Recordings that are erased: also those that are not removed from the store yet.
REMOVALS = Table(
    "removals",
    METADATA,
    Column("object", String(512), primary_key=True),
    Column("recording_id", String(128), nullable=False),
    Column("erasure_id", String(64), nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("removed", Instant, index=True),
)

EXPORTS = Table(
    "exports",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("made", Instant, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("recipient", String(255), nullable=False),
    Column("period", String(16), nullable=False),
    Column("calls", Integer, nullable=False),
    Column("numbers", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
)

GRANTS = Table(
    "grants",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("requester", String(64), nullable=False, index=True),
    Column("requested", Instant, nullable=False, index=True),
    # Of its state, which is sealed for this version only.
    Column("version", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)
