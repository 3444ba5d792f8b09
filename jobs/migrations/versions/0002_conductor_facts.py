"""Of each conductor: which version it is, and how far its clock was from the store's when it came."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conductors", sa.Column("version", sa.Text(), nullable=True))
    op.add_column("conductors", sa.Column("clock_ahead_seconds", sa.Float(), nullable=True))
