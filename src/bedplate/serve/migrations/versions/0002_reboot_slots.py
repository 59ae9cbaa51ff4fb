"""Reboot slots"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reboot_slot",
        sa.Column("node", sa.String(length=32), nullable=False),
        sa.Column("ring", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=128), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.Column("freed", sa.Float(precision=53), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node"),
    )
    op.create_index(op.f("ix_reboot_slot_change"), "reboot_slot", ["change"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_reboot_slot_change"), table_name="reboot_slot")
    op.drop_table("reboot_slot")
