"""Many jobs at once: one verb, a thousand in each transaction, and a true answer for each job."""

from collections import Counter

import pytest

from ebbtide import faults
from ebbtide.errors import ClaimLost, CommitUnknown, EdgeRefused, StoreUnavailable, TooLate, UsageError
from ebbtide.jobs import Selection, many, tables
from ebbtide.jobs.cancelling import Cancel
from ebbtide.jobs.deletion import Delete
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.many import Many
from ebbtide.jobs.pausing import Pause, Pauses, Resume
from ebbtide.jobs.retrying import Retry
from ebbtide.jobs.states import JobState
from tests.contract.holding import Holding

NOBODY = "00000000-0000-4000-8000-000000000000"
VERBS = {
    "cancel": lambda: Cancel("bob", reason="x"),
    "retry": lambda: Retry("bob"),
    "delete": lambda: Delete("bob"),
    "pause": lambda: Pause("bob"),
    "resume": lambda: Resume("bob"),
}
REFUSED_TO_BE = {"retry": "retried", "pause": "paused", "resume": "resumed"}


def ask(board, verb, **selection) -> dict[str, str]:
    asked = Selection(**selection)
    asked.check()
    return {answer.job_id: answer.answer for answer in Many(board.store).answers(verb, asked)}


def one_of_each(board) -> dict[str, str]:
    """A job in each state, half-done and not, and with each wish to stop, by what it is called."""
    jobs = {f"{state} {begun}": board.put(state, begun=begun) for state in JobState for begun in (0, 1)}
    for state in (JobState.PENDING, JobState.RUNNING):
        pause = {"begun": 1, "pause_requested_at": 1.0}
        jobs[f"{state}, to be paused"] = board.put(state, **pause)
        jobs[f"{state}, to be rewound"] = board.put(state, **pause, rewind_to="savepoint:there")
    return jobs


@pytest.mark.parametrize("name", VERBS)
def test_many_are_answered_and_changed_as_each_would_be_alone(board, name):
    """The same statements do both: this compares the rows, histories and requests that come of it."""
    alone, together = one_of_each(board), one_of_each(board)
    verb, ledger, pauses = VERBS[name](), Ledger(board.store), Pauses(board.store)
    calls = {
        "cancel": lambda job: ledger.cancel(job, reason="x", who="bob"),
        "retry": lambda job: ledger.retry(job, who="bob"),
        "delete": lambda job: ledger.delete(job, who="bob"),
        "pause": lambda job: pauses.pause(job, who="bob"),
        "resume": lambda job: pauses.resume(job, who="bob"),
    }

    for job in alone.values():
        try:
            calls[name](job)
        except (TooLate, EdgeRefused) as error:
            assert "too late" in str(error) or f"cannot be {REFUSED_TO_BE.get(name)}" in str(error)
    answers = ask(board, verb, ids=[*together.values(), NOBODY])

    assert answers.pop(NOBODY) == "unknown"
    assert set(answers) == set(together.values())
    for called, job in together.items():
        assert seen(board, job) == seen(board, alone[called]), called


def seen(board, job: str) -> object:
    """All that is stored of a job but its id."""
    rows = [row for row in board.rows(tables.jobs) if row["id"] == job]
    told = (tables.job_entries, tables.job_cancels, tables.job_outcomes)
    rows += [row for table in told for row in board.rows(table, job)]
    return [{key: value for key, value in row.items() if key not in ("id", "job")} for row in rows]


def test_a_cancel_takes_what_fits_all_filters_and_has_not_ended(board):
    labels = {"labels": {"team": "a"}, "labels_text": '{"team":"a"}'}
    old = board.post(**labels)
    board.clock.advance(100)
    young, other, unlabelled = board.post(**labels), board.post("move", **labels), board.post()
    board.ledger.cancel(board.post(**labels), reason="", who="ann")
    verb = Cancel("bob", reason="x")

    assert ask(board, verb, labels={"team": "a"}, older_than_seconds=60) == {old: "accepted"}
    assert ask(board, verb, labels={"team": "a"}, flow="copy") == {young: "accepted"}
    assert ask(board, verb, everything=True) == {other: "accepted", unlabelled: "accepted"}


