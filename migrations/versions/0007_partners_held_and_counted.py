"""partners held and counted"""

import sqlalchemy as sa
from alembic import op

from medportal.db.types import Id, UTCDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partner_hold",
        sa.Column("partner", sa.String(31), nullable=False),
        sa.Column("since", UTCDateTime(timezone=True), nullable=False),
        sa.Column("by", Id(length=32), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("partner", name=op.f("pk_partner_hold")),
    )
    op.create_table(
        "traffic_hour",
        sa.Column("partner", sa.String(31), nullable=False),
        sa.Column("hour", UTCDateTime(timezone=True), nullable=False),
        sa.Column("direction", sa.String(40), nullable=False),
        sa.Column("outcome", sa.String(40), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "partner", "hour", "direction", "outcome", name=op.f("pk_traffic_hour")
        ),
    )
    op.create_table(
        "traffic_mark",
        sa.Column("direction", sa.String(40), nullable=False),
        sa.Column("partner", sa.String(31), nullable=False),
        sa.Column("until", UTCDateTime(timezone=True), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("direction", "partner", name=op.f("pk_traffic_mark")),
    )


def downgrade() -> None:
    op.drop_table("traffic_mark")
    op.drop_table("traffic_hour")
    op.drop_table("partner_hold")
