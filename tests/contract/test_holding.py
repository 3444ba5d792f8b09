"""A job that holds: parked with its work in place, until it goes on, is cancelled, or is accepted."""

import pytest

from ebbtide.errors import EdgeRefused
from ebbtide.jobs import tables
from ebbtide.jobs.ledger import ACCEPTED
from ebbtide.jobs.parking import park
from ebbtide.jobs.states import JobState

KEYS = ["copy@1"]


@pytest.fixture
def held(board, conductor):
    """A job whose second task has failed, and that holds."""
    job = board.post()
    claim = conductor("one").claim(KEYS)
    board.change(job, begun=1)
    board.add_task(job, "a", epoch=claim.epoch, how="returned")
    board.add_task(job, "b", epoch=claim.epoch, how="raised", error="ValueError: no")
    with board.store.write() as connection:
        told = {"reason": "b failed, and the job holds", "task": "b", "actor": "one", "held": True}
        park(connection, job, epoch=claim.epoch, at=board.clock.now, **told)
    return job


def ends(board, job) -> dict[str, str]:
    return {row["task"]: row["how"] for row in board.rows(tables.job_tasks, job)}


@pytest.mark.parametrize("verb", ["retry_from_failure", "unpark"])
def test_it_goes_on_in_the_same_attempt_and_what_failed_counts_as_interrupted(board, held, verb):
    getattr(board.ledger, verb)(held, who="ann")

    row = board.row(held)
    assert (row.state, row.attempt, row.begun, row.due_at) == ("pending", 1, 1, board.clock.now)
    assert board.history(held)[-2:] == ["parked", "unparked"]
    assert ends(board, held) == {"a": "returned", "b": "interrupted"}


def test_a_cancel_has_it_undone_and_waits_for_nobody(board, held):
    """P3: unparked in the same transaction, so that a conductor takes it up."""
    assert board.ledger.cancel(held, reason="x", who="bob") == ACCEPTED

    row = board.row(held)
    assert (row.state, row.cancel_requested_at) == ("pending", board.clock.now)
    assert board.history(held)[-3:] == ["parked", "cancel_requested", "unparked"]
    assert ends(board, held)["b"] == "raised"


def test_a_cancel_that_came_first_keeps_it_from_holding(board, conductor):
    job = board.post()
    claim = conductor("one").claim(KEYS)
    board.ledger.cancel(job, reason="x", who="bob")

    with pytest.raises(EdgeRefused), board.store.write() as connection:
        park(connection, job, epoch=claim.epoch, at=1.0, reason="holds", task="b", actor="one", held=True)

    assert board.row(job).state == "running"


def test_it_may_be_accepted_as_it_is(board, held):
    board.ledger.accept(held, reason="good enough", who="ann")

    row = board.row(held)
    assert (row.state, row.undo) == ("failed", "accepted")


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.PARKED, JobState.FAILED])
def test_nothing_else_goes_on_from_a_failure(board, state):
    job = board.put(state)

    with pytest.raises(EdgeRefused, match="posted to hold") as caught:
        board.ledger.retry_from_failure(job, who="ann")

    assert caught.value.state == state
    assert board.row(job).state == state


def test_parked_again_for_another_reason_it_holds_no_longer(board, held, conductor):
    board.ledger.unpark(held, who="ann")
    claim = conductor("two").claim(KEYS)
    with board.store.write() as connection:
        park(connection, held, epoch=claim.epoch, at=board.clock.now, reason="x", task=None, actor="two")

    with pytest.raises(EdgeRefused):
        board.ledger.retry_from_failure(held, who="ann")