def test_without_a_state_a_retry_takes_what_can_be_retried_and_a_deletion_what_has_ended(board):
    jobs = one_of_each(board)
    fits = {state: {jobs[f"{state} {begun}"] for begun in (0, 1)} for state in JobState}

    retried = ask(board, Retry("bob"), flow="copy")
    assert set(retried) == fits[JobState.FAILED] | fits[JobState.CANCELLED]
    deleted = ask(board, Delete("bob"), flow="copy")

    assert set(deleted) == fits[JobState.COMPLETED]
    assert set(deleted.values()) == {"deleted"}


def test_without_a_state_a_pause_takes_what_waits_or_runs_and_a_resumption_what_rests(board):
    jobs = one_of_each(board)
    fits = {state: {jobs[f"{state} {begun}"] for begun in (0, 1)} for state in JobState}
    active = fits[JobState.PENDING] | fits[JobState.RUNNING]
    asked = {jobs[f"{state}, to be paused"] for state in (JobState.PENDING, JobState.RUNNING)}

    assert ask(board, Pause("bob"), flow="copy") == dict.fromkeys(active, "accepted")
    rests = active | fits[JobState.PAUSED] | asked
    assert ask(board, Resume("bob"), flow="copy") == dict.fromkeys(rests, "accepted")

    assert {board.row(job).state for job in rests} == {"pending", "running"}
    assert {board.row(job).pause_requested_at for job in rests} == {None}


def test_a_dry_run_changes_nothing(board):
    jobs = [*one_of_each(board).values(), NOBODY]
    before = board.rows(tables.jobs)

    for make in VERBS.values():
        foreseen = list(Many(board.store).foreseen(make(), Selection(ids=jobs)))
        assert board.rows(tables.jobs) == before
        assert [answer.job_id for answer in foreseen] == jobs


@pytest.mark.parametrize("name", VERBS)
def test_what_was_foreseen_is_what_is_answered(board, name):
    jobs = [*one_of_each(board).values(), NOBODY]

    foreseen = list(Many(board.store).foreseen(VERBS[name](), Selection(ids=jobs)))

    assert list(Many(board.store).answers(VERBS[name](), Selection(ids=jobs))) == foreseen


def test_what_no_longer_fits_when_its_turn_comes_is_left_alone(board, monkeypatch):
    job, other = board.post(), board.post()
    real = Many._apply

    def meanwhile(self, *args):
        monkeypatch.setattr(Many, "_apply", real)
        board.ledger.cancel(job, reason="", who="ann")
        return self._apply(*args)

    monkeypatch.setattr(Many, "_apply", meanwhile)

    assert ask(board, Delete("bob"), state="pending") == {job: "changed", other: "deleted"}
    assert board.row(job).state == "cancelled"


@pytest.mark.parametrize(("error", "word"), [(StoreUnavailable, "not stored"), (CommitUnknown, "not known")])
def test_a_store_that_goes_away_in_the_middle_leaves_no_answer_untrue(board, monkeypatch, error, word):
    monkeypatch.setattr(many, "AT_ONCE", 2)
    jobs = [board.post() for _ in range(6)]

    def fail() -> None:
        raise error("away")

    monkeypatch.setattr("ebbtide.jobs.changes._READ_BACK_SECONDS", 0.0)
    with faults.arm("store.committing", fail, at=2):
        if error is CommitUnknown:
            monkeypatch.setattr("ebbtide.jobs.changes.Changes._is_marked", lambda *_: fail_again())
        answers = ask(board, Cancel("bob", reason="x"), ids=jobs)

    assert [answers[job] for job in jobs] == ["accepted"] * 2 + [word] * 2 + ["not stored"] * 2
    assert Counter(row["state"] for row in board.rows(tables.jobs)) == {"cancelled": 2, "pending": 4}
    # The same call again does the rest.
    assert set(ask(board, Cancel("bob", reason="x"), ids=jobs).values()) == {"already requested", "accepted"}


def fail_again() -> bool:
    raise StoreUnavailable("still away")


