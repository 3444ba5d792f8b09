"""What may be asked of a job now is what is accepted when it is asked."""

import itertools

import pytest

from ebbtide.errors import Conflict, JobNotFound, NotFound, UsageError
from ebbtide.jobs import tables
from ebbtide.jobs.acts import Act, choices
from ebbtide.jobs.ledger import ACCEPTED, Ledger
from ebbtide.jobs.pausing import Pauses
from ebbtide.jobs.states import JobState
from ebbtide.jobs.verbs import DELETED

WISHES = ("cancel_requested_at", "pause_requested_at", "delete_requested_at")
CASES = [
    (state, asked, held)
    for state, asked in itertools.product(JobState, (None, *WISHES))
    for held in ((False, True) if state is JobState.PARKED else (False,))
]


@pytest.fixture
def standing(board):
    """Make a job in a state: `load` and a savepoint are done; if it is parked, the undo of `write` failed."""

    def make(state, asked=None, held=False):
        columns = {} if asked is None else {asked: board.clock.now}
        job = board.put(state, begun=1, epoch=1, **columns)
        if asked == "cancel_requested_at":
            told = {"reason": "", "source": "user", "who": "ann", "requested_at": board.clock.now}
            board.add(tables.job_cancels, job=job, attempt=1, **told)
        board.add_task(job, "load", how="returned")
        board.add_task(job, "savepoint:loaded", how="returned")
        stuck = (
            {"undo_begun_at": 3.0, "undo_error": "OSError"} if state is JobState.PARKED and not held else {}
        )
        board.add_task(job, "write", how="returned", **stuck)
        if state is JobState.PARKED:
            board.add(
                tables.job_parks, job=job, attempt=1, number=1, reason="stuck", parked_at=1.0, held=int(held)
            )
        return job

    return make


def ask(store, act, job):
    """Ask for it as a poster would; whether it was accepted as something new."""
    ledger, pauses = Ledger(store), Pauses(store)
    calls = {
        Act.CANCEL: lambda: ledger.cancel(job, reason="", who="ann"),
        Act.RETRY: lambda: ledger.retry(job, who="ann"),
        Act.GO_ON: lambda: ledger.retry_from_failure(job, who="ann"),
        Act.PAUSE: lambda: pauses.pause(job, who="ann"),
        Act.RESUME: lambda: pauses.resume(job, who="ann"),
        Act.REWIND: lambda: pauses.rewind(job, "loaded", who="ann"),
        Act.UNPARK: lambda: ledger.unpark(job, who="ann"),
        Act.SKIP: lambda: ledger.unpark(job, who="ann", skip="write", reason="it is fine"),
        Act.ACCEPT: lambda: ledger.accept(job, reason="it is fine", who="ann"),
        Act.DELETE: lambda: ledger.delete(job, who="ann"),
    }
    try:
        answer = calls[act]()
    except (Conflict, NotFound, UsageError):
        return False
    return not isinstance(answer, str) or answer in (ACCEPTED, DELETED)


@pytest.mark.parametrize(
    "state, asked, held", CASES, ids=[f"{s}-{a}-{'held' if h else 'free'}" for s, a, h in CASES]
)
def test_what_is_offered_is_accepted_and_nothing_else_is(store, standing, state, asked, held):
    offered = set(choices(store, standing(state, asked, held)).acts)

    accepted = {act for act in Act if ask(store, act, standing(state, asked, held))}

    # To unpark a job that holds is to let it go on from its failure: it is offered once.
    assert offered == accepted - ({Act.UNPARK} if held else set())


def test_savepoints_and_undos_that_can_be_left_out_are_named(store, standing):
    assert choices(store, standing(JobState.PAUSED)).savepoints == ("loaded",)
    assert choices(store, standing(JobState.COMPLETED)).savepoints == ()
    assert choices(store, standing(JobState.PARKED)).skips == ("write",)


def test_wishes_that_have_not_come_to_pass_are_told(board, store, standing):
    job = standing(JobState.RUNNING)
    Pauses(store).rewind(job, "loaded", who="ann")
    found = choices(store, job)

    assert (found.pause_requested, found.rewind_to, found.delete_requested) == (True, "loaded", False)
    Ledger(store).delete(job, who="ann")
    assert choices(store, job).delete_requested


def test_an_unknown_job_has_no_choices(store):
    with pytest.raises(JobNotFound):
        choices(store, "00000000-0000-4000-8000-000000000000")
