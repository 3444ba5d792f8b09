"""Who is overdue: told for as long as the run lasts, and in the history for ever."""

import json
from operator import attrgetter

import pytest
import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.overdue import clear_overdue, mark_overdue
from ebbtide.jobs.states import EDGES, JobState
from ebbtide.jobs.views import Views

KEYS = ["copy@1"]


@pytest.fixture
def job(board):
    """A running job with a cancel request, one task that has ended and two at work."""
    job: str = board.put(JobState.RUNNING, owner="one", epoch=3)
    board.add_task(job, "scan", how="returned")
    board.add_task(job, "pack")
    board.add_task(job, "copy")
    board.add_task(job, "old", attempt=7)
    board.ledger.cancel(job, reason="x", who="bob")
    return job


@pytest.fixture
def mark(board):
    def mark(job: str, *, epoch: int = 3, at: float = 17.5) -> None:
        claim = Claim(job, "copy", 1, attempt=1, epoch=epoch, write=1)
        mark_overdue(board.store, claim, at=at, grace_seconds=2.5, actor="one")

    return mark


def phase(board, job: str) -> str:
    return Views(board.store).job(job).phase


def test_an_overdue_job_says_so_and_its_history_names_what_is_at_work(board, job, mark):
    mark(job)

    assert (phase(board, job), board.row(job).overdue_at) == ("overdue", 17.5)
    assert board.history(job) == ["posted", "cancel_requested", "overdue"]
    entry = board.last(job)
    assert (entry["at"], entry["actor"], entry["to_state"]) == (17.5, "one", None)
    assert json.loads(entry["detail"]) == {"tasks": ["pack", "copy"], "grace_seconds": 2.5}


def test_it_is_told_once(board, job, mark):
    mark(job)
    mark(job, at=18.0)

    assert board.row(job).overdue_at == 17.5
    assert board.history(job).count("overdue") == 1


@pytest.mark.parametrize(
    "columns",
    [{"epoch": 4}, *({"state": state.value} for state in JobState if state is not JobState.RUNNING)],
    ids=str,
)
def test_a_run_that_is_over_is_not_told_of_any_more(board, job, mark, columns):
    board.change(job, **columns)
    before = board.row(job)

    mark(job)

    assert board.row(job) == before
    assert "overdue" not in board.history(job)


def test_once_at_rest_it_is_overdue_no_longer(board, job, mark):
    mark(job)

    clear_overdue(board.store, Claim(job, "copy", 1, attempt=1, epoch=3, write=1))

    assert (phase(board, job), board.row(job).overdue_at) == ("cancelling", None)
    assert board.history(job)[-1] == "overdue"


def test_a_stale_word_of_rest_changes_nothing(board, job, mark):
    mark(job)

    clear_overdue(board.store, Claim(job, "copy", 1, attempt=1, epoch=2, write=1))

    assert phase(board, job) == "overdue"


@pytest.mark.bare_edges("each edge, whatever else would come of it")
@pytest.mark.parametrize(
    "edge", [edge for edge in EDGES if JobState.RUNNING in edge.sources], ids=attrgetter("name")
)
def test_every_edge_out_of_the_run_takes_it_back(board, job, mark, edge):
    mark(job)

    with board.store.write() as connection:
        apply_edge(connection, edge.name, job, at=1.0, source=JobState.RUNNING)

    assert board.row(job).overdue_at is None


def test_a_job_that_is_taken_up_again_is_not_overdue(board, conductor, mark):
    one = conductor("one")
    job = board.post()
    one.claim(KEYS)
    board.ledger.cancel(job, reason="x", who="bob")
    mark(job, epoch=1)

    one.reclaim(job, 1, "it did not stop", ended_in=0.1)

    assert phase(board, job) == "cancelling"
    assert board.history(job) == ["posted", "claimed", "cancel_requested", "overdue", "reclaimed"]


def test_whoever_is_deleted_leaves_nothing(board, job, mark):
    mark(job)
    board.change(job, state="cancelled")

    board.ledger.delete(job, who="bob")

    with board.store.read() as connection:
        assert connection.execute(sa.select(tables.job_entries)).all() == []
