"""Taking up again what another conductor, or a runner of one's own, has left; parking what never gets on."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from ebbtide.errors import ClaimLost
from ebbtide.jobs import tables
from ebbtide.jobs.cancels import DEADLINE, requested
from ebbtide.jobs.claims import MAX_INTERRUPTIONS, Request
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.interrupted import UNBUILT
from ebbtide.jobs.parking import park
from ebbtide.jobs.scripts import send
from ebbtide.jobs.states import JobState

KEYS = ["copy@1"]
CAUSE = "the conductor that ran it is gone"


@pytest.fixture
def two(conductor):
    return conductor("two", lease_seconds=10**6)


def how(board, job: str) -> dict[str, str | None]:
    return {row["task"]: row["how"] for row in board.rows(tables.job_tasks, job)}


# -- orphans


def test_a_running_job_stays_with_a_conductor_whose_lease_runs(board, conductor, two):
    one = conductor("one", lease_seconds=30.0)
    job = board.post()
    one.claim(KEYS)
    board.clock.advance(29.9)

    assert two.claim(KEYS) is None
    assert one.claim(KEYS) is None
    assert (board.row(job).owner, board.row(job).epoch) == ("one", 1)


@pytest.mark.parametrize("end", ["expired", "released", "another boot", "unknown", "nobody"])
def test_a_job_whose_holder_is_gone_is_taken_over_under_a_higher_epoch(board, conductor, end, store_kind):
    one = conductor("one", lease_seconds=30.0)
    job = board.post()
    one.claim(KEYS)
    started = board.row(job).started_at
    match end:
        case "expired":
            board.clock.advance(30)
        case "released":
            one.release()
        case "another boot":
            board.clock.boot_id = "ba9876543210"
            if store_kind == "postgresql":  # where it is the lease that tells
                board.clock.advance(30)
        case "unknown":
            board.change(job, owner="who?")
        case "nobody":
            board.change(job, owner=None)
    two = conductor("two")

    claim = two.claim(KEYS)

    assert claim is not None
    assert (claim.job_id, claim.epoch, claim.attempt, claim.write) == (job, 2, 1, 2)
    row = board.row(job)
    assert (row.state, row.owner, row.interruptions, row.started_at) == ("running", "two", 1, started)
    assert board.history(job) == ["posted", "claimed", "reclaimed"]
    assert json.loads(board.last(job)["detail"]) == {"cause": CAUSE}
    assert two.claim(KEYS) is None


def test_an_orphan_goes_before_what_is_pending(board, two):
    board.post(priority=1000)
    orphan = board.put(JobState.RUNNING, owner="gone", priority=-1000)

    claim = two.claim(KEYS)

    assert claim is not None
    assert claim.job_id == orphan


def test_what_ran_when_its_runner_died_was_interrupted_and_all_else_stays_as_it_was(board, two):
    job = board.put(JobState.RUNNING, owner="gone", attempt=2)
    board.add_task(job, "old", attempt=1)
    for task, ended in (("done", "returned"), ("failed", "raised"), ("stopped", "cancelled")):
        board.add_task(job, task, attempt=2, how=ended, undo_begun_at=1.0)
    board.add_task(job, "copying", attempt=2, fraction=0.5, saved="[3]")
    other = board.put(JobState.RUNNING, owner="two")
    board.add_task(other, "copying")
    board.clock.advance(5)

    two.claim(KEYS)

    assert how(board, job) == {
        "old": None,
        "done": "returned",
        "failed": "raised",
        "stopped": "cancelled",
        "copying": "interrupted",
    }
    assert how(board, other) == {"copying": None}
    (row,) = [row for row in board.rows(tables.job_tasks, job) if row["task"] == "copying"]
    assert (row["ended_at"], row["fraction"], row["saved"]) == (board.clock.now, 0.5, "[3]")


def test_a_takeover_brings_the_cancel_request_along(board, two):
    job = board.put(JobState.RUNNING, owner="gone")
    board.ledger.cancel(job, reason="x", who="bob")

    claim = two.claim(KEYS)

    assert claim is not None
    assert claim.cancel == Request(job, "x", "user", 1)


def test_all_orphans_are_taken_over_one_by_one(board, two):
    jobs = {board.put(JobState.RUNNING, owner=f"gone {number}") for number in range(5)}

    claims = [two.claim(KEYS) for _ in jobs]

    assert {claim.job_id for claim in claims if claim} == jobs


# -- a runner of one's own


def test_a_job_of_mine_whose_runner_died_is_taken_up_again(board, two):
    job = board.post()
    two.claim(KEYS)
    board.add_task(job, "copying")

    claim = two.reclaim(job, 1, "runner 17 was killed by signal 9")

    assert claim is not None
    assert (claim.job_id, claim.epoch) == (job, 2)
    assert (board.row(job).owner, board.row(job).interruptions) == ("two", 1)
    assert how(board, job) == {"copying": "interrupted"}
    assert json.loads(board.last(job)["detail"]) == {"cause": "runner 17 was killed by signal 9"}


@pytest.mark.parametrize(
    "columns",
    [
        {"epoch": 2},
        {"owner": "one"},
        {"owner": None},
        *({"state": state.value} for state in JobState if state is not JobState.RUNNING),
    ],
    ids=str,
)
def test_what_is_no_longer_mine_or_has_ended_is_not_taken_up_again(board, two, columns):
    job = board.put(JobState.RUNNING, owner="two", epoch=1)
    board.change(job, **columns)
    before = board.row(job)

    assert two.reclaim(job, 1, "it died") is None

    assert board.row(job) == before
    assert board.history(job) == ["posted"]


def test_an_unknown_job_is_not_taken_up_again(board, two):
    assert two.reclaim("00000000-0000-4000-8000-000000000000", 1, "it died") is None


def test_a_conductor_whose_lease_is_over_takes_nothing_up_again(board, conductor):
    """P9: it begins nothing more, in no runner."""
    one = conductor("one", lease_seconds=30.0)
    job = board.post()
    one.claim(KEYS)
    board.clock.advance(30)

    assert one.reclaim(job, 1, "it died") is None

    assert (board.row(job).epoch, board.row(job).state) == (1, "running")


def test_what_is_held_is_what_the_ledger_says(board, two):
    mine = [board.put(JobState.RUNNING, owner="two", epoch=epoch) for epoch in (3, 8)]
    board.put(JobState.RUNNING, owner="one")
    board.put(JobState.COMPLETED, owner="two")

    assert two.held() == {mine[0]: 3, mine[1]: 8}


# -- what the stop ladder has ended


@pytest.mark.parametrize("interruptions", [0, 1, 2])
def test_a_run_that_was_ended_on_purpose_is_taken_up_again_and_not_counted(board, two, interruptions):
    job = board.put(JobState.RUNNING, owner="two", epoch=4, interruptions=interruptions)
    board.add_task(job, "copying")
    board.ledger.cancel(job, reason="x", who="bob")

    claim = two.reclaim(job, 4, "it did not stop", ended_in=0.0123456789)

    assert claim is not None
    assert claim.cancel == Request(job, "x", "user", 1)
    assert (board.row(job).state, board.row(job).interruptions) == ("running", interruptions)
    assert how(board, job) == {"copying": "interrupted"}
    assert json.loads(board.last(job)["detail"]) == {"cause": "it did not stop", "ended_in_seconds": 0.012346}


def test_an_overdue_run_whose_conductor_is_gone_is_not_counted_either(board, two):
    """P11: whoever was about to end it did not come to tell."""
    job = board.put(JobState.RUNNING, owner="gone", interruptions=2, overdue_at=1.0)
    board.ledger.cancel(job, reason="x", who="bob")

    claim = two.claim(KEYS)

    assert claim is not None
    assert (board.row(job).interruptions, board.row(job).overdue_at) == (2, None)
    assert json.loads(board.last(job)["detail"]) == {"cause": CAUSE}


# -- what hangs and is no task's


def test_a_task_that_was_ended_with_a_hanging_controller_is_told_as_interrupted_while_its_job_is_parked(
    board, two
):
    job = board.put(JobState.RUNNING, owner="two", epoch=4, begun=1)
    board.add_task(job, "copying")

    assert two.reclaim(job, 4, "it hung", ended_in=0.1, hung={"retry": "it hung"}) is None

    (parked,) = board.rows(tables.job_parks, job)
    assert (board.row(job).state, parked["reason"]) == ("parked", "the undo of retry failed: it hung")
    assert how(board, job) == {"copying": "interrupted"}


def test_a_cancelled_job_that_hangs_where_it_is_made_ends_and_lets_its_key_go(board, two):
    key = {"exclusive_key": "disk", "key_limit": 1, "held_key": "disk:0"}
    job = board.put(JobState.RUNNING, owner="two", epoch=4, **key)
    board.ledger.cancel(job, reason="x", who="bob")

    assert two.reclaim(job, 4, "it hung", ended_in=0.1, hung={UNBUILT: "it hung"}) is None

    row = board.row(job)
    assert (row.state, row.undo, row.owner, row.held_key) == ("cancelled", "none", None, None)
    assert board.history(job) == ["posted", "cancel_requested", "released", "cancelled_unclaimed"]


def test_a_job_that_is_to_be_deleted_and_hangs_where_it_is_made_is_removed(board, two):
    job = board.put(JobState.RUNNING, owner="two", epoch=4)
    board.ledger.delete(job, who="bob")

    assert two.reclaim(job, 4, "it hung", ended_in=0.1, hung={UNBUILT: "it hung"}) is None

    assert [row["id"] for row in board.rows(tables.jobs)] == []


def test_a_job_out_of_time_that_hangs_where_it_is_made_waits_for_a_person(board, two):
    """Nobody has wished it cancelled."""
    job = board.put(JobState.RUNNING, owner="two", epoch=4)
    with board.store.write() as connection:
        send(connection, requested([job], board.clock.now, "too late", "two", DEADLINE))

    assert two.reclaim(job, 4, "it hung", ended_in=0.1, hung={UNBUILT: "it hung"}) is None

    (parked,) = board.rows(tables.job_parks, job)
    assert (board.row(job).state, parked["reason"]) == ("parked", "its flow could not be built: it hung")


# -- parking


def test_a_job_that_kills_its_runner_three_times_is_parked_naming_what_ran(board, two):
    """P11."""
    job = board.post()
    two.claim(KEYS)
    for epoch in range(1, MAX_INTERRUPTIONS):
        board.add_task(job, f"try-{epoch}")
        assert two.reclaim(job, epoch, "it died") is not None
    board.add_task(job, "archive-1")
    board.add_task(job, "archive-2")
    board.add_task(job, "scan", how="returned", undo_begun_at=1.0)

    assert two.reclaim(job, MAX_INTERRUPTIONS, "killed by signal 11") is None

    row = board.row(job)
    assert (row.state, row.owner, row.epoch) == ("parked", None, MAX_INTERRUPTIONS)
    assert board.history(job) == ["posted", "claimed", "reclaimed", "reclaimed", "parked"]
    (parked,) = board.rows(tables.job_parks, job)
    told = "interrupted 3 times without progress in archive-1, archive-2, scan; last: killed by signal 11"
    assert (parked["reason"], parked["task"], parked["attempt"]) == (told, "archive-1", 1)
    assert parked["number"] == board.last(job)["number"]
    assert json.loads(board.last(job)["detail"]) == {"reason": told, "task": "archive-1"}


def test_a_job_that_dies_before_its_first_task_names_none(board, two):
    job = board.put(JobState.RUNNING, owner="gone", interruptions=2)

    assert two.claim(KEYS) is None

    (parked,) = board.rows(tables.job_parks, job)
    assert (parked["reason"], parked["task"]) == (
        f"interrupted 3 times without progress; last: {CAUSE}",
        None,
    )


def test_the_neighbours_of_a_parked_job_go_on(board, two):
    bad = [board.put(JobState.RUNNING, owner="gone", interruptions=2) for _ in range(3)]
    orphan = board.put(JobState.RUNNING, owner="gone", interruptions=1)
    pending = board.post()

    claims = [two.claim(KEYS), two.claim(KEYS), two.claim(KEYS)]

    assert [claim and claim.job_id for claim in claims] == [orphan, pending, None]
    assert {board.row(job).state for job in bad} == {"parked"}


@pytest.mark.parametrize("interruptions", [0, 1])
def test_fewer_than_three_interruptions_park_nothing(board, two, interruptions):
    job = board.put(JobState.RUNNING, owner="gone", interruptions=interruptions)

    assert two.claim(KEYS) is not None
    assert board.row(job).interruptions == interruptions + 1


def test_a_parked_job_keeps_its_cancel_request(board, two):
    job = board.put(JobState.RUNNING, owner="gone", interruptions=2)
    board.ledger.cancel(job, reason="x", who="bob")

    assert two.claim(KEYS) is None

    assert board.row(job).state == "parked"
    assert board.row(job).cancel_requested_at is not None


def test_only_the_holder_parks(board):
    job = board.put(JobState.RUNNING, epoch=5)

    with pytest.raises(ClaimLost), board.store.write() as connection:
        park(connection, job, epoch=4, at=1.0, reason="x", task=None, actor="one")

    assert board.row(job).state == "running"
    assert board.rows(tables.job_parks) == []


def test_a_job_may_be_parked_once_more(board):
    job = board.put(JobState.RUNNING, epoch=5)
    for number in range(2):
        with board.store.write() as connection:
            park(connection, job, epoch=5, at=1.0, reason=f"reason {number}", task=None, actor="one")
        board.change(job, state="running")

    assert [row["reason"] for row in board.rows(tables.job_parks, job)] == ["reason 0", "reason 1"]


@pytest.mark.postgresql_only("SQLite has one writer at a time")
def test_what_a_dead_runner_has_sent_to_the_server_is_waited_for(board, two, made, postgresql):
    """Its last commit may still be under way there when its death is noticed here."""
    job = board.post()
    claim = two.claim(KEYS)
    with ThreadPoolExecutor(1) as pool:
        with board.store.write() as of_the_dead:
            values = {"owner": None}
            apply_edge(of_the_dead, "released", job, at=1.0, epoch=claim.epoch, values=values, actor="two")
            reclaiming = pool.submit(two.reclaim, job, claim.epoch, "its runner was ended by SIGKILL")
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while postgresql.query(made, waiting) != [(1,)]:
                assert not reclaiming.done()
        assert reclaiming.result() is None

    assert board.row(job).state == "pending"
    assert board.history(job) == ["posted", "claimed", "released"]


def test_a_claim_that_no_runner_was_given_interrupts_nothing_however_often(board, two):
    job = board.post()
    claim = two.claim(KEYS)

    for _ in range(MAX_INTERRUPTIONS + 1):
        claim = two.reclaim(job, claim.epoch, "its run was not heard of again", begun=False)
        assert claim is not None

    assert (board.row(job).state, board.row(job).interruptions) == ("running", 0)
