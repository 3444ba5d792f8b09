"""Queueing: exclusive keys with their limit, parents of jobs, and the keys by which a post is known again."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("exclusive_key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("key_limit", sa.Integer(), nullable=False, server_default=sa.text("1")))
    op.add_column("jobs", sa.Column("parent", _ID, nullable=True))
    _create_index("ix_jobs_holders", ["exclusive_key"], "held_key IS NOT NULL")
    _create_index("ix_jobs_exclusive", ["exclusive_key", "state"], "exclusive_key IS NOT NULL")
    _create_index("ix_jobs_parent", ["parent", "state"], "parent IS NOT NULL")
    op.create_table(
        "job_keys",
        sa.Column("owner", sa.Text(), primary_key=True, nullable=False),
        sa.Column("key", sa.Text(), primary_key=True, nullable=False),
        sa.Column("job", _ID, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_keys_job", "job_keys", ["job"])


def _create_index(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "jobs", columns, sqlite_where=condition, postgresql_where=condition)
