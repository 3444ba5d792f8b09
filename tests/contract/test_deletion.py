"""Deleting a job removes every row of it, TaskFlow's too, and none of any other."""

import uuid

import pytest
import sqlalchemy as sa
from taskflow.persistence import models
from taskflow.persistence.backends import impl_sqlalchemy

from ebbtide.jobs import tables
from ebbtide.jobs.ledger import logbook_of
from ebbtide.jobs.states import JobState

OF_NO_JOB = {"chores", "conductors", "credentials", "leaders", "paused_flows", "published_flows"}
OURS = [table for table in tables.metadata.sorted_tables if table.name not in OF_NO_JOB]
TASKFLOWS = [tables.logbooks, tables.flowdetails, tables.atomdetails]
FILLER = {"INTEGER": 1, "BIGINT": 1, "FLOAT": 1.0}


def fill(board, job: str) -> None:
    """A row of the job in every table that has one column for it, and TaskFlow's details of two attempts."""
    for table in OURS:
        if "job" in table.c and not board.rows(table, job):
            # A text of the job's own: some are unique.
            values = {c.name: FILLER.get(str(c.type), f"x of {job}") for c in table.c if c.name != "job"}
            board.add(table, job=job, **values)
    book = models.LogBook("copy@1", uuid=logbook_of(job))
    for _ in range(2):
        flow = models.FlowDetail("copy@1", uuid=str(uuid.uuid4()))
        for kind in (models.TaskDetail, models.RetryDetail):
            flow.add(kind(f"atom of {job}", uuid=str(uuid.uuid4())))
        book.add(flow)
    backend = impl_sqlalchemy.SQLAlchemyBackend({"connection": "sqlite://"}, engine=board.store.engine)
    backend.get_connection().save_logbook(book)


def everything(board) -> dict[str, list[dict]]:
    return {table.name: board.rows(table) for table in (*OURS, *TASKFLOWS)}


@pytest.fixture
def neighbours(board) -> list[str]:
    """Jobs whose ids resemble the one below, and one that has ended."""
    ids = ["00000000-0000-4000-8000-000000000000", "00000000-0000-4000-8000-000000000002"]
    jobs = [board.put(JobState.RUNNING, id=job) for job in ids] + [board.put(JobState.COMPLETED)]
    for job in jobs:
        fill(board, job)
    return jobs


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.PENDING])
def test_every_row_of_the_job_goes_and_no_other(board, neighbours, state):
    before = everything(board)
    job = board.put(state, id="00000000-0000-4000-8000-000000000001")
    fill(board, job)
    filled = everything(board)
    assert all(len(filled[name]) > len(before[name]) > 0 for name in before)

    board.ledger.delete(job, who="bob")

    assert everything(board) == before


def test_every_table_that_names_a_job_is_thought_of():
    """A new table has a column `job`, or deletion does not find it."""
    named = {table.name for table in OURS if "job" in table.c} | {"jobs"}

    assert named == {table.name for table in OURS}


@pytest.mark.sqlite_only("triggers are written in the language of the database")
def test_a_deletion_that_fails_deletes_nothing(board, neighbours):
    job = board.put(JobState.COMPLETED)
    fill(board, job)
    before = everything(board)
    forbids = "CREATE TRIGGER t BEFORE DELETE ON logbooks BEGIN SELECT RAISE(ABORT, 'not now'); END"
    with board.store.write() as connection:
        connection.exec_driver_sql(forbids)

    with pytest.raises(sa.exc.IntegrityError):
        board.ledger.delete(job, who="bob")

    assert everything(board) == before


def test_what_is_deleted_can_be_posted_anew(board, neighbours):
    job = board.put(JobState.COMPLETED)
    fill(board, job)
    board.ledger.delete(job, who="bob")

    again = board.put(JobState.COMPLETED, id=job)
    fill(board, again)

    assert board.history(again) == ["posted"]
