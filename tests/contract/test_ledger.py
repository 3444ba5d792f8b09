"""What clients change: post, cancel and retry, each one transaction that is true once it is answered."""

import json
import uuid
from typing import Any

import pytest

from ebbtide.errors import EdgeRefused, JobNotFound, TooLate
from ebbtide.jobs import tables
from ebbtide.jobs.ledger import ACCEPTED, ALREADY_REQUESTED
from ebbtide.jobs.states import FINAL_STATES, JobState

NOBODY = "00000000-0000-4000-8000-000000000000"


def request(board, job: str, attempt: int = 1) -> Any:
    """The stored cancel request of an attempt."""
    (found,) = [row for row in board.rows(tables.job_cancels, job) if row["attempt"] == attempt]
    return found


# -- post


def test_a_post_stores_the_job_its_parameters_labels_and_first_entry(board):
    labels = {"team": "a", "x": "y z"}

    job = board.post("copy", version=3, parameters='{"a":1}', labels_text=json.dumps(labels), labels=labels)

    row = board.row(job)
    assert str(uuid.UUID(job)) == job
    assert (row.flow, row.version, row.state, row.owner) == ("copy", 3, "pending", None)
    assert (row.attempt, row.epoch, row.begun, row.undo, row.started_at) == (1, 0, 0, None, None)
    assert (row.created_at, row.due_at) == (board.clock.now, board.clock.now)
    (parameters,) = board.rows(tables.job_parameters, job)
    assert (parameters["parameters"], json.loads(parameters["labels"])) == ('{"a":1}', labels)
    assert {each["key"]: each["value"] for each in board.rows(tables.job_labels, job)} == labels
    assert board.history(job) == ["posted"]
    assert (board.last(job)["actor"], board.last(job)["to_state"]) == ("ann", "pending")


def test_a_delayed_job_is_due_later_and_its_priority_is_kept(board):
    job = board.post(delay_seconds=60.0, priority=-7)

    assert (board.row(job).due_at - board.row(job).created_at, board.row(job).priority) == (60.0, -7)


def test_every_post_is_a_job_of_its_own(board):
    assert len({board.post() for _ in range(5)}) == 5


# -- cancel


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PAUSED])
def test_a_job_of_which_nothing_has_begun_is_cancelled_at_once(board, state):
    job = board.put(state)
    board.clock.advance(5)

    answer = board.ledger.cancel(job, reason="wrong folder", who="bob")

    row = board.row(job)
    assert answer == ACCEPTED
    assert (row.state, row.undo, row.ended_at) == ("cancelled", "none", board.clock.now)
    assert board.history(job) == ["posted", "cancel_requested", "cancelled_unclaimed"]
    asked = request(board, job)
    assert (asked["reason"], asked["who"], asked["source"]) == ("wrong folder", "bob", "user")
    assert asked["requested_at"] == asked["reverted_at"] == board.clock.now
    (outcome,) = board.rows(tables.job_outcomes, job)
    assert (outcome["attempt"], outcome["state"], outcome["undo"]) == (1, "cancelled", "none")


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PAUSED])
def test_a_half_done_job_that_nobody_holds_is_left_for_a_conductor_to_undo_now(board, state):
    job = board.put(state, begun=1, due_at=board.clock.now + 3600)

    assert board.ledger.cancel(job, reason="", who="bob") == ACCEPTED

    row = board.row(job)
    assert (row.state, row.due_at, row.cancel_requested_at) == ("pending", board.clock.now, board.clock.now)
    assert request(board, job)["reverted_at"] is None
    assert board.rows(tables.job_outcomes) == []
    resumed = ["resumed"] if state is JobState.PAUSED else []
    assert board.history(job) == ["posted", "cancel_requested", *resumed]


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.PARKED])
@pytest.mark.parametrize("begun", [0, 1])
def test_the_request_to_a_running_or_parked_job_is_recorded_and_its_state_stays(board, state, begun):
    """P3: it ends cancelled once its conductor has undone it, or once it is unparked."""
    job = board.put(state, begun=begun, owner="one", epoch=3)

    assert board.ledger.cancel(job, reason="x", who="bob", source="parent") == ACCEPTED

    row = board.row(job)
    assert (row.state, row.owner, row.epoch, row.cancel_requested_at) == (state, "one", 3, board.clock.now)
    assert (request(board, job)["source"], request(board, job)["reverted_at"]) == ("parent", None)
    assert board.history(job) == ["posted", "cancel_requested"]
    assert json.loads(board.last(job)["detail"]) == {"reason": "x", "source": "parent"}


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
def test_a_cancel_of_what_has_ended_otherwise_is_too_late_and_stores_nothing(board, state):
    job = board.put(state)

    with pytest.raises(TooLate) as caught:
        board.ledger.cancel(job, reason="", who="bob")

    assert (caught.value.job_id, caught.value.state) == (job, state)
    assert board.rows(tables.job_cancels) == []
    assert board.history(job) == ["posted"]


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_the_last_before_a_cancel_is_committed_may_be_to_tell_of_it(board, state):
    job = board.put(state)
    told = []

    def tell():
        told.append(board.row(job).cancel_requested_at)

    assert board.ledger.cancel(job, reason="", who="bob", ahead=tell) == ACCEPTED
    assert told == [None]
    assert board.ledger.cancel(job, reason="", who="bob", ahead=tell) == ALREADY_REQUESTED
    assert told == [None]  # nothing was stored that second time


