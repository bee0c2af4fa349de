"""The completeness ledger: a JSON file beside each recording that says what is in it.

While the recording is being written it is `<name>.json.open` and holds what a repair would
need; at the end `<name>.json` takes its place in one step.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from relay.recording.envelope import Envelope
from relay.residency.record import RecordingRecord

MOST_GAPS = 1000
"""Gaps listed one by one; beyond that they are only counted."""
SUFFIX = ".json"
OPEN_SUFFIX = ".json.open"
VERSION = 2
"""1 had no envelope: those recordings were not encrypted."""


@dataclass(slots=True)
class SideLedger:
    """One side's packets. What was relayed is recorded, late, duplicate, other or dropped.

    `late` came after its place had been written. `other` is no audio of this recording
    (telephone events, comfort noise). `relayed` is what the engine counted, None when the
    recording was interrupted.
    """

    relayed: int | None = None
    recorded: int = 0
    late: int = 0
    duplicate: int = 0
    other: int = 0
    stream_changes: int = 0
    timestamp_jumps: int = 0
    gaps: int = 0
    gap_s: float = 0.0


@dataclass(slots=True)
class Gap:
    """Silence in a side's audio because nothing arrived for it. Seconds from the start."""

    side: str
    start_s: float
    duration_s: float


@dataclass(slots=True)
class Ledger:
    """Everything that is known of one recording. `started` carries its time zone."""

    call_id: str
    audio: str
    codec: str
    channels: list[str]
    started: datetime
    ended: datetime | None = None
    duration_s: float | None = None
    problem: str | None = None
    dropped: int = 0
    caller: SideLedger = field(default_factory=SideLedger)
    callee: SideLedger = field(default_factory=SideLedger)
    gaps: list[Gap] = field(default_factory=list)
    # How it is encrypted; `sealed` when its last segment is there. Digest and length are of the
    # encrypted octets.
    envelope: Envelope | None = None
    sealed: bool = False
    sha256: str = ""
    octets: int = 0
    # Whether the silence before and after is to be left out when it is played.
    trim_silence: bool = False

    @property
    def complete(self) -> bool:
        """Did every relayed packet of audio get into the recording?"""
        if self.problem is not None or self.dropped or self.ended is None:
            return False
        return all(
            side.relayed is not None and side.relayed <= side.recorded + side.duplicate + side.other
            for side in (self.caller, self.callee)
        )

    def close(self, duration_s: float, problem: str | None) -> None:
        """Set the end."""
        self.duration_s = round(duration_s, 6)
        self.ended = self.started + timedelta(seconds=duration_s)
        self.problem = problem

    def record(self, name: str) -> RecordingRecord:
        """What the call's record says of it; `name` is that of its object in the store."""
        sides = (self.caller, self.callee)
        return RecordingRecord(
            self.call_id,
            name,
            self.codec,
            len(self.channels),
            tuple(each.key for each in self.envelope.keys) if self.envelope else (),
            self.sha256,
            self.octets,
            self.duration_s or 0.0,
            sum(side.relayed or 0 for side in sides),
            sum(side.recorded for side in sides),
            self.complete,
            self.problem or "",
        )

    def encode(self) -> bytes:
        """As indented JSON, times as ISO 8601 with their offset."""
        document = {"version": VERSION, "complete": self.complete, **asdict(self)}
        document["started"] = self.started.isoformat()
        document["ended"] = self.ended.isoformat() if self.ended else None
        return json.dumps(document, indent=1).encode() + b"\n"


def open_path(wav: Path) -> Path:
    """Where the ledger of a recording is while it is being written."""
    return wav.with_suffix(OPEN_SUFFIX)


def begin(wav: Path, ledger: Ledger) -> None:
    """Write the ledger of a recording that starts. Raises OSError."""
    _write_new(open_path(wav), ledger.encode())


def finish(wav: Path, ledger: Ledger) -> None:
    """Replace it by the final one. Raises OSError.

    On a full disk it is written over the open one, whose space is there, without the gaps.
    """
    final, temporary = wav.with_suffix(".json"), wav.with_suffix(".json.tmp")
    try:
        temporary.unlink(missing_ok=True)
        _write_new(temporary, ledger.encode())
        os.replace(temporary, final)
        open_path(wav).unlink(missing_ok=True)
    except OSError:
        temporary.unlink(missing_ok=True)
        ledger.gaps.clear()
        with open_path(wav).open("r+b") as file:
            file.write(ledger.encode())
            file.truncate()
        os.replace(open_path(wav), final)


def of(wav: Path) -> Ledger:
    """The ledger of a recording, whether it is closed or not. Raises OSError, ValueError."""
    try:
        return read(wav.with_suffix(".json"))
    except FileNotFoundError:
        return read(open_path(wav))


def read(path: Path) -> Ledger:
    """A ledger as it was written. Raises OSError, ValueError."""
    try:
        return parse(path.read_bytes())
    except ValueError as mistake:
        raise ValueError(f"{path}: {mistake}") from mistake


def parse(octets: bytes) -> Ledger:
    """The same of its octets. Raises ValueError."""
    document = json.loads(octets)
    try:
        del document["version"], document["complete"]
        for name in ("started", "ended"):
            document[name] = document[name] and datetime.fromisoformat(document[name])
        for name in ("caller", "callee"):
            document[name] = SideLedger(**document[name])
        document["gaps"] = [Gap(**gap) for gap in document["gaps"]]
        document["envelope"] = Envelope.of(document.get("envelope"))
        return Ledger(**document)
    except (KeyError, TypeError, AttributeError) as mistake:
        raise ValueError(f"not a ledger of this relay: {mistake!r}") from mistake


def _write_new(path: Path, octets: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(octets)
