"""Who does what one conductor at a time does for all."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    leaders = op.create_table(
        "leaders",
        sa.Column("name", _ID, primary_key=True, autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
    )
    op.bulk_insert(leaders, [{"name": "outbox", "owner": ""}])
