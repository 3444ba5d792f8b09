"""What a person decides about a parked job: that it goes on, or that it may stay as it is."""

import json

import pytest
import sqlalchemy as sa

from ebbtide.errors import CommitUnknown, EdgeRefused, JobNotFound, TooLate, UsageError
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.claims import Request
from ebbtide.jobs.ledger import ACCEPTED, ALREADY_REQUESTED
from ebbtide.jobs.parking import park
from ebbtide.jobs.states import JobState
from ebbtide.jobs.views import Views

NOBODY = "00000000-0000-4000-8000-000000000000"
KEYS = ["copy@1"]
OTHERS = sorted(set(JobState) - {JobState.PARKED})


@pytest.fixture
def shown(store):
    return Views(store)


@pytest.fixture
def parked(board):
    """Make a job whose undo of `b` failed: `c` is undone, `a` is held."""

    def make(*, requested: bool = False, error: str | None = None, task: str | None = None, **columns):
        counted = {"begun": 1, "undoing": 1, "tasks_total": 4, "tasks_done": 2, "tasks_undone": 1}
        job = board.put(JobState.RUNNING, owner="one", epoch=4, **(counted | columns))
        undone = {"undo_begun_at": 1.0, "undo_ended_at": 2.0, "undo_tries": 1}
        board.add_task(job, "a", how="returned")
        board.add_task(job, "b", how="returned", undo_begun_at=3.0, undo_tries=1, undo_error="OSError: busy")
        board.add_task(job, "c", how="cancelled", **undone)
        if requested:
            board.ledger.cancel(job, reason="enough", who="bob")
        with board.store.write() as connection:
            park(
                connection,
                job,
                epoch=4,
                at=board.clock.now,
                reason="the undo of b failed: OSError: busy",
                task="b",
                error=error,
                error_task=task,
                actor="one",
            )
        board.clock.advance(60)
        return job

    return make


def request(board, job):
    (found,) = board.rows(tables.job_cancels, job)
    return found


def outcomes(board, job):
    names = ("attempt", "state", "undo", "error", "error_task", "result")
    return [tuple(row[name] for name in names) for row in board.rows(tables.job_outcomes, job)]


# -- unpark


def test_an_unparked_job_is_due_now_and_its_interruptions_are_forgotten(board, parked):
    job = parked(interruptions=2, attempt=3, due_at=board.clock.now - 1000)

    board.ledger.unpark(job, who="ann")

    row = board.row(job)
    assert (row.state, row.owner, row.due_at, row.interruptions) == ("pending", None, board.clock.now, 0)
    # It is the same attempt, and goes on in the direction that it had.
    assert (row.attempt, row.epoch, row.begun, row.undoing) == (3, 4, 1, 1)
    assert (row.tasks_done, row.tasks_undone, row.undo, row.ended_at) == (2, 1, None, None)
    assert board.history(job) == ["posted", "parked", "unparked"]
    last = board.last(job)
    assert (last["from_state"], last["to_state"], last["actor"]) == ("parked", "pending", "ann")
    assert outcomes(board, job) == []


def test_an_unparked_job_is_claimed_as_any_other_under_a_higher_epoch(board, parked, conductor):
    job = parked()
    board.ledger.unpark(job, who="ann")

    claim = conductor("two").claim(KEYS)

    assert claim is not None
    assert (claim.job_id, claim.epoch, claim.attempt, claim.cancel) == (job, 5, 1, None)
    assert board.history(job)[-2:] == ["unparked", "claimed"]


def test_the_claim_of_an_unparked_job_carries_the_request_that_came_while_it_was_parked(
    board, parked, conductor
):
    """P3."""
    job = parked()
    assert board.ledger.cancel(job, reason="enough", who="bob") == ACCEPTED
    board.ledger.unpark(job, who="ann")

    claim = conductor("two").claim(KEYS)

    assert claim is not None
    assert claim.cancel == Request(job, "enough", "user", 1)
    assert request(board, job)["reverted_at"] is None


def test_a_job_that_is_to_be_cancelled_and_has_begun_nothing_is_cancelled_by_being_unparked(board):
    """P3: there is nothing to be undone, and no conductor may be able to build it."""
    job = board.put(JobState.PARKED)
    board.ledger.cancel(job, reason="enough", who="bob")
    board.clock.advance(5)

    board.ledger.unpark(job, who="ann")

    row = board.row(job)
    assert (row.state, row.undo, row.ended_at) == ("cancelled", "none", board.clock.now)
    assert request(board, job)["reverted_at"] == board.clock.now
    assert outcomes(board, job) == [(1, "cancelled", "none", None, None, None)]
    assert board.history(job) == ["posted", "cancel_requested", "unparked", "cancelled_unclaimed"]


