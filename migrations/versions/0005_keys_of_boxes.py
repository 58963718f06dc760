"""keys of boxes"""

import sqlalchemy as sa
from alembic import op

from medportal.db.types import UTCDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "box_key",
        sa.Column("box", sa.String(40), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("since", UTCDateTime(timezone=True), nullable=False),
        sa.Column("destroyed_at", UTCDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("box", "key_id", name=op.f("pk_box_key")),
    )


def downgrade() -> None:
    op.drop_table("box_key")
