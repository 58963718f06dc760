"""versions of records, results, erasure"""

import sqlalchemy as sa
from alembic import op

from medportal.db.types import Id, UTCDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

#: What a version says of itself; the record keeps what its newest version says.
OF_A_VERSION = (
    ("category", sa.String(32)),
    ("status", sa.String(20)),
    ("effective_on", sa.Date()),
)


def upgrade() -> None:
    op.create_table(
        "result",
        sa.Column("record_id", Id(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("patient_id", Id(length=32), nullable=False),
        sa.Column("filed_at", UTCDateTime(timezone=True), nullable=False),
        sa.Column("told_at", UTCDateTime(timezone=True), nullable=True),
        sa.Column("urgency", sa.LargeBinary(), nullable=True),
        sa.Column("acknowledged_at", UTCDateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", Id(length=32), nullable=True),
        sa.Column("escalated_at", UTCDateTime(timezone=True), nullable=True),
        sa.Column("seen_by_patient_at", UTCDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["record_id"], ["record.id"], name=op.f("fk_result_record_id_record")
        ),
        sa.PrimaryKeyConstraint("record_id", "version", name=op.f("pk_result")),
    )
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.create_index("ix_result_patient", ["patient_id", "filed_at"], unique=False)
        batch_op.create_index(
            "ix_result_waiting",
            ["patient_id", "filed_at"],
            unique=False,
            sqlite_where=sa.text("acknowledged_at IS NULL"),
            postgresql_where=sa.text("acknowledged_at IS NULL"),
        )
        batch_op.create_index(
            "ix_result_untold",
            ["filed_at"],
            unique=False,
            sqlite_where=sa.text("told_at IS NULL"),
            postgresql_where=sa.text("told_at IS NULL"),
        )
        batch_op.create_index(
            "ix_result_unescalated",
            ["filed_at"],
            unique=False,
            sqlite_where=sa.text("escalated_at IS NULL"),
            postgresql_where=sa.text("escalated_at IS NULL"),
        )
        batch_op.create_index(
            "ix_result_unseen",
            ["patient_id", "filed_at"],
            unique=False,
            sqlite_where=sa.text("seen_by_patient_at IS NULL"),
            postgresql_where=sa.text("seen_by_patient_at IS NULL"),
        )

    # What a partner says of the person whom a result that was held back is about.
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("told", sa.LargeBinary(), nullable=True))

    op.create_table(
        "erasure",
        sa.Column("id", Id(length=32), nullable=False),
        sa.Column("patient_id", Id(length=32), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("asked_by", Id(length=32), nullable=False),
        sa.Column("asked_at", UTCDateTime(timezone=True), nullable=False),
        sa.Column("offered_at", UTCDateTime(timezone=True), nullable=False),
        sa.Column("decided_by", Id(length=32), nullable=True),
        sa.Column("decided_at", UTCDateTime(timezone=True), nullable=True),
        sa.Column("settled_at", UTCDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    with op.batch_alter_table("erasure", schema=None) as batch_op:
        batch_op.create_index("ix_erasure_state", ["state", "asked_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_erasure_patient_id"), ["patient_id"], unique=False)
        batch_op.create_index(
            "uq_erasure_open",
            ["patient_id"],
            unique=True,
            sqlite_where=sa.text("settled_at IS NULL"),
            postgresql_where=sa.text("settled_at IS NULL"),
        )

    with op.batch_alter_table("document", schema=None) as batch_op:
        batch_op.add_column(sa.Column("set_aside_at", UTCDateTime(timezone=True), nullable=True))

    _add_what_a_version_says()


def _add_what_a_version_says() -> None:
    """Every record so far has one version, which says what the record says.

    The table of records is never made anew, which SQLite would have to do for more than another
    column: its versions refer to it. So the default stays.
    """
    with op.batch_alter_table("record", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("status", sa.String(20), nullable=False, server_default="final")
        )
        # Sealed with the next version: a migration has no keys.
        batch_op.add_column(sa.Column("head", sa.LargeBinary(), nullable=True))
    with op.batch_alter_table("record_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("local_signer_id", Id(length=32), nullable=True))
        batch_op.add_column(sa.Column("replaces", sa.LargeBinary(length=32), nullable=True))
        for name, kind in OF_A_VERSION:
            batch_op.add_column(sa.Column(name, kind, nullable=True))
    says = {"local_signer_id": "local_author_id", **{name: name for name, _kind in OF_A_VERSION}}
    for name, source in says.items():
        op.execute(
            sa.text(
                f"UPDATE record_version SET {name} = (SELECT record.{source} FROM record "  # noqa: S608
                "WHERE record.id = record_version.record_id)"
            )
        )
    with op.batch_alter_table("record_version", schema=None) as batch_op:
        for name, kind in OF_A_VERSION:
            batch_op.alter_column(name, existing_type=kind, nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("record_version", schema=None) as batch_op:
        for name, _kind in OF_A_VERSION:
            batch_op.drop_column(name)
        batch_op.drop_column("replaces")
        batch_op.drop_column("local_signer_id")
    op.execute("ALTER TABLE record DROP COLUMN head")
    op.execute("ALTER TABLE record DROP COLUMN status")
    with op.batch_alter_table("document", schema=None) as batch_op:
        batch_op.drop_column("set_aside_at")
    with op.batch_alter_table("erasure", schema=None) as batch_op:
        batch_op.drop_index("uq_erasure_open")
        batch_op.drop_index(batch_op.f("ix_erasure_patient_id"))
        batch_op.drop_index("ix_erasure_state")
    op.drop_table("erasure")
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.drop_column("told")
    with op.batch_alter_table("result", schema=None) as batch_op:
        batch_op.drop_index("ix_result_unseen")
        batch_op.drop_index("ix_result_unescalated")
        batch_op.drop_index("ix_result_untold")
        batch_op.drop_index("ix_result_waiting")
        batch_op.drop_index("ix_result_patient")
    op.drop_table("result")