@pytest.mark.parametrize("state", OTHERS)
def test_only_a_parked_job_is_unparked(board, state):
    job = board.put(state, begun=1, interruptions=2)
    before = board.row(job)

    with pytest.raises(EdgeRefused) as caught:
        board.ledger.unpark(job, who="ann")

    assert (caught.value.job_id, caught.value.state, caught.value.edge) == (job, state, "unparked")
    assert board.row(job) == before
    assert board.history(job) == ["posted"]


def test_to_unpark_twice_is_refused_the_second_time(board, parked):
    job = parked()
    board.ledger.unpark(job, who="ann")

    with pytest.raises(EdgeRefused):
        board.ledger.unpark(job, who="ann")

    assert board.history(job) == ["posted", "parked", "unparked"]


def test_a_job_is_parked_and_unparked_as_often_as_it_takes(board, parked, conductor, shown):
    job = parked()
    two = conductor("two", lease_seconds=10**6)
    for number in range(2, 5):
        board.ledger.unpark(job, who="ann")
        claim = two.claim(KEYS)
        with board.store.write() as connection:
            park(connection, job, epoch=claim.epoch, at=1.0, reason=f"no. {number}", task="b", actor="two")
        assert shown.job(job).park_reason == f"no. {number}"

    assert [row["reason"] for row in board.rows(tables.job_parks, job)][1:] == ["no. 2", "no. 3", "no. 4"]
    assert board.history(job) == ["posted", "parked", *["unparked", "claimed", "parked"] * 3]


# -- accept


@pytest.mark.parametrize("requested", [False, True], ids=["failed", "cancelled"])
def test_a_job_that_is_accepted_as_it_is_ends_so_and_lists_what_is_not_undone(
    board, parked, shown, requested
):
    """P7: a person accepted that it is not."""
    job = parked(requested=requested, error="ValueError: no", task="c")
    state = "cancelled" if requested else "failed"

    board.ledger.accept(job, reason="cleaned up by hand", who="ann")

    row = board.row(job)
    assert (row.state, row.undo, row.ended_at, row.undoing) == (state, "accepted", board.clock.now, 0)
    assert (row.owner, row.attempt, row.epoch) == (None, 1, 4)
    last = board.last(job)
    assert (last["name"], last["actor"]) == (f"accepted_as_{state}", "ann")
    assert json.loads(last["detail"]) == {"reason": "cleaned up by hand", "not_undone": ["a", "b"]}
    assert outcomes(board, job) == [(1, state, "accepted", "ValueError: no", "c", None)]
    told = shown.job(job)
    assert (told.state, told.phase, told.undo, told.not_undone) == (state, state, "accepted", ["a", "b"])
    assert (told.error, told.error_task) == ("ValueError: no", "c")
    assert told.park_reason == "the undo of b failed: OSError: busy"
    assert told.progress == 0.5, "what stands is told"


def test_the_request_of_a_job_that_is_accepted_as_it_is_has_no_time_of_its_undo(board, parked):
    job = parked(requested=True)

    board.ledger.accept(job, reason="x", who="ann")

    assert request(board, job)["reverted_at"] is None
    assert board.ledger.cancel(job, reason="y", who="bob") == ALREADY_REQUESTED


def test_a_cancel_after_a_job_was_accepted_as_failed_is_too_late(board, parked):
    job = parked()
    board.ledger.accept(job, reason="x", who="ann")

    with pytest.raises(TooLate):
        board.ledger.cancel(job, reason="y", who="bob")


def test_the_error_of_an_accepted_job_is_what_failed_else_why_a_failed_one_was_parked(board, parked):
    failed = parked()
    board.add_task(failed, "d", how="raised", error="ValueError: d")
    unknown, cancelled = parked(), parked(requested=True)

    for job in (failed, unknown, cancelled):
        board.ledger.accept(job, reason="x", who="ann")

    assert outcomes(board, failed)[0][3:5] == ("ValueError: d", "d")
    assert outcomes(board, unknown)[0][3:5] == ("the undo of b failed: OSError: busy", "b")
    assert outcomes(board, cancelled)[0][3:5] == (None, None)


def test_what_was_parked_before_anything_began_is_accepted_with_nothing_to_list(board, shown):
    job = board.put(JobState.RUNNING, epoch=1)
    with board.store.write() as connection:
        park(connection, job, epoch=1, at=1.0, reason="flow copy@1 is not known", task=None, actor="one")

    board.ledger.accept(job, reason="x", who="ann")

    assert outcomes(board, job) == [(1, "failed", "accepted", "flow copy@1 is not known", None, None)]
    assert (shown.job(job).not_undone, shown.job(job).progress) == ([], 0.0)


def test_of_a_task_with_several_rounds_the_last_one_counts(board, parked, shown):
    job = parked()
    board.add_task(job, "c", round=2, how="returned")

    assert shown.job(job).not_undone == ["a", "b", "c"]


