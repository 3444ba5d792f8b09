"""Who posted a job, who may use the API, and which flows conductors know."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _key(name: str, kind: sa.types.TypeEngine[Any] = _ID) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def upgrade() -> None:
    op.add_column("jobs", sa.Column("posted_by", sa.Text()))
    op.create_index("ix_jobs_posted_by", "jobs", ["posted_by", "created_at"])
    op.create_table(
        "credentials",
        _key("id"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, unique=True),
        sa.Column("parent", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("jobs_of", sa.Text()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float()),
        sa.Column("used_at", sa.Float()),
    )
    op.create_table(
        "published_flows",
        _key("name"),
        _key("version", sa.Integer()),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("published_at", sa.Float(), nullable=False),
    )
