"""Grants: who asked to read what, who approved it, and how it ended; sealed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "grants"
down_revision = "erasures"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("requester", sa.String(64), nullable=False),
        sa.Column("requested", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index("ix_grants_requester", "grants", ["requester"])
    op.create_index("ix_grants_requested", "grants", ["requested"])
