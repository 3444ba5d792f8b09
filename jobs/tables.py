"""The tables of the ledger, and TaskFlow's own three beside them.

Times named `*_at` are wall-clock unix seconds, for people; no decision rests on them except `due_at`.
`lease_until` is no wall clock: on SQLite it is seconds since boot (`ebbtide.jobs.clock.boot_seconds`),
comparable only under the same `boot_id`.

Every table is built once, at import. Built anew for each write, as TaskFlow does it, tables never hit
SQLAlchemy's statement cache and are never freed.
"""

from typing import Any

from oslo_utils import timeutils
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from taskflow.persistence.backends.sqlalchemy import tables as taskflow_schema

# The migration that makes exactly these tables.
REVISION = "0006"

metadata = MetaData()


def _count(name: str, start: int = 0) -> Column[int]:
    """A number that every row has from its first day."""
    return Column(name, Integer, nullable=False, server_default=text(str(start)))


def _long_count(name: str) -> Column[int]:
    """A number that may grow past 32 bits."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _word(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


# Ids are compared byte by byte, as SQLite does anyway: prefixes are found as ranges.
_ID = Text().with_variant(Text(collation="C"), "postgresql")


def _key(name: str, kind: Any = _ID) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


# One row for each job: hot and narrow. The row is the truth about the job; all else is a hint or a record.
jobs = Table(
    "jobs",
    metadata,
    _key("id"),
    _word("flow"),
    Column("version", Integer, nullable=False),
    _word("state"),
    Column("owner", Text),
    _long_count("epoch"),  # raised by each claim, proved by each write of its holder
    _count("attempt", 1),
    _count("priority"),
    _time("created_at"),
    _time("due_at"),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("held_key", Text, unique=True),  # two running jobs never share one: the index decides, not a query
    _count("begun"),
    _count("interruptions"),
    Column("undo", Text),
    Column("cancel_requested_at", Float),
    Column("pause_requested_at", Float),
    Column("delete_requested_at", Float),
    Column("overdue_at", Float),  # since when the run does not stop although its cancel was forwarded
    _long_count("entries"),  # number of the last row in job_entries: its rows are gapless
    _long_count("write"),  # raised by each commit of the holder, read back after a connection was lost
    _count("tasks_total"),
    _count("tasks_done"),
    _count("tasks_undone"),
    _count("undoing"),  # the run goes backwards: shown as "reverting"
    _long_count("logs"),
    Column("rewind_to", Text),  # the savepoint to go back to before anything else
    _count("retries"),  # made by itself since it was posted, or retried by hand
    Column("limit_seconds", Float),  # of each attempt, in which it is claimed; none: no limit
    Column("used_seconds", Float),  # of that, by the claims of this attempt that are over
    Column("deadline_at", Float),  # by the store's clock, while it is claimed
    Column("stall_seconds", Float),  # without anything stored of it
    Column("exclusive_key", Text),  # which it has to hold to run; `held_key` is one of its `key_limit` slots
    _count("key_limit", 1),
    Column("parent", _ID),  # whose cancel is its cancel, and whose undo waits for its end
)
Index(
    "ix_jobs_queue",
    jobs.c.state,
    jobs.c.flow,
    jobs.c.version,
    jobs.c.priority.desc(),
    jobs.c.due_at,
    jobs.c.created_at,
)
Index("ix_jobs_due", jobs.c.state, jobs.c.due_at)
Index("ix_jobs_owner", jobs.c.owner, jobs.c.state)
Index("ix_jobs_newest", jobs.c.created_at.desc(), jobs.c.id)
Index("ix_jobs_flow", jobs.c.flow, jobs.c.created_at)
Index("ix_jobs_ended", jobs.c.state, jobs.c.ended_at)


def _index_where(name: str, condition: str, *columns: Column[Any]) -> None:
    """An index on the few rows that fulfil the condition."""
    Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


_index_where("ix_jobs_holders", "held_key IS NOT NULL", jobs.c.exclusive_key)
_index_where("ix_jobs_exclusive", "exclusive_key IS NOT NULL", jobs.c.exclusive_key, jobs.c.state)
_index_where("ix_jobs_parent", "parent IS NOT NULL", jobs.c.parent, jobs.c.state)

job_parameters = Table("job_parameters", metadata, _key("job"), _word("parameters"), _word("labels"))

# Of a job that was posted with any: `ebbtide.flows.policies.Policies`, as JSON.
job_policies = Table("job_policies", metadata, _key("job"), _word("policies"))

job_labels = Table(
    "job_labels",
    metadata,
    _key("job"),
    _key("key"),
    _word("value"),
    Index("ix_job_labels_value", "key", "value"),
    sqlite_with_rowid=False,
)

# By which a post that is repeated is known again. The primary key is the promise that one of them is stored.
job_keys = Table(
    "job_keys",
    metadata,
    _key("owner", Text),
    _key("key", Text),
    Column("job", _ID, nullable=False),
    _word("body"),  # a digest of what was posted
    Index("ix_job_keys_job", "job"),
    sqlite_with_rowid=False,
)

# The primary key is the promise that an attempt has one outcome.
job_outcomes = Table(
    "job_outcomes",
    metadata,
    _key("job"),
    _key("attempt", Integer),
    _word("state"),
    _word("undo"),
    Column("error", Text),
    Column("error_task", Text),
    Column("result", Text),
    _time("ended_at"),
)

job_parks = Table(
    "job_parks",
    metadata,
    _key("job"),
    _key("attempt", Integer),
    _key("number", Integer),
    _word("reason"),
    Column("task", Text),
    Column("error", Text),  # what had failed before its undo began, as the outcome would have told it
    Column("error_task", Text),
    _time("parked_at"),
    _count("held"),  # a task failed, and nothing was undone: it may go on from there
    sqlite_with_rowid=False,
)
Index("ix_job_parks_when", job_parks.c.parked_at)

# Requested, forwarded, delivered and reverted are four facts with four times; a request is never withdrawn.
job_cancels = Table(
    "job_cancels",
    metadata,
    _key("job"),
    _key("attempt", Integer),
    _word("reason"),
    _word("source"),
    _word("who"),
    _time("requested_at"),
    Column("forwarded_at", Float),
    Column("delivered_at", Float),
    Column("reverted_at", Float),
    sqlite_with_rowid=False,
)

# A row exists from the moment a task begins: what is not here has not begun and is never undone.
job_tasks = Table(
    "job_tasks",
    metadata,
    _key("job"),
    _key("attempt", Integer),
    _key("round", Integer),
    _key("task"),
    Column("position", Integer, nullable=False),  # order of beginning within the attempt; undone in reverse
    Column("epoch", BigInteger, nullable=False),
    _time("begun_at"),
    Column("ended_at", Float),
    Column("how", Text),
    Column("fraction", Float),
    Column("message", Text),
    Column("saved", Text),
    Column("undo_begun_at", Float),
    Column("undo_ended_at", Float),
    _count("undo_tries"),
    Column("error", Text),
    Column("undo_error", Text),
    _count("undo_failures"),  # tries that failed since the job was last unparked
    Column("undo_skipped", Text),  # why a person said that its undo is left out
    Column("no_undo", Text),  # why it is not undone: its class has no undo, or says that none is possible
    # When its body has to have stopped by its own limit and its grace. In seconds since boot of the machine
    # of its runner and its conductor: compared only while the job has the same epoch.
    Column("stop_by", Float),
)

job_entries = Table(
    "job_entries",
    metadata,
    _key("job"),
    _key("number", BigInteger),
    _time("at"),
    _word("name"),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("attempt", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("actor", Text),
    _word("detail"),
    sqlite_with_rowid=False,
)

job_logs = Table(
    "job_logs",
    metadata,
    _key("job"),
    _key("number", BigInteger),
    _time("at"),
    Column("attempt", Integer, nullable=False),
    Column("task", Text),
    _word("level"),
    _word("text"),
    sqlite_with_rowid=False,
)

conductors = Table(
    "conductors",
    metadata,
    _key("id"),
    _word("name"),
    _word("host"),
    Column("pid", Integer, nullable=False),
    _word("boot_id"),
    _time("started_at"),
    _time("lease_until"),
    Column("released_at", Float),
    _word("flows"),
    Column("runners", Integer, nullable=False),
    _word("isolation"),
    Column("version", Text),
    Column("clock_ahead_seconds", Float),  # of its host, before the store's, when it came
)

# Of these nobody claims a job, unless it is to be cancelled. Version 0 stands for every version.
paused_flows = Table(
    "paused_flows", metadata, _key("flow"), _key("version", Integer), _word("who"), _time("paused_at")
)

# What one conductor does for all, now and then: whoever moves the row's time has the turn until then.
chores = Table(
    "chores",
    metadata,
    _key("name", Text),
    _time("free_at"),
    Column("owner", Text),
)

# One row for each thing that one conductor at a time does for all; it leads for as long as its lease runs.
leaders = Table("leaders", metadata, _key("name"), _word("owner"))

# TaskFlow's own tables as TaskFlow defines them: what its own tools read and what creates them.
taskflow_metadata = MetaData()
taskflow_tables = taskflow_schema.fetch(taskflow_metadata)

# TaskFlow's two foreign keys carry no index; reading one flow would scan the atoms of all.
taskflow_indexes = (
    Index("ix_ebbtide_flowdetails_parent", taskflow_tables.flowdetails.c.parent_uuid),
    Index("ix_ebbtide_atomdetails_parent", taskflow_tables.atomdetails.c.parent_uuid),
)

# The same tables once more for the journal, which serialises its JSON once and writes it as text.
mirror_metadata = MetaData()


def _stamps() -> tuple[Column[Any], Column[Any]]:
    """The two time columns that every table of TaskFlow begins with, filled as TaskFlow fills them."""
    return (
        Column("created_at", DateTime, default=timeutils.utcnow),
        Column("updated_at", DateTime, onupdate=timeutils.utcnow),
    )


logbooks = Table(
    "logbooks",
    mirror_metadata,
    *_stamps(),
    Column("meta", Text),
    Column("name", String),
    _key("uuid", String),
)

flowdetails = Table(
    "flowdetails",
    mirror_metadata,
    *_stamps(),
    Column("parent_uuid", String),
    Column("meta", Text),
    Column("name", String),
    Column("state", String),
    _key("uuid", String),
)

atomdetails = Table(
    "atomdetails",
    mirror_metadata,
    *_stamps(),
    Column("meta", Text),
    Column("parent_uuid", String),
    Column("name", String),
    Column("version", String),
    Column("state", String),
    _key("uuid", String),
    Column("failure", Text),
    Column("results", Text),
    Column("revert_results", Text),
    Column("revert_failure", Text),
    Column("atom_type", String),
    Column("intention", String),
)