def test_nobody_is_told_of_a_cancel_that_is_too_late(board):
    job = board.put(JobState.FAILED)
    told = []

    with pytest.raises(TooLate):
        board.ledger.cancel(job, reason="", who="bob", ahead=lambda: told.append("told"))

    assert told == []


@pytest.mark.parametrize("begun", [0, 1])
@pytest.mark.parametrize(
    "state", sorted(set(JobState) - {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
)
def test_asking_twice_is_asking_once_and_the_first_reason_is_kept(board, state, begun):
    job = board.put(state, begun=begun)
    board.ledger.cancel(job, reason="first", who="bob")
    board.clock.advance(5)
    before, history = board.row(job), board.history(job)

    for _ in range(2):
        assert board.ledger.cancel(job, reason="second", who="eve") == ALREADY_REQUESTED

    assert (request(board, job)["reason"], request(board, job)["who"]) == ("first", "bob")
    assert board.row(job) == before
    assert board.history(job) == history


def test_a_cancelled_job_answers_already_requested(board):
    job = board.put(JobState.CANCELLED)

    assert board.ledger.cancel(job, reason="late", who="bob") == ALREADY_REQUESTED
    assert board.history(job) == ["posted"]


def test_an_unknown_job_is_neither_cancelled_retried_nor_deleted(board):
    for call in (
        lambda: board.ledger.cancel(NOBODY, reason="", who="bob"),
        lambda: board.ledger.retry(NOBODY, who="bob"),
        lambda: board.ledger.delete(NOBODY, who="bob"),
    ):
        with pytest.raises(JobNotFound):
            call()

    assert board.rows(tables.job_cancels) == board.rows(tables.job_entries) == []


# -- retry


@pytest.mark.parametrize("state", sorted({JobState.FAILED, JobState.CANCELLED}))
def test_a_retry_is_the_same_job_in_its_next_attempt(board, state):
    ended = {"started_at": 1.0, "ended_at": 2.0, "undo": "complete", "cancel_requested_at": 1.5}
    counted = {
        "begun": 1,
        "interruptions": 2,
        "tasks_total": 4,
        "tasks_done": 3,
        "tasks_undone": 3,
        "undoing": 1,
    }
    job = board.put(state, attempt=2, epoch=7, write=9, logs=5, priority=3, **ended, **counted)
    board.clock.advance(60)

    assert board.ledger.retry(job, who="bob") == 3

    row = board.row(job)
    assert (row.state, row.attempt, row.due_at) == ("pending", 3, board.clock.now)
    assert [getattr(row, name) for name in ended] == [None] * 4
    assert (row.begun, row.interruptions, row.tasks_done, row.tasks_undone, row.undoing) == (0, 0, 0, 0, 0)
    # What proves a claim, numbers a line or says how urgent the job is goes on.
    assert (row.epoch, row.write, row.logs, row.priority) == (7, 9, 5, 3)
    assert board.history(job) == ["posted", "retried"]
    assert (board.last(job)["attempt"], board.last(job)["actor"]) == (3, "bob")


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.FAILED, JobState.CANCELLED}))
def test_only_what_failed_or_was_cancelled_is_retried(board, state):
    job = board.put(state)

    with pytest.raises(EdgeRefused) as caught:
        board.ledger.retry(job, who="bob")

    assert (caught.value.state, caught.value.edge) == (state, "retried")
    assert board.row(job).attempt == 1


