"""What a client may ask of a job between running and not: pause, resume, rewind; and of a whole flow."""

import pytest

from ebbtide.errors import EdgeRefused, JobNotFound, SavepointNotReached
from ebbtide.jobs import Poster, Selection, tables
from ebbtide.jobs.ledger import ACCEPTED, ALREADY_REQUESTED
from ebbtide.jobs.many import Many
from ebbtide.jobs.pausing import Pauses, Resume
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.views import Views

NOBODY = "00000000-0000-4000-8000-000000000000"
KEYS = ["copy@1"]


@pytest.fixture
def pauses(board):
    return Pauses(board.store)


@pytest.fixture
def running(board):
    """Make a running job that has reached the savepoint `loaded` and something behind it."""

    def make(**columns):
        job = board.put(JobState.RUNNING, **({"owner": "one", "epoch": 4, "begun": 1} | columns))
        board.add_task(job, "load", how="returned")
        board.add_task(job, "savepoint:loaded", how="returned")
        board.add_task(job, "check")
        return job

    return make


# -- pause


def test_a_waiting_job_is_paused_at_once_and_nobody_claims_it(board, pauses, conductor):
    job = board.post()

    assert pauses.pause(job, who="ann") == ACCEPTED

    assert (board.row(job).state, board.history(job)) == ("paused", ["posted", "paused"])
    assert board.last(job)["actor"] == "ann"
    assert conductor("one").claim(KEYS) is None


def test_a_running_job_is_asked_to_and_its_conductor_hears_of_it(board, pauses, running, conductor):
    one = conductor("one")
    job, other = running(), running(owner="two")

    assert pauses.pause(job, who="ann") == ACCEPTED
    pauses.pause(other, who="ann")

    assert (board.row(job).state, board.row(job).pause_requested_at) == ("running", board.clock.now)
    assert board.history(job) == ["posted", "pause_requested"]
    assert one.to_pause() == [(job, 4)]


def test_to_pause_twice_is_to_pause_once(board, pauses, running):
    jobs = [board.post(), running()]

    for job in jobs:
        pauses.pause(job, who="ann")
        board.clock.advance(5)
        assert pauses.pause(job, who="bob") == ALREADY_REQUESTED

    assert [len(board.history(job)) for job in jobs] == [2, 2]


def test_a_job_that_goes_back_to_a_savepoint_is_paused_there_and_not_before(board, pauses, running):
    job = running()
    board.change(job, state="pending", owner=None)
    pauses.rewind(job, "loaded", who="ann")

    assert pauses.pause(job, who="bob") == ALREADY_REQUESTED

    assert (board.row(job).state, board.row(job).rewind_to) == ("pending", "savepoint:loaded")


@pytest.mark.parametrize("state", sorted({JobState.PARKED, *FINAL_STATES}))
def test_what_is_parked_or_has_ended_cannot_be_paused(board, pauses, state):
    job = board.put(state, begun=1, pause_requested_at=1.0)

    with pytest.raises(EdgeRefused, match=f"cannot be paused: it is {state}"):
        pauses.pause(job, who="ann")

    assert board.history(job) == ["posted"]


def test_a_cancel_wins_over_a_pause_whichever_comes_first(board, pauses, running):
    """P3."""
    first, then = running(), running()
    board.ledger.cancel(first, reason="x", who="bob")
    pauses.pause(then, who="ann")

    with pytest.raises(EdgeRefused, match="it is cancelling"):
        pauses.pause(first, who="ann")

    assert board.ledger.cancel(then, reason="x", who="bob") == ACCEPTED


def test_a_paused_job_that_is_cancelled_is_undone_or_ends_at_once(board, pauses):
    begun, never = board.put(JobState.PENDING, begun=1), board.post()
    for job in (begun, never):
        pauses.pause(job, who="ann")
        board.ledger.cancel(job, reason="x", who="bob")

    assert board.history(begun) == ["posted", "paused", "cancel_requested", "resumed"]
    assert board.history(never) == ["posted", "paused", "cancel_requested", "cancelled_unclaimed"]


