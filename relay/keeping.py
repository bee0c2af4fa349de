"""What a node does with what it keeps, beside its calls: opened before the first, closed after the
last.

Records go through their queue to the database, recordings from the spool to their store, entries to
the audit log; staff ask over the API. `server` has the calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from relay import __version__
from relay.archive import Archive, node_of
from relay.call.ports import Journal, RecordingEnded
from relay.config import Config
from relay.database.postgres import check_host
from relay.database.queue import RecordQueue
from relay.database.queue_file import QueueFile
from relay.database.session import Database
from relay.errors import AuditUnavailable, KeyMissing, ManifestRefused, RelayError
from relay.recording import spool
from relay.recording.repair import repair_all
from relay.recording.shipper import Shipper
from relay.residency.audit import RELAY
from relay.upkeep import Upkeep

if TYPE_CHECKING:
    from fastapi import FastAPI

    from relay.control.access import Access

LAST_SHIPPED_S = 5.0  # for the recordings of the last calls to get to their place


class Keeping:
    """Of one node. Making it looks after what an earlier run left; raises RelayError for what a
    node must not start with."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config = config
        self._log = structlog.get_logger()
        self.archive = Archive(config)
        self.signed_by = self._check_manifest()
        self.spool = Path(config.recording.spool)
        self._check_keys()
        self.records = self._queue_of_records()
        self._repair()
        self._shipper = Shipper(self.archive.store, journal)
        self._upkeep = Upkeep(self.archive)
        self._access: Access | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.archive.audit.on_checkpoint = self.archive.anchors.offer

    def api(self, on_bug: Callable[[BaseException], None]) -> FastAPI:
        """The API for staff. Raises CertificateError for a key that cannot be read."""
        # Imported here: a node without [http] starts without its memory and half a second.
        from relay.control.access import Access
        from relay.control.api import api

        archive = self.archive
        self._access = Access(
            *(archive.staff_tokens(), archive.reading, archive.granting, archive.audit),
            *(lambda: datetime.now(UTC), on_bug),
        )
        return api(self._access)

    async def check(self) -> None:
        """Store and database, as far as they can be reached. Raises RelayError for one that may
        never be used."""
        if self._is_recording:
            await self._check_store()
        if not self.archive.database.is_embedded:
            await check_host(self._config.database, self.archive.boundary)

    async def begin(self) -> None:
        """The node serves from now on."""
        await self._upkeep.open()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._shipper.run()), loop.create_task(self._upkeep.run())]
        policy = self.archive.policy
        self.archive.audit.note("relay-started", RELAY, version=__version__, policy=policy)
        if not self.archive.boundary.enforce:
            networks = [str(network) for network in self._config.region.networks]
            self._log.warning("boundary_not_enforced", networks=networks)

    def on_recording_ended(self, ended: RecordingEnded) -> None:
        """What was closed is to be shipped."""
        if ended.record is not None and ended.record.object:
            self._shipper.add(ended.record.object)

    def revoke_staff(self, ids: Collection[str]) -> None:
        """These tokens of staff are not taken any more."""
        if self._access is not None:
            self._access.tokens.revoked = ids

    async def ship_last(self) -> None:
        """No call is left: what the store does not take soon stays in the spool."""
        await self._shipper.finish(LAST_SHIPPED_S)
        for task in self._tasks:
            task.cancel()
        await self.archive.store.close()

    async def close(self) -> None:
        """The last records, and the last entry of the audit log."""
        await self.archive.database.close()
        await asyncio.to_thread(self.records.close)
        self.archive.audit.note("relay-stopped", RELAY)
        self.archive.audit.close()
        self.archive.anchors.close()

    def counters(self) -> dict[str, dict[str, int]]:
        """For the status, by part."""
        audit, anchors = self.archive.audit.counters, self.archive.anchors.counters
        return {
            "store": {"waiting": self._shipper.waiting, **self._shipper.counters},
            "audit": {**audit, **anchors},
            "access": dict(self._access.counters) if self._access is not None else {},
            "records": {"waiting": self.records.waiting, **self.records.counters},
        }

    @property
    def _is_recording(self) -> bool:
        return any(peer.recording != "do-not-record" for peer in self._config.peers)

    def _check_manifest(self) -> str:
        """Who signed it, or "". Raises ManifestRefused, of which the audit log hears, or
        KeyMissing."""
        try:
            return self.archive.check_manifest()
        except ManifestRefused:
            with contextlib.suppress(AuditUnavailable):
                self.archive.audit.enter("manifest-refused", RELAY, policy=self.archive.policy)
            raise

    def _check_keys(self) -> None:
        """Without keys a region carries calls and records none."""
        try:
            self.archive.keys.check()
        except KeyMissing as missing:
            self._log.warning("keys_missing", problem=str(missing))
            self.archive.audit.note("keys-missing", RELAY)

    def _queue_of_records(self) -> RecordQueue:
        """Raises StoreError. Its thread has a connection to the database of its own."""
        settings = self._config.database
        return RecordQueue(
            QueueFile(Path(settings.queue)),
            Database(settings, self.archive.boundary),
            self.archive.keys,
            node_of(self._config),
            settings.queue_records,
            self.archive.receipt,
        )

    def _repair(self) -> None:
        """Look after the spool before anything is served. Raises StoreError."""
        if self._is_recording:
            spool.check_writable(self.spool)
        for found in repair_all(self.spool, self.archive.keys):
            self._log.warning(
                "recording_repaired",
                call=found.call_id,
                path=str(found.path),
                duration_s=round(found.duration_s, 3),
                problem=found.problem,
            )
        for name, entry in spool.left(self.spool):  # what was to be recorded died with that run
            if not entry.ended:
                entry.close(0.0, "interrupted, not repaired")
            self.records.repaired(entry.call_id, entry.record(name))

    async def _check_store(self) -> None:
        try:
            await self._shipper.check()
        except RelayError:
            with contextlib.suppress(AuditUnavailable):
                self.archive.audit.enter("store-refused", RELAY, self._config.recording.store)
            raise
