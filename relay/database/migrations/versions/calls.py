"""Call records: calls, legs, recordings, and parties to find them by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "calls"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("node", sa.String(255), nullable=False),
        sa.Column("policy", sa.String(128), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("answered", TIME),
        sa.Column("ended", TIME),
        sa.Column("status", sa.Integer),
        sa.Column("ended_by", sa.Text, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("redacted", TIME),
        sa.Column("sealed", sa.Text),
        sa.Column("receipt", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
    )
    op.create_index("ix_calls_started", "calls", ["started", "id"])
    op.create_index("ix_calls_node_stage", "calls", ["node", "stage"])
    op.create_table(
        "legs",
        _of_call("legs"),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("side", sa.String(8), nullable=False),
        sa.Column("peer", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("transport", sa.String(8), nullable=False),
        sa.Column("codec", sa.String(32), nullable=False),
        sa.Column("encryption", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("packets", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("relayed", sa.BigInteger, nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
        sa.Column("jitter_ms", sa.Float, nullable=False),
        sa.Column("mos", sa.Float),
        sa.Column("drops", sa.JSON, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.PrimaryKeyConstraint("call_id", "position", name="pk_legs"),
    )
    op.create_index("ix_legs_peer", "legs", ["peer"])
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(128), nullable=False),
        _of_call("recordings"),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("codec", sa.String(32), nullable=False),
        sa.Column("channels", sa.Integer, nullable=False),
        sa.Column("keys", sa.JSON, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("relayed", sa.BigInteger, nullable=False),
        sa.Column("recorded", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_recordings"),
    )
    op.create_index("ix_recordings_call_id", "recordings", ["call_id"])
    op.create_table(
        "parties",
        sa.Column("party", sa.String(64), nullable=False),
        _of_call("parties"),
        sa.PrimaryKeyConstraint("party", "call_id", name="pk_parties"),
    )
    op.create_index("ix_parties_call_id", "parties", ["call_id"])


def downgrade() -> None:
    for table in ("parties", "recordings", "legs", "calls"):
        op.drop_table(table)


def _of_call(table: str) -> sa.Column[str]:
    key = sa.ForeignKey("calls.id", name=f"fk_{table}_call_id", ondelete="CASCADE")
    return sa.Column("call_id", sa.String(64), key, nullable=False)
