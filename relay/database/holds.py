"""Legal holds in the database. Of a person the number or identity is kept, sealed: a hold is good
for what comes after a new key of blind indexes, too."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from relay.access.erasure import Hold, Scope
from relay.database.rows import named
from relay.database.session import Database
from relay.database.tables import HOLDS
from relay.errors import NotKept
from relay.keys.ring import KeyRing


class LegalHolds:
    """All of one region's. Raises DatabaseUnavailable, and KeyMissing when a hold cannot be read:
    then nothing is erased either."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def all(self) -> list[Hold]:
        """The released ones, too, oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(HOLDS).order_by(HOLDS.c.since, HOLDS.c.id))
            return [self._hold(row) for row in rows.mappings()]

    async def set(
        self, hold_id: str, scope: Scope, subject: str, reason: str, by: str, now: datetime
    ) -> None:
        """`subject`: the name of an account or trunk, a number or identity, or a call's id."""
        if scope == "person":
            sealed = self._keys.personal.seal(subject.encode(), f"hold {hold_id}")
            subject = base64.b64encode(sealed).decode()
        row = {
            "id": hold_id,
            "scope": scope,
            "subject": subject,
            "reason": reason,
            "since": now,
            "set_by": by,
            "released_by": "",
        }
        async with self._database.writing() as connection:
            await connection.execute(insert(HOLDS), row)

    async def release(self, hold_id: str, by: str, now: datetime) -> None:
        """Raises NotKept for one that is not there, or is released already."""
        this = (HOLDS.c.id == hold_id) & HOLDS.c.released.is_(None)
        async with self._database.writing() as connection:
            released = update(HOLDS).where(this).values(released=now, released_by=by)
            if not (await connection.execute(released)).rowcount:
                raise NotKept(f"there is no hold {hold_id} in force")

    def _hold(self, row: Mapping[Any, Any]) -> Hold:
        subjects: tuple[str, ...] = (row["subject"],)
        if row["scope"] == "person":
            sealed = base64.b64decode(row["subject"])
            person = self._keys.personal.open(sealed, f"hold {row['id']}").decode()
            subjects = self._keys.indexes(*named(person))
        return Hold(
            row["id"],
            row["scope"],
            subjects,
            row["reason"],
            row["since"],
            row["set_by"],
            row["released"],
            row["released_by"],
        )
