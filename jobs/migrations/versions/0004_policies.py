"""Retries, time limits, jobs that hold, and what conductors do in turns."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COLUMNS = {
    "jobs": (
        sa.Column("retries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("limit_seconds", sa.Float()),
        sa.Column("used_seconds", sa.Float()),
        sa.Column("deadline_at", sa.Float()),
        sa.Column("stall_seconds", sa.Float()),
    ),
    "job_parks": (sa.Column("held", sa.Integer(), nullable=False, server_default=sa.text("0")),),
    "job_tasks": (sa.Column("stop_by", sa.Float()),),
}


def upgrade() -> None:
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.create_index("ix_jobs_ended", "jobs", ["state", "ended_at"])
    op.create_index("ix_job_parks_when", "job_parks", ["parked_at"])
    op.create_table(
        "job_policies",
        sa.Column(
            "job",
            sa.Text().with_variant(sa.Text(collation="C"), "postgresql"),
            primary_key=True,
            nullable=False,
        ),
        sa.Column("policies", sa.Text(), nullable=False),
    )
    chores = op.create_table(
        "chores",
        sa.Column("name", sa.Text(), primary_key=True, nullable=False),
        sa.Column("free_at", sa.Float(), nullable=False),
        sa.Column("owner", sa.Text()),
    )
    op.bulk_insert(chores, [{"name": "prune", "free_at": 0.0}])
