"""A call's record as rows, and back; what is personal is sealed before it is in one.

Rows are plain JSON values, so that the queue keeps them as they are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from relay.errors import KeyMissing, NotAuthentic
from relay.keys.ring import KeyRing
from relay.residency.record import CallRecord, LegRecord, RecordingRecord, Seen

Row = dict[str, Any]

FINAL = 2
"""The stage of a call of which nothing more will be known."""
_TIMES = ("started", "answered", "ended")
_OF_CALL = ("caller", "called", "reason")
_OF_LEG = ("identity", "number", "sip_call_id", "silence", "seen")
_CALL_COLUMNS = tuple(
    each.name
    for each in fields(CallRecord)
    if each.name not in (*_OF_CALL, "legs", "recording", "redacted")
)
_LEG_COLUMNS = tuple(each.name for each in fields(LegRecord) if each.name not in _OF_LEG)
_SEPARATORS = str.maketrans("", "", "-.() ")


@dataclass(frozen=True, slots=True)
class Rows:
    """What is kept of one call: a row of `calls`, and those that belong to it."""

    call: Row
    legs: Sequence[Row] = ()
    recording: Row | None = None
    parties: Sequence[str] = ()

    @property
    def id(self) -> str:
        return str(self.call["id"])

    def encode(self) -> bytes:
        parts = (self.call, self.legs, self.recording, self.parties)
        return json.dumps(parts, separators=(",", ":")).encode()

    @staticmethod
    def decode(octets: bytes) -> Rows:
        """Raises ValueError or TypeError for what `encode` did not make."""
        return Rows(*json.loads(octets))

    def redacted(self) -> Rows:
        """Without what is personal."""
        bare = {"sealed": None, "receipt": None}
        legs = [{**leg, "sealed": None} for leg in self.legs]
        return Rows({**self.call, **bare}, legs, self.recording)


def rows_of(record: CallRecord, keys: KeyRing, receipt: Mapping[str, Any] | None = None) -> Rows:
    """Sealed under the region's personal keys; without them what is personal is left out."""
    try:
        return _rows(record, keys, receipt)
    except KeyMissing:
        return _rows(record, None, None)


def _rows(record: CallRecord, keys: KeyRing | None, receipt: Mapping[str, Any] | None) -> Rows:
    call: Row = {name: getattr(record, name) for name in _CALL_COLUMNS}
    for name in _TIMES:
        call[name] = call[name] and call[name].isoformat()
    call["stage"] = stage(record)
    call["sealed"] = _seal(
        keys, _of_call(record.id, record.started, record.recording), _some(record, _OF_CALL)
    )
    call["receipt"] = receipt and _seal(keys, _context(record.id, "receipt"), receipt)
    legs = []
    for position, leg in enumerate(record.legs):
        sealed = _seal(keys, _of_leg(record.id, position, leg.peer), _some(leg, _OF_LEG))
        row: Row = {name: getattr(leg, name) for name in _LEG_COLUMNS}
        legs.append(row | {"call_id": record.id, "position": position, "sealed": sealed})
    recording = None
    if record.recording is not None:
        recording = {"call_id": record.id, **asdict(record.recording)}
        recording["keys"] = list(record.recording.keys)
    return Rows(call, legs, recording, _parties(record, keys))


def record_of(
    call: Mapping[str, Any],
    legs: Sequence[Mapping[str, Any]],
    recording: Mapping[str, Any] | None,
    keys: KeyRing,
) -> CallRecord:
    """What the rows of a call say, as they come from the database. What is personal is empty when
    it was left out, or redacted. Raises KeyMissing when its key is gone, NotAuthentic when it is
    not this row's, or what grants go by (time, peers, recording) is not what it was sealed with."""
    found = {name: call[name] for name in _CALL_COLUMNS}
    kept = None if recording is None else recording_of(recording)
    opened = _open(keys, _of_call(call["id"], call["started"], kept), call["sealed"])
    if opened and any(leg["sealed"] is None for leg in legs):
        raise NotAuthentic(f"the record of call {call['id']} has a leg that it was not kept with")
    found["redacted"] = call["redacted"] is not None
    return CallRecord(
        **found, **opened, legs=tuple(_leg_of(leg, keys) for leg in legs), recording=kept
    )


def recording_of(row: Mapping[Any, Any]) -> RecordingRecord:
    """What a row of `recordings` says."""
    plain = {name: value for name, value in row.items() if name != "call_id"}
    return RecordingRecord(**{**plain, "keys": tuple(plain["keys"])})


def receipt_of(call: Mapping[str, Any], keys: KeyRing) -> dict[str, Any] | None:
    """The receipt beside a call, if there is one. Raises KeyMissing when its key is gone."""
    if call["receipt"] is None:
        return None
    return _open(keys, _context(call["id"], "receipt"), call["receipt"])


def stage(record: CallRecord) -> int:
    """How far a call was: 0 it lasts, 1 it ended, 2 nothing more will be known of it."""
    return 0 if record.ended is None else FINAL if record.final else 1


def named(value: str) -> tuple[str, str]:
    """What a blind index is made of: a number, however it is written, or an identity."""
    digits = value.translate(_SEPARATORS).removeprefix("+")
    if digits.isascii() and digits.isdigit():
        return "number", digits
    return "identity", value.casefold()


def _leg_of(row: Mapping[str, Any], keys: KeyRing) -> LegRecord:
    opened = _open(keys, _of_leg(row["call_id"], row["position"], row["peer"]), row["sealed"])
    seen = tuple(Seen(**each) for each in opened.pop("seen", ()))
    plain = {name: row[name] for name in _LEG_COLUMNS}
    return LegRecord(**plain, **opened, seen=seen)


def _parties(record: CallRecord, keys: KeyRing | None) -> list[str]:
    if keys is None:
        return []
    values = {record.caller, record.called}
    for leg in record.legs:
        values |= {leg.identity, leg.number}
    return sorted({keys.index(*named(value)) for value in values if value})


def _context(call_id: str, what: str) -> str:
    """A sealed column opens in its own row only."""
    return f"{call_id} {what}"


def _of_call(call_id: str, started: datetime, recording: RecordingRecord | None) -> str:
    audio = recording.id if recording is not None else ""
    return _context(call_id, f"call {started.astimezone(UTC).isoformat()} {audio}")


def _of_leg(call_id: str, position: int, peer: str) -> str:
    return _context(call_id, f"leg {position} {peer}")


def _seal(keys: KeyRing | None, context: str, document: Mapping[str, Any]) -> str | None:
    if keys is None:
        return None
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    plain = text.encode("utf-8", "replace")  # a peer may have written what is no UTF-8
    return base64.b64encode(keys.personal.seal(plain, context)).decode()


def _open(keys: KeyRing, context: str, sealed: str | None) -> dict[str, Any]:
    if sealed is None:
        return {}
    opened: dict[str, Any] = json.loads(keys.personal.open(base64.b64decode(sealed), context))
    return opened


def _some(record: CallRecord | LegRecord, names: Sequence[str]) -> Row:
    found = {name: getattr(record, name) for name in names}
    if "seen" in found:
        found["seen"] = [asdict(each) for each in found["seen"]]
    return found


def instants(row: Row) -> Row:
    """A row of `calls` with its times as the database takes them."""
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in _TIMES}
    return {**row, **times}
