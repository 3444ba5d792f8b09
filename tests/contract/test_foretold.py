"""What is told of an undo: by a preview, before anybody asks for it; by the receipt, afterwards.

Promises: P7 (what is not undone is named).
"""

import json

import pytest
import sqlalchemy as sa

from ebbtide.errors import JobNotFound, UsageError
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.durations import Durations, undo_durations
from ebbtide.jobs.parking import park
from ebbtide.jobs.preview import preview
from ebbtide.jobs.receipt import receipt
from ebbtide.jobs.states import JobState

NOBODY = "00000000-0000-4000-8000-000000000000"
DIAMOND = {"top": set(), "left": {"top"}, "right": {"top"}, "bottom": {"top", "left", "right"}}


def levels(found):
    return [(step.level, step.task) for step in found.steps]


@pytest.fixture
def diamond(board):
    """Make a running diamond: `bottom` is at work."""

    def make(**columns):
        job = board.put(JobState.RUNNING, **({"owner": "one", "epoch": 4, "begun": 1} | columns))
        for task in ("top", "left", "right"):
            board.add_task(job, task, how="returned")
        board.add_task(job, "bottom")
        return job

    return make


# -- preview


def test_what_stands_side_by_side_is_told_side_by_side_and_what_runs_comes_first(board, diamond):
    found = preview(board.store, diamond(), DIAMOND)

    assert (found.answer, found.in_order, found.state) == ("accepted", True, "running")
    assert levels(found) == [(1, "bottom"), (2, "right"), (2, "left"), (3, "top")]
    assert (found.running, found.never_begun, found.undone) == (("bottom",), (), ())
    assert found.as_dict()["steps"][0] == {
        "task": "bottom", "level": 1, "runs": True, "no_undo": None, "past": None
    }  # fmt: skip


def test_of_a_flow_that_is_not_known_the_order_of_beginning_is_turned_round(board, diamond):
    found = preview(board.store, diamond(), None)

    assert not found.in_order
    assert levels(found) == [(1, "bottom"), (2, "right"), (3, "left"), (4, "top")]


def test_what_is_undone_what_never_began_and_savepoints_are_no_steps(board):
    job = board.put(JobState.PENDING, begun=1)
    board.add_task(job, "a", how="returned")
    board.add_task(job, "savepoint:here", how="returned")
    board.add_task(job, "b", how="returned")
    board.add_task(job, "c", how="raised", undo_begun_at=1.0, undo_ended_at=2.0)
    order = {"a": set(), "savepoint:here": {"a"}, "b": {"savepoint:here", "a"}, "c": {"b"}, "d": {"c"}}

    found = preview(board.store, job, order)

    assert levels(found) == [(1, "b"), (2, "a")]
    assert (found.undone, found.never_begun, found.running) == (("c",), ("d",), ())


def test_what_cannot_be_undone_is_named(board):
    job = board.put(JobState.PENDING, begun=1)
    board.add_task(job, "look", how="returned", no_undo="none")
    board.add_task(job, "send", how="returned", no_undo="irreversible")
    board.add_task(job, "copy", how="returned")

    assert preview(board.store, job, None).cannot_undo == ("send", "look")


def test_how_long_each_undo_took_is_told_from_the_jobs_of_the_same_flow(board, diamond):
    for seconds in (1.0, 3.0):
        for task in DIAMOND:
            other = board.put(JobState.FAILED)
            times = {"undo_begun_at": 10.0, "undo_ended_at": 10.0 + seconds}
            board.add_task(other, task, how="returned", **times)
    stranger = board.put(JobState.FAILED, flow="other")
    board.add_task(stranger, "top", how="returned", undo_begun_at=0.0, undo_ended_at=900.0)

    found = preview(board.store, diamond(), DIAMOND)

    assert {step.past for step in found.steps} == {Durations(2, 2.0, 3.0)}
    assert found.seconds == 6.0, "three levels, of two seconds each"


def test_the_95th_percentile_is_a_duration_that_there_was():
    assert Durations.of([float(n) for n in range(1, 101)]) == Durations(100, 50.5, 95.0)
    assert Durations.of([4.0]) == Durations(1, 4.0, 4.0)


