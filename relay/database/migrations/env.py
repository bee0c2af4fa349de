"""Alembic runs this: in the connection and the transaction of `relay.database.migration`."""

from __future__ import annotations

from alembic import context

from relay.database.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
