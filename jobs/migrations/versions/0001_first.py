"""The first schema. Frozen: a change to the tables is a migration of its own."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_jobs()
    _create_what_a_job_is_given()
    _create_what_becomes_of_it()
    _create_what_it_does()
    _create_conductors()
    if op.get_bind().dialect.name == "postgresql":
        _create_bell()


_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _key(name: str, kind: sa.types.TypeEngine[Any] = _ID) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def _word(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _count(name: str, start: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=sa.text(str(start)))


def _long_count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _key("id"),
        _word("flow"),
        _number("version"),
        _word("state"),
        _word("owner", nullable=True),
        _long_count("epoch"),
        _count("attempt", 1),
        _count("priority"),
        _time("created_at"),
        _time("due_at"),
        _time("started_at", nullable=True),
        _time("ended_at", nullable=True),
        sa.Column("held_key", sa.Text(), unique=True),
        _count("begun"),
        _count("interruptions"),
        _word("undo", nullable=True),
        _time("cancel_requested_at", nullable=True),
        _time("pause_requested_at", nullable=True),
        _time("delete_requested_at", nullable=True),
        _time("overdue_at", nullable=True),
        _long_count("entries"),
        _long_count("write"),
        _count("tasks_total"),
        _count("tasks_done"),
        _count("tasks_undone"),
        _count("undoing"),
        _long_count("logs"),
    )
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        ["state", "flow", "version", sa.text("priority DESC"), "due_at", "created_at"],
    )
    op.create_index("ix_jobs_due", "jobs", ["state", "due_at"])
    op.create_index("ix_jobs_owner", "jobs", ["owner", "state"])
    op.create_index("ix_jobs_newest", "jobs", [sa.text("created_at DESC"), "id"])
    op.create_index("ix_jobs_flow", "jobs", ["flow", "created_at"])


def _create_what_a_job_is_given() -> None:
    op.create_table("job_parameters", _key("job"), _word("parameters"), _word("labels"))
    op.create_table("job_labels", _key("job"), _key("key"), _word("value"), sqlite_with_rowid=False)
    op.create_index("ix_job_labels_value", "job_labels", ["key", "value"])


def _create_what_becomes_of_it() -> None:
    op.create_table(
        "job_outcomes",
        _key("job"),
        _key("attempt", sa.Integer()),
        _word("state"),
        _word("undo"),
        _word("error", nullable=True),
        _word("error_task", nullable=True),
        _word("result", nullable=True),
        _time("ended_at"),
    )
    op.create_table(
        "job_parks",
        _key("job"),
        _key("attempt", sa.Integer()),
        _key("number", sa.Integer()),
        _word("reason"),
        _word("task", nullable=True),
        _word("error", nullable=True),
        _word("error_task", nullable=True),
        _time("parked_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_cancels",
        _key("job"),
        _key("attempt", sa.Integer()),
        _word("reason"),
        _word("source"),
        _word("who"),
        _time("requested_at"),
        _time("forwarded_at", nullable=True),
        _time("delivered_at", nullable=True),
        _time("reverted_at", nullable=True),
        sqlite_with_rowid=False,
    )


def _create_what_it_does() -> None:
    op.create_table(
        "job_tasks",
        _key("job"),
        _key("attempt", sa.Integer()),
        _key("round", sa.Integer()),
        _key("task"),
        _number("position"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        _time("begun_at"),
        _time("ended_at", nullable=True),
        _word("how", nullable=True),
        sa.Column("fraction", sa.Float()),
        _word("message", nullable=True),
        _word("saved", nullable=True),
        _time("undo_begun_at", nullable=True),
        _time("undo_ended_at", nullable=True),
        _count("undo_tries"),
        _word("error", nullable=True),
        _word("undo_error", nullable=True),
    )
    op.create_table(
        "job_entries",
        _key("job"),
        _key("number", sa.BigInteger()),
        _time("at"),
        _word("name"),
        _word("from_state", nullable=True),
        _word("to_state", nullable=True),
        _number("attempt"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        _word("actor", nullable=True),
        _word("detail"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_logs",
        _key("job"),
        _key("number", sa.BigInteger()),
        _time("at"),
        _number("attempt"),
        _word("task", nullable=True),
        _word("level"),
        _word("text"),
        sqlite_with_rowid=False,
    )


def _create_conductors() -> None:
    op.create_table(
        "conductors",
        _key("id"),
        _word("name"),
        _word("host"),
        _number("pid"),
        _word("boot_id"),
        _time("started_at"),
        _time("lease_until"),
        _time("released_at", nullable=True),
        _word("flows"),
        _number("runners"),
        _word("isolation"),
    )


def _create_bell() -> None:
    """Ring with each commit that changes a job, and when a conductor gives its lease up.

    By triggers: the signal goes with the commit that it tells of, and costs no round trip of its own.
    """
    op.execute(
        "CREATE FUNCTION ebbtide_ring() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('ebbtide', ''); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER ebbtide_ring AFTER INSERT ON job_entries "
        "FOR EACH STATEMENT EXECUTE FUNCTION ebbtide_ring()"
    )
    op.execute(
        "CREATE TRIGGER ebbtide_ring AFTER UPDATE OF released_at ON conductors "
        "FOR EACH STATEMENT EXECUTE FUNCTION ebbtide_ring()"
    )
