"""Limits of running jobs: who finds that one was passed, what is recorded, and how such a job ends."""

import json
from typing import Any

import pytest

from ebbtide.errors import TooLate
from ebbtide.flows.policies import Limits, Policies
from ebbtide.jobs import Poster, Selection, tables
from ebbtide.jobs.acts import Act
from ebbtide.jobs.cancels import DEADLINE, NO_PROGRESS, TASK_LIMIT
from ebbtide.jobs.claims import Claim, Request
from ebbtide.jobs.ledger import ACCEPTED, ALREADY_REQUESTED
from ebbtide.jobs.limits import LimitWatch
from ebbtide.jobs.states import JobState

KEYS = ["copy@1"]


def limited(board, **limits) -> Any:
    return board.post(policies=Policies(limits=Limits(**limits)))


@pytest.fixture
def watch(board):
    """Looks at the jobs of conductor one, by the board's clock."""
    return LimitWatch(board.store, "one", seconds=lambda: board.clock.boot)


def sources(watch) -> list[str]:
    return [passed.source for passed in watch.record()]


def test_a_job_is_out_of_time_so_many_seconds_after_its_claim(board, conductor, watch):
    """P3: the request is recorded like a cancel, once, and forwarded like one."""
    one = conductor("one", lease_seconds=1000)
    job = limited(board, job_seconds=60)
    board.clock.advance(500)
    one.claim(KEYS)
    board.clock.advance(59)
    assert watch.record() == []

    board.clock.advance(1)
    assert sources(watch) == [DEADLINE]
    assert watch.record() == []

    assert board.history(job) == ["posted", "claimed", "limit_passed"]
    detail = {"reason": "the job took longer than 60 s", "source": "deadline"}
    assert (json.loads(board.last(job)["detail"]), board.last(job)["actor"]) == (detail, "one")
    assert one.requests() == [Request(job, detail["reason"], "deadline", 1)]


def test_only_the_time_in_which_it_is_claimed_counts(board, conductor, watch):
    one = conductor("one", lease_seconds=10_000)
    job = limited(board, job_seconds=60)
    for _ in range(2):
        claim = one.claim(KEYS)
        board.clock.advance(25)
        one.hand_back(claim)
        board.clock.advance(1000)

    one.claim(KEYS)
    assert board.row(job).deadline_at == pytest.approx(board.clock.now + 10)
    board.clock.advance(10.001)
    assert sources(watch) == [DEADLINE]


def test_the_time_goes_on_where_a_conductor_is_gone(board, conductor):
    one, two = conductor("one", lease_seconds=30), conductor("two", lease_seconds=1000)
    limited(board, job_seconds=60)
    one.claim(KEYS)
    board.clock.advance(61)

    assert two.claim(KEYS) is not None
    assert sources(LimitWatch(board.store, "two")) == [DEADLINE]


def test_the_next_attempt_has_all_its_time(board, conductor, watch):
    one = conductor("one", lease_seconds=10_000)
    job = limited(board, job_seconds=60)
    one.claim(KEYS)
    board.clock.advance(60)
    watch.record()
    board.change(job, state="failed")
    board.by_hand.changed(job, 3, {"state": "failed"})

    board.ledger.retry(job, who="ann")

    one.claim(KEYS)
    assert board.row(job).deadline_at == board.clock.now + 60


def test_a_run_of_which_nothing_is_stored_makes_no_progress(board, conductor, watch):
    one = conductor("one", lease_seconds=1000)
    job = limited(board, no_progress_seconds=30)
    one.claim(KEYS)
    for _ in range(3):
        assert watch.record() == []
        board.clock.advance(29)
        board.change(job, write=board.row(job).write + 1)
    assert watch.record() == []

    board.clock.advance(30)
    assert sources(watch) == [NO_PROGRESS]
    assert json.loads(board.last(job)["detail"])["reason"] == "the job made no progress for 30 s"


def test_a_task_that_did_not_stop_by_its_limit_stops_the_job(board, conductor, watch):
    one = conductor("one", lease_seconds=1000)
    job = board.post()
    claim = one.claim(KEYS)
    board.add_task(job, "quick", epoch=claim.epoch, stop_by=board.clock.boot + 5, how="returned")
    board.add_task(job, "deaf", epoch=claim.epoch, stop_by=board.clock.boot + 20)
    board.add_task(job, "old", epoch=claim.epoch - 1, stop_by=board.clock.boot - 100)
    board.clock.advance(19)
    assert watch.record() == []

    board.clock.advance(1)
    assert sources(watch) == [TASK_LIMIT]
    assert "deaf took longer than its limit" in json.loads(board.last(job)["detail"])["reason"]


def test_the_children_of_a_job_out_of_time_are_cancelled_with_it(board, conductor, watch):
    """It is undone once they have ended, and nobody else would ever end one that goes on for good."""
    one = conductor("one", lease_seconds=1000)
    parent = limited(board, job_seconds=60)
    one.claim(KEYS)
    waiting, at_work = (board.post(parent=parent) for _ in range(2))
    one.claim_one(at_work, KEYS)
    board.clock.advance(60)

    assert sources(watch) == [DEADLINE]

    assert board.row(waiting).state == JobState.CANCELLED
    assert {row["source"] for row in board.rows(tables.job_cancels) if row["job"] != parent} == {"parent"}
    assert {request.job_id for request in one.requests()} == {parent, at_work}


