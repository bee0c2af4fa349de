"""Erasures, tombstones and legal holds; what was exported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "erasures"
down_revision = "calls"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("set_by", sa.Text, nullable=False),
        sa.Column("released", TIME),
        sa.Column("released_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("made", TIME, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
    )
    op.create_table(
        "tombstones",
        sa.Column("party", sa.String(64), nullable=False),
        sa.Column("erasure_id", sa.String(64), nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("before", TIME, nullable=False),
        sa.PrimaryKeyConstraint("party", "erasure_id", name="pk_tombstones"),
    )
    op.create_table(
        "erased_calls",
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("erasure_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("call_id", name="pk_erased_calls"),
    )
    op.create_index("ix_erased_calls_erasure_id", "erased_calls", ["erasure_id"])
    op.create_table(
        "removals",
        sa.Column("object", sa.String(512), nullable=False),
        sa.Column("recording_id", sa.String(128), nullable=False),
        sa.Column("erasure_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("removed", TIME),
        sa.PrimaryKeyConstraint("object", name="pk_removals"),
    )
    op.create_index("ix_removals_erasure_id", "removals", ["erasure_id"])
    op.create_index("ix_removals_removed", "removals", ["removed"])
    op.create_table(
        "exports",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("made", TIME, nullable=False),
        sa.Column("made_by", sa.Text, nullable=False),
        sa.Column("recipient", sa.String(255), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("numbers", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
