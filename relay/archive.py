"""What a node and the commands of its operator share: the region's keys and what is kept.

A second composition root, below the server: each part is opened when it is first asked for, so a
command opens what it needs and no more.
"""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from relay.config import Config
from relay.database.audit_files import AuditFiles
from relay.database.audit_log import WrittenAuditLog
from relay.database.call_records import CallRecords
from relay.database.session import Database
from relay.keys.ring import KeyRing
from relay.recording.store import Store, open_store
from relay.residency.audit import Actor
from relay.residency.boundary import Boundary


class Archive:
    """One region's, as its configuration has it. Parts raise RelayError when they cannot open."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def boundary(self) -> Boundary:
        region = self.config.region
        return Boundary(region.networks, region.enforce)

    @cached_property
    def keys(self) -> KeyRing:
        """Never fails here: what uses a key that is not there raises KeyMissing."""
        return KeyRing(self.config.keys.directory)

    @cached_property
    def database(self) -> Database:
        """Not connected yet, and its tables as they are: `Database.open` brings them up to date."""
        return Database(self.config.database, self.boundary)

    @cached_property
    def call_records(self) -> CallRecords:
        return CallRecords(self.database, self.keys)

    @cached_property
    def audit(self) -> WrittenAuditLog:
        """The node's audit log; who opens it for a node closes it."""
        audit = self.config.audit
        files = AuditFiles(
            Path(audit.directory),
            self.config.region.id,
            socket.gethostname(),
            lambda: datetime.now(UTC),
        )
        return WrittenAuditLog(
            files, lambda: self.keys.signer, audit.checkpoint_entries, audit.checkpoint_s
        )

    @cached_property
    def store(self) -> Store:
        return open_store(self.config.recording, self.boundary)


def host_actor() -> Actor:
    """Who runs a command on this node: in the audit log, the user and the host."""
    return Actor("host", f"{getpass.getuser()}@{socket.gethostname()}")