# -- resume


def test_a_resumed_job_waits_again_as_it_did_before(board, pauses, conductor):
    later = board.clock.now + 100
    job, delayed = board.post(), board.put(JobState.PENDING, due_at=later)
    for each in (job, delayed):
        pauses.pause(each, who="ann")
        pauses.resume(each, who="ann")

    assert board.history(job) == ["posted", "paused", "resumed"]
    assert (board.row(delayed).state, board.row(delayed).due_at) == ("pending", later)
    assert conductor("one").claim(KEYS).job_id == job


def test_a_job_that_has_not_come_to_rest_yet_goes_on(board, pauses, running, conductor):
    one, job = conductor("one"), running()
    pauses.pause(job, who="ann")

    pauses.resume(job, who="bob")

    assert (board.row(job).state, board.row(job).pause_requested_at, one.to_pause()) == ("running", None, [])
    assert board.history(job) == ["posted", "pause_requested", "pause_withdrawn"]


def test_a_job_that_was_released_before_it_came_to_rest_goes_on(board, pauses, running, conductor):
    job = running()
    pauses.pause(job, who="ann")
    board.change(job, state="pending", owner=None)

    pauses.resume(job, who="bob")

    assert conductor("one").claim(KEYS).job_id == job
    assert conductor("one").to_pause() == []


def test_what_is_to_be_cancelled_is_not_resumed(board, pauses, running):
    job = running()
    pauses.pause(job, who="ann")
    board.ledger.cancel(job, reason="x", who="bob")

    with pytest.raises(EdgeRefused, match="cannot be resumed: it is cancelling"):
        pauses.resume(job, who="ann")

    (answer,) = Many(board.store).answers(Resume("ann"), Selection(ids=[job]))
    assert answer.answer == "refused"
    assert list(Many(board.store).answers(Resume("ann"), Selection(flow="copy"))) == []
    assert board.history(job)[-1] == "cancel_requested"


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.PAUSED}))
def test_only_a_paused_job_is_resumed(board, pauses, state):
    job = board.put(state)

    with pytest.raises(EdgeRefused, match=f"cannot be resumed: it is {state}"):
        pauses.resume(job, who="ann")


def test_an_unknown_job_is_neither_paused_nor_resumed_nor_rewound(pauses):
    for ask in (pauses.pause, pauses.resume):
        with pytest.raises(JobNotFound):
            ask(NOBODY, who="ann")
    with pytest.raises(JobNotFound):
        pauses.rewind(NOBODY, "loaded", who="ann")


# -- rewind


def test_a_running_job_stops_first_and_what_it_is_to_go_back_to_is_kept(board, pauses, running, conductor):
    one, job = conductor("one"), running()

    assert pauses.rewind(job, "loaded", who="ann") == ACCEPTED

    assert (board.row(job).state, board.row(job).rewind_to) == ("running", "savepoint:loaded")
    assert one.to_pause() == [(job, 4)]
    assert board.history(job) == ["posted", "rewind_requested"]
    assert pauses.rewind(job, "loaded", who="bob") == ALREADY_REQUESTED
    with pytest.raises(EdgeRefused, match="cannot be resumed"):
        pauses.resume(job, who="bob")


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.PAUSED])
def test_a_resting_job_waits_for_a_conductor_to_rewind_it(board, pauses, running, conductor, state):
    job = running()
    board.change(job, state=state.value, owner=None, due_at=board.clock.now + 100)

    pauses.rewind(job, "loaded", who="ann")

    assert board.row(job).state == "pending"
    assert conductor("one").claim(KEYS).job_id == job
    assert conductor("one").to_pause() == []


