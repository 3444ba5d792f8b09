"""Every state times every edge against a real database: the one function that changes a job's state."""

import json

import pytest
import sqlalchemy as sa

from ebbtide.errors import ClaimLost, EdgeRefused, JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.edges import apply_edge, record
from ebbtide.jobs.states import EDGES, Edge, JobState

pytestmark = pytest.mark.bare_edges("it is about them")

NOBODY = "00000000-0000-4000-8000-000000000000"
LEAVING = [each for each in EDGES if each.sources]
PAIRS = [(each, state) for each in LEAVING for state in JobState]


def named(value: object) -> str:
    return value.name if isinstance(value, Edge) else str(value)


def walk(board, edge: Edge, job: str, **options):
    """Apply the edge from where the job is."""
    with board.store.write() as connection:
        state = connection.scalar(sa.select(tables.jobs.c.state).where(tables.jobs.c.id == job))
        source = JobState(state) if state else min(edge.sources)
        return apply_edge(connection, edge.name, job, at=board.clock.now, source=source, **options)


@pytest.mark.parametrize(("edge", "state"), PAIRS, ids=named)
def test_from_each_state_each_edge_leads_to_its_target_or_is_refused(board, edge, state):
    job = board.put(state, epoch=4, attempt=2)

    if state in edge.sources:
        row = walk(board, edge, job, epoch=4, actor="me", detail={"why": "test"})

        assert row.state == board.row(job).state == edge.target
        assert board.history(job) == ["posted", edge.name]
        entry = board.last(job)
        assert (entry["from_state"], entry["to_state"]) == (state, edge.target)
        assert (entry["attempt"], entry["epoch"], entry["actor"]) == (2, 4, "me")
        assert (entry["at"], json.loads(entry["detail"])) == (board.clock.now, {"why": "test"})
    else:
        before = board.row(job)
        with pytest.raises(EdgeRefused) as caught:
            walk(board, edge, job, epoch=4)

        assert (caught.value.job_id, caught.value.state, caught.value.edge) == (job, state, edge.name)
        assert board.row(job) == before
        assert board.history(job) == ["posted"]


@pytest.mark.parametrize(("edge", "state"), PAIRS, ids=named)
def test_an_edge_from_another_state_than_the_jobs_is_refused_with_the_present_one(board, edge, state):
    """The race: the caller saw one state, and by now the job is in another."""
    job = board.put(state)
    for seen in edge.sources - {state}:
        with pytest.raises(EdgeRefused) as caught, board.store.write() as connection:
            apply_edge(connection, edge.name, job, at=board.clock.now, source=seen)

        assert caught.value.state == state
        assert board.history(job) == ["posted"]


@pytest.mark.parametrize("edge", LEAVING, ids=named)
def test_an_edge_with_one_source_needs_none_named(board, edge):
    job = board.put(min(edge.sources))

    with board.store.write() as connection:
        if len(edge.sources) == 1:
            assert apply_edge(connection, edge.name, job, at=1.0).state == edge.target
        else:
            with pytest.raises(ValueError, match="unpack"):
                apply_edge(connection, edge.name, job, at=1.0)


@pytest.mark.parametrize("epoch", [0, 3, 5, -1])
@pytest.mark.parametrize("edge", LEAVING, ids=named)
def test_a_stale_holder_changes_nothing(board, edge, epoch):
    """P8."""
    job = board.put(min(edge.sources), epoch=4)

    with pytest.raises(ClaimLost) as caught:
        walk(board, edge, job, epoch=epoch)

    assert (caught.value.job_id, caught.value.epoch) == (job, epoch)
    assert board.history(job) == ["posted"]


def test_a_stale_holder_learns_that_it_is_stale_also_when_the_state_has_changed(board):
    job = board.put(JobState.CANCELLED, epoch=5)

    with pytest.raises(ClaimLost), board.store.write() as connection:
        apply_edge(connection, "completed", job, at=1.0, epoch=4)


@pytest.mark.parametrize("epoch", [None, 1])
@pytest.mark.parametrize("edge", LEAVING, ids=named)
def test_an_unknown_job_is_told_as_such(board, edge, epoch):
    for source in JobState:
        with pytest.raises(JobNotFound), board.store.write() as connection:
            apply_edge(connection, edge.name, NOBODY, at=1.0, source=source, epoch=epoch)

    assert board.rows(tables.job_entries) == []


