"""A job that no conductor can take up is left alone, and says whom it waits for (P12)."""

import pytest
import sqlalchemy as sa

from ebbtide.jobs.claims import Claims
from ebbtide.jobs.states import JobState
from ebbtide.jobs.views import Views

NOBODY = "a conductor: none is running"
UNKNOWN = "a conductor that knows sum@2: none of those running does"
SUM = {"flow": "sum", "version": 2}


@pytest.fixture
def shown(store):
    return Views(store)


@pytest.fixture
def knows(store, clock):
    """Register a conductor that knows these flows."""

    def register(*flows: str, name: str = "one", lease_seconds: float = 30.0) -> Claims:
        claims = Claims(store, name, name=name, lease_seconds=lease_seconds)
        claims.register(flows=flows, runners=1, isolation="thread")
        return claims

    return register


@pytest.fixture(params=["pending", "orphaned"])
def job(request, board):
    """A job that may be claimed: one that is due, or one whose holder is gone."""
    if request.param == "pending":
        return board.put(JobState.PENDING, **SUM)
    return board.put(JobState.RUNNING, owner="gone", **SUM)


def test_without_any_conductor_a_job_waits_for_one(board, shown, job):
    assert shown.job(job).waits_for == NOBODY
    assert shown.job(job).as_dict()["waits_for"] == NOBODY


@pytest.mark.parametrize("flows", [[], ["sum@1"], ["sum"], ["sum@20", "copy@2"], ["sums@2"]])
def test_with_conductors_that_do_not_know_its_flow_it_waits_for_one_that_does(
    board, shown, knows, job, flows
):
    knows(*flows)
    knows("copy@1", name="two")

    assert shown.job(job).waits_for == UNKNOWN


def test_once_any_conductor_knows_its_flow_it_waits_for_nobody(board, shown, knows, job):
    knows("copy@1")
    knows("copy@1", "sum@2", name="two")

    assert shown.job(job).waits_for is None


@pytest.mark.parametrize("end", ["expired", "released", "another boot"])
def test_a_conductor_whose_lease_is_over_is_none(shown, knows, clock, job, end, store_kind):
    one = knows("sum@2")
    match end:
        case "expired":
            clock.advance(30)
        case "released":
            one.release()
        case "another boot":
            clock.boot_id = "ba9876543210"
            if store_kind == "postgresql":  # where it is the lease that tells
                clock.advance(30)

    assert shown.job(job).waits_for == NOBODY


def test_what_waits_is_left_alone_and_goes_on_when_its_conductor_comes(board, shown, knows, job):
    """P12: nothing is parked, nothing lost."""
    assert knows("copy@1").claim(["copy@1"]) is None
    assert (shown.job(job).waits_for, board.history(job)) == (UNKNOWN, ["posted"])

    claim = knows("sum@2", name="two").claim(["sum@2"])

    assert claim is not None
    assert (claim.job_id, shown.job(job).waits_for) == (job, None)


def test_a_job_that_is_run_or_waits_for_its_time_or_a_person_waits_for_no_conductor(board, shown, knows):
    knows("copy@1")
    held = board.put(JobState.RUNNING, owner="one", **SUM)
    later = board.put(JobState.PENDING, due_at=board.clock.now + 60, **SUM)
    rest = [board.put(state, **SUM) for state in sorted(set(JobState) - {"pending", "running"})]

    assert {shown.job(job).waits_for for job in (held, later, *rest)} == {None}
    board.clock.advance(29)
    assert shown.job(later).phase == "scheduled"


def test_a_cancel_waits_as_well(board, shown):
    job = board.put(JobState.PENDING, begun=1, due_at=board.clock.now + 60, **SUM)
    board.ledger.cancel(job, reason="", who="bob")

    assert (shown.job(job).phase, shown.job(job).waits_for) == ("cancelling", NOBODY)


def test_a_list_asks_for_the_conductors_once(board, shown, knows):
    knows("copy@1")
    jobs = {board.put(JobState.PENDING, **SUM) for _ in range(3)}
    jobs |= {board.put(JobState.RUNNING, owner="gone", **SUM) for _ in range(3)}
    board.put(JobState.COMPLETED, **SUM)
    asked = []

    @sa.event.listens_for(board.store.engine, "before_cursor_execute")
    def count(connection, cursor, statement, parameters, context, many):
        asked.append("FROM conductors" in statement)

    told = {job.id: job.waits_for for job in shown.jobs()}
    assert {job for job, words in told.items() if words == UNKNOWN} == jobs
    assert asked.count(True) == 1

    asked.clear()
    shown.jobs(state="completed")
    assert asked.count(True) == 0
