"""The tables of the jobboard `sql`: its own, in whatever database it is given.

`lease_until` and `era` are those of `ebbtide.jobs.moments`: no wall clock decides whether a claim holds.
"""

import sqlalchemy as sa

metadata = sa.MetaData()

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# One row for each job that is on a board, or was thrown away from it. What is consumed has no row.
board_jobs = sa.Table(
    "ebbtide_board_jobs",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("uuid", _ID, nullable=False, unique=True),
    sa.Column("board", _ID, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),  # of the priority: the lowest is handed out first
    sa.Column("details", sa.Text, nullable=False),  # JSON
    sa.Column("book", sa.Text),  # JSON: name and uuid of the logbook
    sa.Column("posted_at", sa.Float, nullable=False),
    sa.Column("modified_at", sa.Float),  # by a claim, or its end
    sa.Column("trashed_at", sa.Float),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")),  # raised by each claim
    sa.Column("owner", sa.Text),
    sa.Column("holder", sa.Text),  # which opening of the board has claimed it: names come twice
    sa.Column("era", sa.Text),
    sa.Column("lease_until", sa.Float),
    sa.Index("ebbtide_board_jobs_order", "board", "trashed_at", "rank", "sequence"),
    sa.Index("ebbtide_board_jobs_holder", "holder"),
    sqlite_autoincrement=True,  # a number that was given never comes again: it says who was first
)

# Whoever has registered with a board: conductors, as a rule.
board_entities = sa.Table(
    "ebbtide_board_entities",
    metadata,
    sa.Column("board", _ID, primary_key=True),
    sa.Column("kind", _ID, primary_key=True),
    sa.Column("name", _ID, primary_key=True),
    sa.Column("details", sa.Text, nullable=False),  # JSON
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("era", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False),
)
