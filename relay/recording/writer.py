"""The thread that writes recordings: drains the tap, hands each block to its file.

One for the process, and the only place of the recorder that may block. A disk that is slow
holds up this thread and nothing else: the tap's ring fills, refuses packets, and what it
refused is listed in the ledgers of the calls that it belonged to. A disk that fails ends
the recordings that it fails for.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from relay.call.ports import RecordingEnded, Side
from relay.errors import RelayError
from relay.recording.ledger import MOST_GAPS, Gap, Ledger, SideLedger

DRAIN_S = 0.05
TICKS_PER_S = 8000
_log = logging.getLogger(__name__)

Pair = tuple[int, int]


class Totals(Protocol):
    """The tap's counts of one recording; pairs are (caller, callee)."""

    @property
    def recorded(self) -> Pair: ...
    @property
    def late(self) -> Pair: ...
    @property
    def duplicate(self) -> Pair: ...
    @property
    def other(self) -> Pair: ...
    @property
    def restarts(self) -> Pair: ...
    @property
    def jumps(self) -> Pair: ...
    @property
    def gaps(self) -> Pair: ...
    @property
    def gap_ticks(self) -> Pair: ...
    @property
    def dropped(self) -> int: ...


class Block(Protocol):
    """A piece of one recording, in order; the last one carries totals."""

    @property
    def tap(self) -> int: ...
    @property
    def first_tick(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def gaps(self) -> tuple[tuple[int, int, int], ...]: ...
    @property
    def totals(self) -> Totals | None: ...


class TapSource(Protocol):
    """The reading end of the tap (`relay.media.tap.TapReader`)."""

    def start(
        self, tap: int, companding: int, began_ns: int, dual: bool, opus_types: frozenset[int]
    ) -> None: ...
    def stop(self, tap: int, ended_ns: int = 0) -> None: ...
    def drain(self, now_ns: int) -> Sequence[Block]: ...
    @property
    def behind(self) -> bool: ...


class Container(Protocol):
    """A recording's file format around a sink. Raises OSError."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Opened:
    """What `open` of a recording gave: where it is, its object's name, how to end its ledger."""

    path: str
    name: str
    container: Container
    finish: Callable[[], None]


@dataclass(slots=True)
class Recording:
    """One recording that runs. `open` creates the file and its ledger (blocking)."""

    tap: int
    ledger: Ledger
    open: Callable[[], Opened]
    opus_types: frozenset[int] = frozenset()
    relayed: dict[Side, int] = field(default_factory=dict)
    opened: Opened | None = None
    tick: int = 0
    problem: str | None = None


Command = Callable[[dict[int, Recording]], None]


class Writer(threading.Thread):
    """Runs until `close`. `on_event` is called from this thread."""

    def __init__(
        self,
        tap: TapSource,
        on_event: Callable[[RecordingEnded], None],
        now_ns: Callable[[], int],
    ) -> None:
        super().__init__(name="recording-writer", daemon=True)
        self._tap = tap
        self._on_event = on_event
        self._now_ns = now_ns
        self._commands: deque[Command] = deque()
        self._recordings: dict[int, Recording] = {}
        self._wake = threading.Event()
        self._closing = False

    # -- from any thread; none of these blocks -----------------------------------------

    def begin(self, recording: Recording, companding: int, began_ns: int, dual: bool) -> None:
        """Expect blocks of a tap from now on."""

        def apply(recordings: dict[int, Recording]) -> None:
            if recording.tap in recordings:
                recording.problem = f"tap {recording.tap} is being recorded already"
                self._finish(recording)
                return
            recordings[recording.tap] = recording
            self._open(recording)

        # The command first: a block is never seen before its recording is known.
        self._commands.append(apply)
        with suppress(ValueError):  # taken: `apply` tells
            self._tap.start(recording.tap, companding, began_ns, dual, recording.opus_types)
        self._wake.set()

    def end(self, tap: int, relayed: dict[Side, int], ended_ns: int) -> None:
        """Write what the tap still holds, then the ledger."""

        def apply(recordings: dict[int, Recording]) -> None:
            if tap in recordings:
                recordings[tap].relayed = dict(relayed)

        self._commands.append(apply)
        self._tap.stop(tap, ended_ns)
        self._wake.set()

    def report(self, event: RecordingEnded) -> None:
        """Pass an event on, from the writer's thread like every other."""
        self._commands.append(lambda _: self._tell(event))
        self._wake.set()

    def close(self, timeout_s: float) -> bool:
        """End every recording and the thread; False when a disk held it up for too long."""
        self._closing = True
        self._wake.set()
        self.join(timeout_s)
        return not self.is_alive()

    # -- the thread ----------------------------------------------------------------------

    def run(self) -> None:
        while True:
            # Commands of this moment wake the next round at the latest.
            self._wake.wait(DRAIN_S if self._recordings else None)
            self._wake.clear()
            closing = self._closing
            if closing:
                self._end_all()
            self.step()
            if closing and not self._recordings and not self._commands:
                return
            if closing or self._tap.behind:
                self._wake.set()

    def step(self) -> None:
        """One drain of the tap, and all that follows from it."""
        blocks = self._tap.drain(self._now_ns())
        while self._commands:
            self._commands.popleft()(self._recordings)
        for block in blocks:
            recording = self._recordings.get(block.tap)
            if recording is not None:
                self._write(recording, block)

    def _end_all(self) -> None:
        while self._commands:
            self._commands.popleft()(self._recordings)
        now_ns = self._now_ns()
        for tap in self._recordings:
            self._tap.stop(tap, now_ns)

    def _open(self, recording: Recording) -> None:
        try:
            recording.opened = recording.open()
        except (OSError, RelayError) as failure:
            self._fail(recording, failure)

    def _write(self, recording: Recording, block: Block) -> None:
        if recording.opened is not None and recording.problem is None:
            try:
                if block.first_tick != recording.tick:
                    raise MemoryError("no memory for a block of audio")
                if block.data:
                    recording.opened.container.write(block.data)
                recording.tick += block.ticks
                self._note_gaps(recording, block)
            except (OSError, MemoryError) as failure:
                self._fail(recording, failure)
        if block.totals is not None:
            del self._recordings[recording.tap]
            self._count(recording, block.totals)
            self._finish(recording)

    def _note_gaps(self, recording: Recording, block: Block) -> None:
        room = MOST_GAPS - len(recording.ledger.gaps)
        for start, ticks, channel in block.gaps[:room]:
            side = "callee" if channel else "caller"
            recording.ledger.gaps.append(Gap(side, start / TICKS_PER_S, ticks / TICKS_PER_S))

    def _count(self, recording: Recording, totals: Totals) -> None:
        ledger = recording.ledger
        ledger.dropped = totals.dropped
        for side in Side:
            which: SideLedger = ledger.callee if side.value else ledger.caller
            which.relayed = recording.relayed.get(side)
            which.recorded = totals.recorded[side.value]
            which.late = totals.late[side.value]
            which.duplicate = totals.duplicate[side.value]
            which.other = totals.other[side.value]
            which.stream_changes = totals.restarts[side.value]
            which.timestamp_jumps = totals.jumps[side.value]
            which.gaps = totals.gaps[side.value]
            which.gap_s = totals.gap_ticks[side.value] / TICKS_PER_S

    def _fail(self, recording: Recording, failure: Exception) -> None:
        """Give up a recording; the tap's last block, which comes next, ends it."""
        text = getattr(failure, "strerror", None) or str(failure)
        what = (
            "nothing is recorded"
            if recording.opened is None
            else "the recording could not be written"
        )
        recording.problem = f"{what}: {text}"
        self._tap.stop(recording.tap, self._now_ns())

    def _finish(self, recording: Recording) -> None:
        ledger, opened = recording.ledger, recording.opened
        duration_s = recording.tick / TICKS_PER_S
        if recording.problem is None and ledger.dropped:
            recording.problem = f"{ledger.dropped} packets were not recorded: the disk was too slow"
        if opened is not None:
            self._attempt(recording, opened.container.close)
            ledger.close(duration_s, recording.problem)
            self._attempt(recording, opened.finish)
        else:
            ledger.close(0.0, recording.problem)
        path, name = (opened.path, opened.name) if opened is not None else ("", "")
        record = ledger.record(name)
        self._tell(RecordingEnded(ledger.call_id, path, duration_s, recording.problem, record))

    def _attempt(self, recording: Recording, close: Callable[[], None]) -> None:
        try:
            close()
        except OSError as failure:
            if recording.problem is None:
                recording.problem = f"the recording could not be closed: {failure.strerror}"

    def _tell(self, event: RecordingEnded) -> None:
        try:
            self._on_event(event)
        except Exception:  # the listener's bug must not end every recording
            _log.exception("a listener of recording events failed")
