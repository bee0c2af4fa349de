"""Grants in the database: sealed, so that who can write a row still cannot approve one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from relay.access.grant import Approval, Grant, Scope, State
from relay.access.view import grant as shown
from relay.database.session import Database
from relay.database.tables import GRANTS
from relay.errors import NotKept
from relay.keys.ring import KeyRing


class KeptGrants:
    """All of one region's. Raises DatabaseUnavailable, KeyMissing, and NotAuthentic for a row
    that the relay did not write."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self._keys = keys

    async def add(self, grant: Grant) -> None:
        row = {"id": grant.id, "requester": grant.requester, "requested": grant.requested}
        async with self._database.writing() as connection:
            await connection.execute(insert(GRANTS).values(**row, **self._sealed(grant, 1)))

    async def find(self, grant_id: str) -> Grant | None:
        async with self._database.reading() as connection:
            found = await connection.execute(select(GRANTS).where(GRANTS.c.id == grant_id))
            row = found.one_or_none()
        return None if row is None else self._opened(row)

    async def of(self, requester: str) -> list[Grant]:
        """Those that somebody asked for, the latest first."""
        chosen = select(GRANTS).where(GRANTS.c.requester == requester)
        async with self._database.reading() as connection:
            rows = await connection.execute(chosen.order_by(GRANTS.c.requested.desc()))
            return [self._opened(row) for row in rows]

    async def all(self) -> list[Grant]:
        """The latest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(GRANTS).order_by(GRANTS.c.requested.desc()))
            return [self._opened(row) for row in rows]

    async def change(self, grant_id: str, change: Callable[[Grant], Grant]) -> Grant:
        """Replace one by what `change` makes of it, with nothing in between. Raises NotKept, and
        whatever `change` raises: nothing is changed then."""
        chosen = select(GRANTS).where(GRANTS.c.id == grant_id).with_for_update()
        async with self._database.writing() as connection:
            row = (await connection.execute(chosen)).one_or_none()
            if row is None:
                raise NotKept("there is no such grant")
            made = change(self._opened(row))
            sealed = self._sealed(made, row.version + 1)
            await connection.execute(update(GRANTS).where(GRANTS.c.id == grant_id).values(sealed))
        return made

    def _sealed(self, grant: Grant, version: int) -> dict[str, Any]:
        plain = json.dumps(shown(grant)).encode()
        sealed = self._keys.personal.seal(plain, _context(grant.id, grant.requester, version))
        return {"version": version, "sealed": sealed}

    def _opened(self, row: Row[Any]) -> Grant:
        plain = self._keys.personal.open(row.sealed, _context(row.id, row.requester, row.version))
        return _grant_of(json.loads(plain))


def _context(grant_id: str, requester: str, version: int) -> str:
    """One row's state opens for no other row or requester, and not under another version."""
    return f"grant {grant_id} {requester} {version}"


def _grant_of(said: dict[str, Any]) -> Grant:
    """Of what `access.view.grant` made of it."""
    scope = said["scope"]
    return Grant(
        **{
            **said,
            "scope": Scope(
                frozenset(scope["records"]),
                scope["peer"],
                _time(scope["since"]),
                _time(scope["until"]),
            ),
            "requested": _time(said["requested"]),
            "until": _time(said["until"]),
            "state": State(said["state"]),
            "approvals": tuple(
                Approval(each["by"], datetime.fromisoformat(each["at"]))
                for each in said["approvals"]
            ),
            "revoked": _time(said["revoked"]),
        }
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
