"""What was exported, to whom: so that a report can count it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import insert, select

from relay.database.session import Database
from relay.database.tables import EXPORTS


@dataclass(frozen=True, slots=True)
class Exported:
    """One export; `sha256` is of the document that lists its files."""

    id: str
    made: datetime
    made_by: str
    recipient: str
    period: str
    calls: int
    numbers: int
    sha256: str


class Exports:
    """All of one region's. Raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, export: Exported) -> None:
        async with self._database.writing() as connection:
            await connection.execute(insert(EXPORTS), asdict(export))

    async def all(self) -> list[Exported]:
        """Oldest first."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(EXPORTS).order_by(EXPORTS.c.made))
            return [Exported(**row) for row in rows.mappings()]
