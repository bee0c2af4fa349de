"""The audit log as the relay uses it: entries from the event loop, written by a thread.

Nobody waits for the disk but who asked to: a note is put aside and written with the next ones,
equal notes as one entry.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from itertools import islice
from typing import Any

import structlog

from relay.database.audit_files import AuditFiles
from relay.errors import AuditUnavailable, KeyMissing
from relay.residency.audit import RELAY, Actor, Draft
from relay.residency.signing import Signer

NOTES_S = 0.5  # how long a note may wait for others
MOST_NOTES = 4096  # different ones that wait; more are counted only
MOST_WAITING = 10_000  # entries that someone waits for
EXPORT_LINES = 1000  # that are read at once
RETRY_S = 5.0  # until notes that could not be written are tried again

_Note = tuple[str, Actor, str, tuple[tuple[str, str | int], ...]]


class WrittenAuditLog:
    """An `AuditLog` over files. The thread starts with the first entry that is for it.

    A checkpoint is signed after `checkpoint_entries` entries and `checkpoint_s` seconds after the
    last one, if `signer` (asked each time) has a key; `on_checkpoint` hears of it, in the thread.
    """

    def __init__(
        self,
        files: AuditFiles,
        signer: Callable[[], Signer],
        checkpoint_entries: int,
        checkpoint_s: float,
    ) -> None:
        self.files = files
        self.counters: Counter[str] = Counter()
        self.on_checkpoint: Callable[[dict[str, Any]], None] = lambda checkpoint: None
        self._signer = signer
        self._checkpoint_entries, self._checkpoint_s = checkpoint_entries, checkpoint_s
        self._log = structlog.get_logger()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._notes: Counter[_Note] = Counter()
        self._waiting: list[tuple[Draft, Future[int]]] = []
        self._notes_due = self._checkpoint_due = float("inf")
        self._failing = self._unsigned = ""
        self._sign_after = 0.0
        self._offered = 0

    def note(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> None:
        """Add an entry soon; never blocks, never raises."""
        note = (action, actor, subject, tuple(sorted(details.items())))
        with self._wake:
            if note not in self._notes and len(self._notes) >= MOST_NOTES:
                self.counters["notes_dropped"] += 1
                note = ("audit-notes-dropped", RELAY, "", ())
            if not self._notes:
                self._notes_due = time.monotonic() + NOTES_S
                self._wake_up()
            self._notes[note] += 1

    async def record(
        self, action: str, actor: Actor, subject: str = "", **details: str | int
    ) -> int:
        """Add an entry; its number, when it is on the disk. Raises AuditUnavailable."""
        future: Future[int] = Future()
        with self._wake:
            if self._closing or len(self._waiting) >= MOST_WAITING:
                why = "is closed" if self._closing else f"has {MOST_WAITING} entries to write"
                raise AuditUnavailable(f"the audit log {why}")
            self._waiting.append((Draft(action, actor, subject, details), future))
            self._wake_up()
        return await asyncio.wrap_future(future)

    def enter(self, action: str, actor: Actor, subject: str = "", **details: str | int) -> int:
        """The same, blocking. Raises AuditUnavailable."""
        return self.files.append([Draft(action, actor, subject, details)])[-1]

    async def lines(self, first: int = 1) -> AsyncIterator[bytes]:
        """The lines from entry `first` on, as they are in the log. Raises AuditUnavailable."""
        found = self.files.lines(first)
        while some := await asyncio.to_thread(lambda: list(islice(found, EXPORT_LINES))):
            for line in some:
                yield line

    def checkpoint(self) -> dict[str, Any]:
        """Sign what there is, blocking. Raises AuditUnavailable, KeyMissing."""
        return self.files.checkpoint(self._signer())

    async def export(self, first: int = 1, last: int | None = None) -> AsyncIterator[bytes]:
        """A sealed export, read by a thread. Raises AuditUnavailable, KeyMissing."""
        lines = self.files.export(self._signer(), first)
        while some := await asyncio.to_thread(lambda: list(islice(lines, EXPORT_LINES))):
            for line in some:
                yield line

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _wake_up(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
            self._thread.start()
        self._wake.notify()

    # --- the thread

    def _run(self) -> None:
        self._checkpoint_due = time.monotonic() + self._checkpoint_s
        while True:
            with self._wake:
                self._wake.wait_for(self._has_work, self._next_timer())
                waiting, self._waiting = self._waiting, []
                notes, closing = self._notes, self._closing
                if waiting or closing or time.monotonic() >= self._notes_due:
                    self._notes, self._notes_due = Counter(), float("inf")
                else:
                    notes = Counter()
            self._write(waiting, notes)
            self._sign(closing)
            if closing:
                return

    def _has_work(self) -> bool:
        return bool(self._waiting or self._closing or self._next_timer() <= 0)

    def _next_timer(self) -> float:
        due = min(self._notes_due, self._checkpoint_due)
        return max(0.0, min(due - time.monotonic(), threading.TIMEOUT_MAX))

    def _write(self, waiting: list[tuple[Draft, Future[int]]], notes: Counter[_Note]) -> None:
        wanted = [each for each in waiting if each[1].set_running_or_notify_cancel()]
        drafts = [_draft(note, times) for note, times in notes.items()]
        drafts += [draft for draft, _ in wanted]
        if not drafts:
            return
        try:
            numbers = self.files.append(drafts)
        except AuditUnavailable as error:
            self._failed(error)
            for _, future in wanted:
                future.set_exception(error)
            self._keep(notes)
            return
        except Exception as bug:  # nobody may wait for ever
            self._log.error("bug", exc_info=bug)
            for _, future in wanted:
                future.set_exception(AuditUnavailable("the audit log failed: see the log"))
            return
        self.counters["entries"] += len(numbers)
        if self._failing:
            self._failing = ""
            self._log.info("audit_available")
        for (_, future), number in zip(reversed(wanted), reversed(numbers), strict=False):
            future.set_result(number)

    def _keep(self, notes: Counter[_Note]) -> None:
        """Notes that could not be written are written later."""
        with self._wake:
            for note, times in notes.items():
                if note in self._notes or len(self._notes) < MOST_NOTES:
                    self._notes[note] += times
                else:
                    self.counters["notes_dropped"] += times
            if self._notes:
                self._notes_due = time.monotonic() + RETRY_S

    def _sign(self, closing: bool) -> None:
        """A checkpoint when one is due, or at the end of the process."""
        now = time.monotonic()
        due = now >= self._checkpoint_due
        if not (closing or due or now >= self._sign_after):
            return
        if due:
            self._checkpoint_due = now + self._checkpoint_s
        try:
            number, last = self.files.state()
            if last is not None and last["n"] > self._offered:  # of a command, or of before
                self._offer(last)
            added = number - (last["n"] if last is not None else 0)
            if added and (closing or due or added >= self._checkpoint_entries):
                made = self.checkpoint()
                self.counters["checkpoints"] += 1
                self._unsigned = ""
                self._checkpoint_due = now + self._checkpoint_s
                self._offer(made)
        except (AuditUnavailable, KeyMissing) as error:
            self._sign_after = now + RETRY_S
            self.counters["unsigned"] += 1
            if str(error) != self._unsigned:
                self._unsigned = str(error)
                self._log.error("audit_unsigned", problem=self._unsigned)

    def _offer(self, checkpoint: dict[str, Any]) -> None:
        self._offered = checkpoint["n"]
        self.on_checkpoint(checkpoint)

    def _failed(self, error: Exception) -> None:
        self.counters["failures"] += 1
        if str(error) != self._failing:
            self._failing = str(error)
            self._log.error("audit_unavailable", problem=self._failing)


def _draft(note: _Note, times: int) -> Draft:
    action, actor, subject, details = note
    return Draft(action, actor, subject, dict(details) | ({"times": times} if times > 1 else {}))