def test_the_old_attempt_keeps_its_request_outcome_and_tasks(board):
    job = board.post()
    board.ledger.cancel(job, reason="first", who="bob")
    board.add_task(job, "scan", how="returned")

    board.ledger.retry(job, who="bob")

    assert board.row(job).cancel_requested_at is None
    assert request(board, job)["reason"] == "first"
    assert [row["attempt"] for row in board.rows(tables.job_outcomes, job)] == [1]
    assert [row["attempt"] for row in board.rows(tables.job_tasks, job)] == [1]


def test_each_attempt_can_be_cancelled_for_a_reason_of_its_own(board):
    job = board.post()
    for attempt, reason in ((1, "first"), (2, "second"), (3, "third")):
        assert board.ledger.cancel(job, reason=reason, who="bob") == ACCEPTED
        assert request(board, job, attempt)["reason"] == reason
        if attempt < 3:
            board.ledger.retry(job, who="bob")

    assert [row["state"] for row in board.rows(tables.job_outcomes, job)] == ["cancelled"] * 3
    once = ["cancel_requested", "cancelled_unclaimed"]
    assert board.history(job) == ["posted", *once, "retried", *once, "retried", *once]


# -- delete: which jobs; that everything goes is shown with a job that ran, in test_deletion.py


@pytest.mark.parametrize("begun", [0, 1])
@pytest.mark.parametrize("state", sorted(JobState))
def test_what_has_ended_or_never_begun_is_deleted_and_all_else_is_cancelled_first(board, state, begun):
    job = board.put(state, begun=begun)
    idle = state in (JobState.PENDING, JobState.PAUSED) and not begun

    if state in FINAL_STATES or idle:
        assert board.ledger.delete(job, who="bob") == "deleted"
        assert board.rows(tables.jobs) == board.rows(tables.job_entries) == []
        return
    assert board.ledger.delete(job, who="bob") == "accepted"
    assert board.ledger.delete(job, who="eve") == "already requested"
    resumed = ["resumed"] * (state is JobState.PAUSED)
    assert board.history(job) == ["posted", "delete_requested", "cancel_requested", *resumed]
    asked = request(board, job)
    assert (asked["who"], asked["reason"]) == ("bob", "to be deleted")
    assert board.row(job).delete_requested_at == board.clock.now


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete"])
def test_other_jobs_are_left_alone(board, verb):
    others = [board.put(state, begun=begun) for state in JobState for begun in (0, 1)]
    before = [board.row(job) for job in others]
    job = board.put(JobState.CANCELLED if verb == "retry" else JobState.PENDING)

    match verb:
        case "cancel":
            board.ledger.cancel(job, reason="", who="bob")
        case "retry":
            board.ledger.retry(job, who="bob")
        case "delete":
            board.ledger.delete(job, who="bob")

    assert [board.row(job) for job in others] == before
    assert {row["job"] for row in board.rows(tables.job_cancels)} <= {job}
