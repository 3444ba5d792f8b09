"""What an undo was spared or could not do, savepoints to go back to, and flows that nobody claims."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "job_tasks", sa.Column("undo_failures", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("job_tasks", sa.Column("undo_skipped", sa.Text()))
    op.add_column("job_tasks", sa.Column("no_undo", sa.Text()))
    op.add_column("jobs", sa.Column("rewind_to", sa.Text()))
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "paused_flows",
        sa.Column("flow", text, primary_key=True, nullable=False),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.Float(), nullable=False),
    )
