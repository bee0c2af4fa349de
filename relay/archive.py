"""What a node and the commands of its operator share: the region's keys and what is kept.

A second composition root, below the server: each part is opened when it is first asked for, so a
command opens what it needs and no more.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import socket
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from relay.access.erasing import Erasing
from relay.access.granting import Granting
from relay.access.reading import Reading
from relay.access.roles import Policy
from relay.access.staff import StaffTokens
from relay.config import Config, read_revoked
from relay.config.manifest import manifest_of
from relay.database.anchors import Anchors
from relay.database.audit_files import AuditFiles
from relay.database.audit_log import WrittenAuditLog
from relay.database.call_records import CallRecords
from relay.database.erasures import Erasures
from relay.database.exports import Exports
from relay.database.grants import KeptGrants
from relay.database.holds import LegalHolds
from relay.database.session import Database
from relay.errors import KeyMissing, ManifestRefused
from relay.keys import pem
from relay.keys.ring import PURPOSES, KeyRing
from relay.keys.state import KeyState
from relay.recording.catalogue import Catalogue
from relay.recording.store import Store, open_store
from relay.residency.audit import Actor
from relay.residency.boundary import Boundary
from relay.residency.manifest import SIGN, check, digest, parse, verify
from relay.residency.receipt import receipt_of
from relay.residency.record import CallRecord
from relay.residency.signing import signed

USED = (KeyState.PRIMARY, KeyState.ENABLED)


class Archive:
    """One region's, as its configuration has it. Parts raise RelayError when they cannot open."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def boundary(self) -> Boundary:
        region = self.config.region
        return Boundary(region.networks, region.enforce)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the configuration and the keys that are in use make it now."""
        return manifest_of(self.config, self._keys_in_use())

    @cached_property
    def policy(self) -> str:
        """The version of the policy, as call records and receipts name it."""
        return digest(self.manifest)

    def check_manifest(self) -> str:
        """The id of the key that signed what the configuration says, or "" where no signature is
        wanted. Raises ManifestRefused, KeyMissing."""
        region = self.config.region
        if region.signing_key is None:
            return ""
        if region.manifest is None:
            raise ManifestRefused(
                "region.signing_key wants a signed manifest, and there is no region.manifest"
            )
        try:
            document = parse(Path(region.manifest).read_bytes())
            by = verify(document, pem.read_public(region.signing_key))
        except OSError as error:
            raise ManifestRefused(f"{region.manifest}: {error.strerror}: {SIGN}") from None
        except ManifestRefused as error:
            raise ManifestRefused(f"{region.manifest} {error}") from None
        check(document, self.manifest)
        return by

    def _keys_in_use(self) -> dict[str, list[str]]:
        """By purpose; a file that is not there, or cannot be used, has none."""
        found: dict[str, list[str]] = {}
        for purpose in PURPOSES:
            with contextlib.suppress(KeyMissing):
                found[purpose] = [
                    key.id for key in self.keys.listed([purpose]) if key.state in USED
                ]
        return found

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

    def receipt(self, record: CallRecord) -> dict[str, Any]:
        """The signed receipt of a call that is final. Raises KeyMissing."""
        return signed(receipt_of(record), self.keys.signer)

    @cached_property
    def anchors(self) -> Anchors:
        """Who is told the checkpoints of the audit log."""
        audit = self.config.audit
        return Anchors(audit.anchors, Path(audit.directory), self.boundary, audit.anchor_ca)

    @cached_property
    def store(self) -> Store:
        """Recordings; one that is erased is shipped no more, and one that no call's record names
        is not yet. While the database cannot say, it waits in the spool."""
        store = open_store(self.config.recording, self.boundary)
        store.erased, store.claimed = self.erasures.is_erased, self.call_records.claims
        return store

    @cached_property
    def erasures(self) -> Erasures:
        return Erasures(self.database, self.keys)

    @cached_property
    def holds(self) -> LegalHolds:
        return LegalHolds(self.database, self.keys)

    @cached_property
    def exports(self) -> Exports:
        return Exports(self.database)

    @cached_property
    def erasing(self) -> Erasing:
        """Erasures carried through, in database and store."""
        return Erasing(
            *(self.erasures, self.holds, self.store, self.audit),
            signer=lambda: self.keys.signer,
            clock=lambda: datetime.now(UTC),
            node=node_of(self.config),
        )

    @property
    def retention_days(self) -> dict[str, float]:
        """Of the trunks and accounts that have one, by name."""
        peers = self.config.peers
        return {peer.name: peer.retention_days for peer in peers if peer.retention_days is not None}

    @cached_property
    def granting(self) -> Granting:
        grants = KeptGrants(self.database, self.keys)
        policy = Policy.of(self.config)
        return Granting(policy, grants, self.audit, self.audit, lambda: secrets.token_hex(6))

    @cached_property
    def reading(self) -> Reading:
        """The one way to what is kept of persons."""
        return Reading(
            *(self.granting, self.call_records, self.recordings),
            *(self.audit, self.audit, self.keys.pseudonym_key),
        )

    async def close(self) -> None:
        """What was opened of it, but for the database: `session.opened` closes that."""
        if "audit" in self.__dict__:
            self.audit.close()
        if "store" in self.__dict__:
            await self.store.close()

    def staff_tokens(self) -> StaffTokens:
        """With what is revoked now. Raises CertificateError for a key that cannot be read."""
        access = self.config.access
        keys = {key.id: key.read() for key in access.keys}
        revoked = read_revoked(access.revoked) if access.revoked is not None else frozenset()
        speaks_for = {key.id: key.jurisdictions for key in access.keys}
        return StaffTokens(self.config.region.id, keys, revoked, speaks_for)

    @cached_property
    def recordings(self) -> Catalogue:
        find = self.call_records.of_recording
        return Catalogue(find, self.store, self.keys, self.config.region.id)


def node_of(config: Config) -> str:
    """This node's name, the same at its next start."""
    return f"{socket.gethostname()} {config.sip.listen[0]}"


def host_actor() -> Actor:
    """Who runs a command on this node: in the audit log, the user and the host."""
    user = os.getuid()  # not what the environment calls it
    with contextlib.suppress(KeyError):
        return Actor("host", f"{pwd.getpwuid(user).pw_name}@{socket.gethostname()}")
    return Actor("host", f"{user}@{socket.gethostname()}")