def test_a_clock_that_was_set_back_makes_no_duration_below_zero(board):
    job = board.put(JobState.FAILED)
    board.add_task(job, "a", how="returned", undo_begun_at=10.0, undo_ended_at=5.0)

    with board.store.read() as connection:
        assert undo_durations(connection, "copy") == {"a": Durations(1, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("state", "answer"),
    [("completed", "too late"), ("failed", "too late"), ("cancelled", "already requested")],
)
def test_of_a_job_that_has_ended_nothing_would_be_undone(board, state, answer):
    job = board.put(JobState(state), begun=1)
    board.add_task(job, "a", how="returned")

    found = preview(board.store, job, None)

    assert (found.answer, found.steps) == (answer, ())


def test_to_look_changes_nothing(board, diamond):
    job = diamond()
    before = board.row(job)

    preview(board.store, job, DIAMOND)

    assert (board.row(job), board.history(job)) == (before, ["posted"])


# -- receipt


@pytest.fixture
def parked(board, diamond):
    """A cancelled diamond whose undo of `left` failed: `top` is held."""
    job = diamond()
    board.clock.advance(5)
    board.ledger.cancel(job, reason="enough", who="bob")
    undone = {"undo_begun_at": board.clock.now, "undo_ended_at": board.clock.now + 2, "undo_tries": 1}
    set_task(board, job, "bottom", how="cancelled", ended_at=board.clock.now, **undone)
    set_task(board, job, "right", **undone)
    set_task(board, job, "left", undo_begun_at=1.0, undo_tries=4, undo_error="OSError: busy")
    with board.store.write() as connection:
        park(connection, job, epoch=4, at=board.clock.now, reason="x", task="left", actor="one")
    return job


def set_task(board, job, task, **values):
    of = tables.job_tasks
    with board.store.write() as connection:
        connection.execute(sa.update(of).where(of.c.job == job, of.c.task == task).values(**values))


def test_a_receipt_says_who_why_when_what_was_undone_and_what_was_not_and_why(board, parked):
    found = receipt(board.store, parked)

    assert (found.state, found.undo, found.complete) == ("parked", None, False)
    assert (found.cancel.who, found.cancel.reason, found.cancel.requested_at) == (
        "bob", "enough", board.clock.now
    )  # fmt: skip
    assert (found.forwarded_seconds, found.delivered_seconds, found.reverted_seconds) == (None, None, None)
    assert [(each.task, each.seconds, each.tries) for each in found.undone] == [
        ("right", 2.0, 1), ("bottom", 2.0, 1)
    ]  # fmt: skip
    assert [(each.task, each.why) for each in found.not_undone] == [
        ("left", "its undo failed (4 tries): OSError: busy"),
        ("top", "held by left"),
    ]
    told = found.as_dict()
    assert told["cancel"]["requested_at"].endswith("Z")
    assert told["undone"][0]["undo_ended_at"].endswith("Z")


def test_an_undo_that_is_left_out_is_told_with_the_reason_and_the_job_goes_on_without_it(board, parked):
    board.ledger.unpark(parked, who="ann", skip="left", reason="it is a copy anyway")

    assert board.last(parked)["actor"] == "ann"
    detail = {"skipped": "left", "reason": "it is a copy anyway"}
    assert json.loads(board.last(parked)["detail"]) == detail
    found = receipt(board.store, parked)
    assert [(each.task, each.why) for each in found.not_undone] == [
        ("left", "left out: it is a copy anyway"),
        ("top", "it is still to be undone"),
    ]
    assert [step.task for step in preview(board.store, parked, DIAMOND).steps] == ["top"]
    assert preview(board.store, parked, DIAMOND).skipped == ("left",)


@pytest.mark.parametrize("task", ["top", "right", "nobody"])
def test_only_an_undo_that_has_failed_can_be_left_out(board, parked, task):
    with pytest.raises(UsageError, match=f"no undo of '{task}' has failed .*left"):
        board.ledger.unpark(parked, who="ann", skip=task, reason="x")

    assert board.row(parked).state == "parked"


def test_who_accepts_a_job_as_it_is_is_told_with_the_reason(board, parked):
    board.ledger.accept(parked, reason="cleaned up by hand", who="ann")

    found = receipt(board.store, parked)

    assert (found.state, found.undo, found.complete) == ("cancelled", "accepted", False)
    assert (found.accepted_by, found.reason) == ("ann", "cleaned up by hand")
    assert [each.task for each in found.not_undone] == ["left", "top"]


@pytest.mark.parametrize("state, undo", [(JobState.RUNNING, None), (JobState.COMPLETED, "none")])
def test_of_a_job_that_nobody_wants_undone_nothing_is_told_as_not_undone(board, state, undo):
    job = board.put(state, undo=undo, begun=1)
    board.add_task(job, "write", how="returned")

    found = receipt(board.store, job)

    assert (found.undone, found.not_undone) == ((), ())


def test_what_has_no_undo_is_not_told_as_undone(board):
    job = board.put(JobState.CANCELLED, undo="complete")
    undone = {"how": "returned", "undo_begun_at": 1.0, "undo_ended_at": 2.0, "undo_tries": 1}
    board.add_task(job, "look", no_undo="none", **undone)
    board.add_task(job, "send", no_undo="irreversible", **undone)
    board.add_task(job, "copy", **undone)

    found = receipt(board.store, job)

    assert ([each.task for each in found.undone], found.complete) == (["copy"], True)
    assert [(each.task, each.why) for each in found.not_undone] == [
        ("send", "it is irreversible"),
        ("look", "it has no undo"),
    ]


def test_of_a_job_that_nobody_wanted_undone_there_is_nothing_to_tell(board):
    job = board.put(JobState.COMPLETED)
    board.add_task(job, "a", how="returned")

    found = receipt(board.store, job)

    assert (found.cancel, found.undone, found.not_undone) == (None, (), ())


def test_an_unknown_job_has_neither(board):
    with pytest.raises(JobNotFound):
        preview(board.store, NOBODY, None)
    with pytest.raises(JobNotFound):
        receipt(board.store, NOBODY)


# -- the client


@pytest.fixture
def poster(made):
    with Poster(made) as opened:
        yield opened


def test_the_client_is_told_of_a_flow_that_it_does_not_know(board, diamond, poster):
    job = diamond()

    assert not poster.preview(job[:13]).in_order
    assert poster.receipt(job[:13]).job == job


@pytest.mark.parametrize(("skip", "reason"), [("left", ""), ("left", " \n"), (None, "why not")])
def test_a_task_and_a_reason_come_together(parked, poster, skip, reason):
    with pytest.raises(UsageError, match="a reason is"):
        poster.unpark(parked, skip=skip, reason=reason)