def test_a_job_goes_back_only_to_where_it_has_been_and_still_is(board, pauses, running):
    job = running()
    board.add_task(job, "savepoint:gone", how="returned", undo_begun_at=1.0, undo_ended_at=2.0)
    board.add_task(job, "savepoint:near")

    for name in ("gone", "near", "check", "never"):
        with pytest.raises(SavepointNotReached, match="reached: loaded") as caught:
            pauses.rewind(job, name, who="ann")
        assert caught.value.reached == ["loaded"]

    assert (pauses.savepoints(job), board.row(job).rewind_to) == (["loaded"], None)


@pytest.mark.parametrize("state", sorted({JobState.PARKED, *FINAL_STATES}))
def test_what_is_parked_or_has_ended_is_not_rewound(board, pauses, running, state):
    job = running()
    board.change(job, state=state.value)

    with pytest.raises(EdgeRefused, match=f"cannot be rewound: it is {state}"):
        pauses.rewind(job, "loaded", who="ann")


@pytest.mark.parametrize(
    ("columns", "word"), [({"undoing": 1}, "reverting"), ({"cancel_requested_at": 1.0}, "cancelling")]
)
def test_what_is_being_undone_anyway_is_not_rewound(board, pauses, running, columns, word):
    job = running(**columns)

    with pytest.raises(EdgeRefused, match=f"cannot be rewound: it is {word}"):
        pauses.rewind(job, "loaded", who="ann")


def test_the_next_attempt_knows_nothing_of_it(board, pauses, running):
    job = running()
    pauses.rewind(job, "loaded", who="ann")
    board.change(job, state="failed", owner=None)

    board.ledger.retry(job, who="ann")

    assert (board.row(job).rewind_to, board.row(job).pause_requested_at) == (None, None)
    assert pauses.savepoints(job) == []


# -- flows


@pytest.mark.parametrize("version", [0, 1])
def test_nobody_claims_a_job_of_a_paused_flow_until_it_is_resumed(board, pauses, conductor, version):
    one = conductor("one")
    job = board.post()

    assert pauses.pause_flow("copy", version, who="ann")
    assert not pauses.pause_flow("copy", version, who="bob")
    assert one.claim(KEYS) is None
    assert Views(board.store).job(job).waits_for == "somebody to resume flow copy, which is paused"
    assert pauses.paused_flows() == ["copy@1" if version else "copy"]

    assert pauses.resume_flow("copy", version)
    assert not pauses.resume_flow("copy", version)
    assert (one.claim(KEYS).job_id, pauses.paused_flows()) == (job, [])


def test_another_flow_and_another_version_are_claimed_as_before(board, pauses, conductor):
    pauses.pause_flow("copy", 2, who="ann")
    pauses.pause_flow("move", 0, who="ann")
    job = board.post()

    assert conductor("one").claim([*KEYS, "copy@2", "move@1"]).job_id == job


def test_what_is_to_be_cancelled_is_claimed_all_the_same(board, pauses, conductor):
    """P3: a cancel wins over the pause of a flow."""
    board.post()
    job = board.put(JobState.PENDING, begun=1)
    board.ledger.cancel(job, reason="x", who="bob")
    pauses.pause_flow("copy", who="ann")

    assert conductor("one").claim(KEYS).job_id == job


# -- the client


@pytest.fixture
def poster(made):
    with Poster(made) as opened:
        yield opened


def test_the_client_pauses_resumes_and_rewinds_by_a_prefix(board, running, poster):
    one, other = board.post(), running()

    assert (poster.pause(one[:13]).job.state, poster.pause(one).answer) == ("paused", ALREADY_REQUESTED)
    assert poster.resume(one[:13]).state == "pending"
    assert poster.savepoints(other[:13]) == ["loaded"]
    assert poster.rewind(other[:13], "loaded").answer == ACCEPTED
    assert (poster.pause_flow("copy"), poster.paused_flows(), poster.resume_flow("copy")) == (
        True,
        ["copy"],
        True,
    )
    assert board.rows(tables.paused_flows) == []