def test_a_commit_whose_answer_is_lost_is_read_back(board):
    jobs = [board.post() for _ in range(3)]

    def lose() -> None:
        raise CommitUnknown("the connection is gone")

    with faults.arm("store.committed", lose):
        answers = ask(board, Cancel("bob", reason="x"), ids=jobs)
    assert set(answers.values()) == {"accepted"}
    with faults.arm("store.committed", lose):
        answers = ask(board, Delete("bob"), ids=jobs)

    assert set(answers.values()) == {"deleted"}
    assert board.rows(tables.jobs) == []


def test_children_in_the_selection_are_asked_once(board):
    parent = board.post()
    child = board.post(parent=parent)

    assert ask(board, Cancel("bob", reason="x"), everything=True) == {parent: "accepted", child: "accepted"}
    assert board.history(child) == ["posted", "cancel_requested", "cancelled_unclaimed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"state": "done"},
        {"labels": {"": "x"}},
        {"older_than_seconds": -1},
        {"everything": True, "flow": "copy"},
        {"everything": True, "ids": []},
    ],
    ids=str,
)
def test_a_selection_that_names_nothing_or_contradicts_itself_is_refused(wrong):
    with pytest.raises(UsageError):
        Selection(**wrong).check()


# -- a deletion that waits for the end


def test_who_stores_the_outcome_of_a_job_that_is_to_be_deleted_removes_it(board):
    parked = board.put(JobState.PARKED, begun=1)
    assert ask(board, Delete("bob"), ids=[parked]) == {parked: "accepted"}
    assert board.row(parked).state == "parked"

    board.ledger.accept(parked, reason="it may stay", who="ann")

    for table in (tables.jobs, tables.job_entries, tables.job_cancels, tables.job_outcomes, tables.job_parks):
        assert board.rows(table) == []


def test_a_parked_job_that_had_begun_nothing_is_removed_as_it_is_let_go(board):
    parked = board.put(JobState.PARKED)
    board.ledger.delete(parked, who="bob")

    board.ledger.unpark(parked, who="ann")

    assert board.rows(tables.jobs) == []


def test_a_job_that_never_began_and_its_child_that_is_at_work_are_deleted_together(board):
    parent = board.put(JobState.PENDING)
    child = board.put(JobState.RUNNING, begun=1, parent=parent)

    assert ask(board, Delete("bob"), ids=[parent, child]) == {parent: "deleted", child: "accepted"}
    assert board.history(child) == ["posted", "delete_requested", "cancel_requested"]
    assert board.row(child).parent is None


@pytest.mark.parametrize("look", ["at once", "by the next try"])
def test_a_run_whose_last_commit_removed_its_job_learns_that_it_was_stored(
    board, conductor, monkeypatch, look
):
    held = undone_for_a_deletion(board, conductor())

    def lose() -> None:
        if look == "by the next try":
            not_at_once(monkeypatch)
        raise CommitUnknown("the connection is gone")

    with faults.arm("store.committed", lose):
        assert held.leave("cancelled")

    assert board.rows(tables.jobs) == []
    assert held.journal.lost is None


def test_a_run_whose_job_another_holder_removed_has_lost_it(board, conductor):
    stale = undone_for_a_deletion(board, conductor())
    board.clock.advance(100.0)
    holder = Holding(board.store, conductor("two").claim(["copy@1"]), "two")

    assert holder.leave("cancelled")
    assert board.rows(tables.jobs) == []

    with pytest.raises(ClaimLost):
        stale.leave("cancelled")


def undone_for_a_deletion(board, claims) -> Holding:
    """A run that has undone its task, which is all that it had begun, since its job is to be deleted."""
    job = board.post()
    held = Holding(board.store, claims.claim(["copy@1"]), claims.owner)
    held.begin("a")
    assert ask(board, Delete("bob"), ids=[job]) == {job: "accepted"}
    held.end("a", "returned")
    held.begin_undo("a")
    held.end_undo("a", works=True)
    return held


def not_at_once(monkeypatch) -> None:
    """The store cannot be asked what it holds, the first time."""
    # Here: `holding` has imported the conductor's room, past the warnings of what TaskFlow imports.
    from ebbtide.conductor.readback import is_stored

    place = "ebbtide.conductor.journal.is_stored"

    def away(*_, **__) -> bool:
        monkeypatch.setattr(place, is_stored)
        return False

    monkeypatch.setattr(place, away)