@pytest.mark.parametrize("other", ["another conductor's", "cancelled before", "being undone", "not limited"])
def test_what_is_left_alone(board, conductor, watch, other):
    holder = conductor("two" if other == "another conductor's" else "one", lease_seconds=1000)
    job = board.post() if other == "not limited" else limited(board, job_seconds=60)
    holder.claim(KEYS)
    if other == "cancelled before":
        board.ledger.cancel(job, reason="x", who="bob")
    elif other == "being undone":
        board.change(job, undoing=1)
    board.clock.advance(100)

    assert watch.record() == []


# -- how it ends


def out_of_time(board, state: JobState, **columns) -> Any:
    job = board.put(state, cancel_requested_at=board.clock.now, **columns)
    asked = {"reason": "the job took longer than 60 s", "source": DEADLINE, "who": "one"}
    board.add(tables.job_cancels, job=job, attempt=1, requested_at=board.clock.now, **asked)
    return job


@pytest.mark.altered_by_hand("it is put there with a limit passed, which no entry tells")
def test_a_parked_job_that_was_out_of_time_is_accepted_as_failed(board):
    job = out_of_time(board, JobState.PARKED, begun=1)

    board.ledger.accept(job, reason="seen to", who="ann")

    assert (board.row(job).state, board.history(job)[-1]) == ("failed", "accepted_as_failed")
    with pytest.raises(TooLate):
        board.ledger.cancel(job, reason="x", who="bob")


def test_one_of_which_nothing_has_begun_is_not_cancelled_by_being_unparked(board):
    job = out_of_time(board, JobState.PARKED, begun=0)

    board.ledger.unpark(job, who="ann")

    assert (board.row(job).state, board.history(job)[-1]) == ("pending", "unparked")


# -- who cancels what a limit stops


@pytest.fixture
def stopped(board, conductor, watch):
    """A running job of which a limit was passed, and its conductor."""
    one = conductor("one", lease_seconds=1000)
    job = limited(board, job_seconds=60)
    one.claim(KEYS)
    board.change(job, begun=1)
    board.clock.advance(60)
    assert sources(watch) == [DEADLINE]
    return job, one


def test_a_cancel_takes_the_place_of_the_request_of_a_limit(board, stopped, watch):
    """P3: what is cancelled is not tried again."""
    job, one = stopped
    (passed,) = one.requests()
    one.forwarded(passed, board.clock.now)
    board.clock.advance(1)

    assert board.ledger.cancel(job, reason="x", who="bob") == ACCEPTED
    assert board.ledger.cancel(job, reason="y", who="ann") == ALREADY_REQUESTED

    (request,) = board.rows(tables.job_cancels)
    assert (request["source"], request["reason"], request["who"]) == ("user", "x", "bob")
    assert request["requested_at"] == request["forwarded_at"] == board.clock.now
    assert board.history(job)[2:] == ["limit_passed", "cancel_forwarded", "cancel_requested"]
    assert one.requests() == watch.record() == []


def test_what_a_limit_stops_is_offered_foretold_and_found_to_be_cancelled(board, made, stopped):
    job, _ = stopped
    with Poster(made) as poster:
        assert Act.CANCEL in poster.choices(job).acts
        assert poster.preview(job).answer == ACCEPTED
        everything = Selection(everything=True)
        assert [each.answer for each in poster.cancel_many(everything, dry_run=True)] == [ACCEPTED]
        assert [each.answer for each in poster.cancel_many(everything)] == [ACCEPTED]
        assert list(poster.cancel_many(everything)) == []
        assert poster.preview(job).answer == ALREADY_REQUESTED


def test_a_job_that_a_limit_stopped_before_anything_had_begun_is_cancelled_at_once(board, stopped):
    job, one = stopped
    board.change(job, begun=0)
    one.hand_back(Claim(job, "copy", 1, 1, 1, 0))

    assert board.ledger.cancel(job, reason="x", who="bob") == ACCEPTED

    assert (board.row(job).state, board.row(job).undo) == ("cancelled", "none")
    (request,) = board.rows(tables.job_cancels)
    assert (request["source"], request["reverted_at"]) == ("user", board.clock.now)


@pytest.mark.parametrize("how", ["cancelled", "deleted"])
def test_a_child_that_a_limit_stops_is_cancelled_with_its_parent(board, conductor, stopped, how):
    """Else it might be tried again, and its parent would wait for that."""
    child, _ = stopped
    parent = board.put(JobState.RUNNING, begun=1, owner="two")
    board.change(child, parent=parent)

    if how == "cancelled":
        board.ledger.cancel(parent, reason="x", who="bob")
    else:
        board.ledger.delete(parent, who="bob")

    sources_of = {row["job"]: row["source"] for row in board.rows(tables.job_cancels)}
    assert sources_of == {parent: "user", child: "parent"}


def test_a_reader_sees_when_it_will_be_out_of_time(board, conductor, made):
    job = limited(board, job_seconds=60)
    conductor("one").claim(KEYS)

    with Poster(made) as poster:
        found = poster.show(job)

    assert found.deadline_at == pytest.approx(board.clock.now + 60)
    assert found.policies["limits"] == {"job_seconds": 60, "no_progress_seconds": None}
