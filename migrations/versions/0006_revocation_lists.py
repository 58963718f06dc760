"""revocation lists, for hosts with copies of the keys"""

import sqlalchemy as sa
from alembic import op

from medportal.db.types import UTCDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revocation_list",
        sa.Column("authority", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("at", UTCDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("authority", name=op.f("pk_revocation_list")),
    )


def downgrade() -> None:
    op.drop_table("revocation_list")