def test_an_edge_that_the_table_lacks_is_a_fault_of_the_caller(board):
    job = board.put(JobState.RUNNING)

    with pytest.raises(KeyError), board.store.write() as connection:
        apply_edge(connection, "abandoned", job, at=1.0)


@pytest.mark.parametrize("requested", [None, 17.0])
def test_conditions_are_part_of_the_same_statement(board, requested):
    job = board.put(JobState.RUNNING, cancel_requested_at=requested)
    unasked = (tables.jobs.c.cancel_requested_at.is_(None),)

    def complete():
        with board.store.write() as connection:
            return apply_edge(connection, "completed", job, at=1.0, conditions=unasked)

    if requested is None:
        assert complete().state == "completed"
    else:
        with pytest.raises(EdgeRefused) as caught:
            complete()
        assert caught.value.state == "running"
        assert board.row(job).state == "running"


def test_further_columns_are_written_by_the_same_statement(board):
    job = board.put(JobState.PENDING, epoch=4, write=9)
    values = {"owner": "one", "epoch": tables.jobs.c.epoch + 1, "write": tables.jobs.c.write + 1}

    with board.store.write() as connection:
        row = apply_edge(connection, "claimed", job, at=1.0, values=values)

    assert (row.owner, row.epoch, row.write) == ("one", 5, 10)
    assert board.last(job)["epoch"] == 5


def test_one_job_moves_and_the_others_stay(board):
    others = {job: board.row(job) for job in (board.put(state) for state in JobState)}
    job = board.put(JobState.RUNNING)

    walk(board, next(each for each in EDGES if each.name == "parked"), job)

    assert all(board.row(other) == row for other, row in others.items())


def test_what_is_rolled_back_leaves_no_gap(board):
    job = board.put(JobState.RUNNING)

    with pytest.raises(ZeroDivisionError), board.store.write() as connection:
        apply_edge(connection, "released", job, at=1.0)
        record(connection, "cancel_requested", job, at=1.0)
        raise ZeroDivisionError
    with board.store.write() as connection:
        record(connection, "cancel_requested", job, at=2.0)
        apply_edge(connection, "released", job, at=2.0)

    assert board.history(job) == ["posted", "cancel_requested", "released"]


# -- entries without an edge


@pytest.mark.parametrize("state", JobState)
def test_a_record_changes_no_state(board, state):
    job = board.put(state, epoch=3, attempt=2)

    with board.store.write() as connection:
        record(connection, "cancel_requested", job, at=5.0, actor="ann", detail={"reason": "é\n\ud800"})

    assert board.row(job).state == state
    assert board.history(job) == ["posted", "cancel_requested"]
    entry = board.last(job)
    assert (entry["from_state"], entry["to_state"], entry["actor"], entry["attempt"]) == (
        None,
        None,
        "ann",
        2,
    )
    assert json.loads(entry["detail"]) == {"reason": "é\n\ud800"}


def test_a_record_of_an_unknown_job_is_refused(board):
    with pytest.raises(JobNotFound), board.store.write() as connection:
        record(connection, "cancel_requested", NOBODY, at=1.0)

    assert board.rows(tables.job_entries) == []


def test_an_attempt_has_one_outcome(board):
    """P2, as a promise of the database itself."""
    job = board.put(JobState.CANCELLED)
    outcome = {"job": job, "attempt": 1, "state": "cancelled", "undo": "none", "ended_at": 1.0}
    board.add(tables.job_outcomes, **outcome)

    with pytest.raises(sa.exc.IntegrityError):
        board.add(tables.job_outcomes, **(outcome | {"state": "completed"}))

    assert [row["state"] for row in board.rows(tables.job_outcomes)] == ["cancelled"]
    board.add(tables.job_outcomes, **(outcome | {"attempt": 2}))


def test_an_attempt_has_one_cancel_request_and_an_entry_number_one_entry(board):
    job = board.put(JobState.RUNNING)
    request = {"job": job, "attempt": 1, "reason": "", "source": "user", "who": "ann", "requested_at": 1.0}
    board.add(tables.job_cancels, **request)

    with pytest.raises(sa.exc.IntegrityError):
        board.add(tables.job_cancels, **(request | {"reason": "second"}))
    with pytest.raises(sa.exc.IntegrityError):
        board.add(tables.job_entries, job=job, number=1, at=1.0, name="x", attempt=1, epoch=0, detail="{}")
