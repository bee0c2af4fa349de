"""Bringing the tables up to date, and whether they are (Alembic)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from relay.errors import DatabaseUnavailable

LOCK = 0x72656C6179  # "relay": what PostgreSQL's advisory lock is taken on


def upgrade(connection: Connection) -> None:
    """In the transaction of `connection`. Raises DatabaseUnavailable for tables of a newer
    version than this one."""
    if missing(connection):
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")


def steps() -> list[str]:
    """All there are, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return [each.revision for each in script.walk_revisions()][::-1]


def missing(connection: Connection) -> list[str]:
    """The migrations that it still lacks, oldest first. Raises DatabaseUnavailable."""
    script = ScriptDirectory.from_config(_config())
    known = {each.revision: each for each in script.walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    for revision in present:
        if revision not in known:
            raise DatabaseUnavailable(
                f"the database is of a newer version of the relay (migration {revision}): "
                "update this node"
            )
    applied = {each.revision for each in script.iterate_revisions(present, "base")}
    return [revision for revision in reversed(known) if revision not in applied]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    return config