@pytest.mark.parametrize("state", OTHERS)
def test_nothing_but_a_parked_job_is_accepted_as_it_is(board, state):
    job = board.put(state, begun=1, cancel_requested_at=1.0)
    before = board.row(job)

    with pytest.raises(EdgeRefused) as caught:
        board.ledger.accept(job, reason="x", who="ann")

    assert (caught.value.job_id, caught.value.state, caught.value.edge) == (job, state, "accepted")
    assert board.row(job) == before
    assert (board.history(job), outcomes(board, job)) == (["posted"], [])


def test_an_accepted_job_is_retried_in_an_attempt_of_its_own_and_keeps_its_outcome(board, parked, shown):
    job = parked(requested=True)
    board.ledger.accept(job, reason="x", who="ann")

    assert board.ledger.retry(job, who="bob") == 2

    told = shown.job(job)
    assert (told.state, told.attempt, told.undo, told.park_reason) == ("pending", 2, None, None)
    assert (told.not_undone, told.cancel, told.error) == ([], None, None)
    assert [row[:3] for row in outcomes(board, job)] == [(1, "cancelled", "accepted")]
    assert [row["undo_ended_at"] for row in board.rows(tables.job_tasks, job)] == [None, None, 2.0]


def test_an_accepted_job_can_be_deleted(board, parked):
    job = parked()
    board.ledger.accept(job, reason="x", who="ann")

    board.ledger.delete(job, who="bob")

    assert board.rows(tables.jobs) == board.rows(tables.job_parks) == []


# -- either


def test_an_unknown_job_is_neither_unparked_nor_accepted(board):
    with pytest.raises(JobNotFound):
        board.ledger.unpark(NOBODY, who="ann")
    with pytest.raises(JobNotFound):
        board.ledger.accept(NOBODY, reason="x", who="ann")

    assert board.rows(tables.job_entries) == board.rows(tables.job_outcomes) == []


@pytest.mark.parametrize("verb", ["unpark", "accept"])
def test_other_jobs_are_left_alone(board, parked, verb):
    others = [parked(), *(board.put(state) for state in JobState)]
    before = [board.row(job) for job in others]
    job = parked()

    _decide(board, verb, job)

    assert [board.row(job) for job in others] == before


@pytest.mark.parametrize("requested", [False, True])
@pytest.mark.parametrize("verb", ["unpark", "accept"])
def test_a_decision_whose_answer_was_lost_is_found_to_be_stored(board, parked, monkeypatch, verb, requested):
    """P4."""
    job = parked(requested=requested)
    commit = board.store.dialect.commit

    def lose_the_answer(connection: sa.Connection) -> None:
        commit(connection)
        monkeypatch.setattr(board.store.dialect, "commit", commit)
        raise CommitUnknown("the line went dead")

    monkeypatch.setattr(board.store.dialect, "commit", lose_the_answer)

    _decide(board, verb, job)

    assert board.row(job).state == ("pending" if verb == "unpark" else "cancelled" if requested else "failed")


def _decide(board, verb, job):
    if verb == "unpark":
        board.ledger.unpark(job, who="ann")
    else:
        board.ledger.accept(job, reason="x", who="ann")


# -- the client


@pytest.fixture
def poster(made):
    with Poster(made) as opened:
        yield opened


def test_the_client_finds_the_job_by_a_prefix_and_gets_it_as_it_is_then(parked, poster):
    one, other = parked(), parked()

    unparked = poster.unpark(one[:13])
    accepted = poster.accept(other[:13], "  cleaned\n up ")

    assert (unparked.id, unparked.state, unparked.not_undone) == (one, "pending", [])
    assert (accepted.id, accepted.state, accepted.undo) == (other, "failed", "accepted")
    assert poster.entries(other)[-1].detail["reason"] == "cleaned up"


@pytest.mark.parametrize("reason", ["", "   ", "\n\t", "\u2028\u00a0"], ids=ascii)
def test_a_job_is_not_accepted_without_a_reason(parked, poster, reason):
    job = parked()

    with pytest.raises(UsageError, match="a reason is wanted"):
        poster.accept(job, reason)

    assert poster.show(job).state == "parked"


@pytest.mark.parametrize("reason", ["x" * 1001, "\x1b[31mred", "\u202etxt", "nul\0", None, 7], ids=ascii)
def test_the_reason_is_checked_as_that_of_a_cancel_is(parked, poster, reason):
    job = parked()

    with pytest.raises(UsageError, match="the reason"):
        poster.accept(job, reason)

    assert poster.show(job).state == "parked"


def test_a_wait_for_an_unparked_job_goes_on_and_is_not_ended_by_waiting_for_a_conductor(parked, poster):
    job = parked()
    assert poster.unpark(job).waits_for == "a conductor: none is running"

    with pytest.raises(TimeoutError):
        poster.wait(job, timeout=0.01)
    with pytest.raises(TimeoutError):
        list(poster.follow(job, timeout=0.01))
