"""Exclusive keys, idempotency keys and parents, as the ledger keeps them: its races and crashes by name."""

import subprocess
import sys
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from taskflow.patterns import linear_flow

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.family import Family
from ebbtide.config import load_settings
from ebbtide.errors import ClaimLost, KeyBusy, KeyReused, ParentEnding
from ebbtide.flows import Registry
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.posting import Wishes
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelableTask

KEYS = ["copy@1"]


class Nothing(CancelableTask):
    def execute(self) -> None:
        pass


def keyed(board, key: str = "disk", limit: int = 1, **options) -> Any:
    return board.post(exclusive_key=key, key_limit=limit, **options)


def pair(board) -> tuple[str, str]:
    """Two jobs with one key; the first was posted before."""
    first = keyed(board)
    board.clock.advance(1)
    return first, keyed(board)


def held(board) -> set[str]:
    return {row["held_key"] for row in board.rows(tables.jobs) if row["held_key"]}


# -- exclusive keys


@pytest.mark.bare_edges("the edge of an outcome is applied by itself")
def test_of_two_jobs_with_one_key_the_second_waits_for_the_end_of_the_first(board, conductor):
    first, second = pair(board)
    board.clock.advance(1)
    other = board.post()
    one = conductor()

    claims = [one.claim(KEYS) for _ in range(3)]

    assert [claim and claim.job_id for claim in claims] == [first, other, None]
    with board.store.write() as connection:
        apply_edge(connection, "cancelled", first, at=1.0, epoch=1)  # as its holder does
    assert one.claim(KEYS).job_id == second
    board.by_hand.changed(first, 3, {"cancel_requested_at": 1.0})


def test_a_limit_gives_so_many_slots(board, conductor):
    jobs = [keyed(board, limit=3) for _ in range(5)]
    one = conductor()

    claimed = [claim.job_id for claim in iter(lambda: one.claim(KEYS), None)]

    assert len(claimed) == len(set(claimed) & set(jobs)) == 3
    assert held(board) == {"disk#1", "disk#2", "disk#3"}


def test_the_key_is_held_through_a_crash_and_a_takeover(board, conductor):
    first, second = pair(board)
    conductor("one", lease_seconds=30.0).claim(KEYS)
    board.clock.advance(31)

    two = conductor("two")
    assert two.claim(KEYS).job_id == first
    assert (board.row(first).held_key, two.claim(KEYS)) == ("disk#1", None)
    assert board.row(second).held_key is None


@pytest.mark.bare_edges("edges of a holder are applied by themselves")
@pytest.mark.parametrize("edge", ["parked", "paused", "released"])
@pytest.mark.parametrize("begun", [0, 1])
def test_who_stops_half_done_keeps_the_key_and_who_has_begun_nothing_lets_it_go(
    board, conductor, edge, begun
):
    first, second = pair(board)
    one = conductor()
    one.claim(KEYS)
    board.change(first, begun=begun)

    with board.store.write() as connection:
        apply_edge(connection, edge, first, at=1.0, source=JobState.RUNNING, epoch=1)

    assert held(board) == ({"disk#1"} if begun else set())
    claim = one.claim(KEYS)
    if edge == "released":
        assert claim.job_id == first  # with its key, or as the first of those that wait for it
    else:
        assert (claim and claim.job_id) == (None if begun else second)


@pytest.mark.bare_edges("an edge of a holder is applied by itself")
def test_jobs_of_an_older_limit_keep_theirs_and_those_of_a_lower_one_wait_for_room(board, conductor):
    """The flow's limit was three, and its new version says one."""
    old = [keyed(board, limit=3) for _ in range(2)]
    board.clock.advance(1)
    new = keyed(board, limit=1)
    one = conductor()

    assert {one.claim(KEYS).job_id for _ in old} == set(old)
    assert one.claim(KEYS) is None
    for job in old:
        with board.store.write() as connection:
            apply_edge(connection, "parked", job, at=1.0, epoch=1)  # nothing has begun: it lets the key go
    assert one.claim(KEYS).job_id == new


def test_what_is_refused_while_the_key_is_taken_is_not_stored(board):
    first = keyed(board, refuse_busy=True)
    assert held(board) == {"disk#1"}  # from its post on: whoever posts next is refused by the index

    with pytest.raises(KeyBusy, match="exclusive key disk is taken by job"):
        keyed(board, refuse_busy=True)

    board.ledger.cancel(first, reason="", who="bob")
    keyed(board, refuse_busy=True)


def test_a_job_that_waits_for_the_key_makes_it_busy(board):
    keyed(board)

    with pytest.raises(KeyBusy):
        keyed(board, refuse_busy=True)


def test_of_many_posts_at_once_that_are_refused_while_the_key_is_taken_one_is_stored(board, made):
    def post(number: int) -> Any:
        try:
            return keyed(board, refuse_busy=True)
        except KeyBusy:
            return "busy"

    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(post, range(16)))

    assert answers["busy"] == 15
    assert len(board.rows(tables.jobs)) == 1


def test_two_who_claim_for_one_slot_at_once_do_not_both_get_it(board, made):
    """Each locks a row of its own: what decides is the unique index."""
    for _ in range(12):
        keyed(board, limit=2)
    start = threading.Barrier(6)

    def claim_all(number: int) -> list[str]:
        with Store(made) as own:
            claims = Claims(own, f"c{number}", name="n", lease_seconds=1000.0)
            claims.register(flows=KEYS, runners=1, isolation="thread")
            start.wait()
            return [claim.job_id for claim in iter(lambda: claims.claim(KEYS), None)]

    with ThreadPoolExecutor(6) as pool:
        claimed = [job for jobs in pool.map(claim_all, range(6)) for job in jobs]

    assert len(claimed) == len(set(claimed)) == 2
    assert held(board) == {"disk#1", "disk#2"}


FIFTY = """
import os, sys
import sqlalchemy as sa
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.store import Store

def work(number):
    completed = sa.select(sa.func.count()).where(tables.jobs.c.state == "completed")
    with Store(sys.argv[1], wait_seconds=50.0) as store:
        new = NewJob("copy", 1, "{}", "{}", {}, exclusive_key="disk")
        Ledger(store).post(new, who="ann")
        claims = Claims(store, f"c{number}", name="n", lease_seconds=1000.0)
        claims.register(flows=["copy@1"], runners=1, isolation="process")
        while True:
            claim = claims.claim(["copy@1"])
            if claim is None:
                with store.read() as connection:
                    if connection.scalar(completed) == 50:
                        return
                continue
            # Another one that runs would have made it, and not removed it yet.
            os.close(os.open(sys.argv[2], os.O_CREAT | os.O_EXCL))
            os.unlink(sys.argv[2])
            with store.write() as connection:
                apply_edge(connection, "completed", claim.job_id, at=1.0, epoch=claim.epoch)
                end = {"state": "completed", "undo": "none", "ended_at": 1.0}
                row = {"job": claim.job_id, "attempt": 1} | end
                connection.execute(sa.insert(tables.job_outcomes).values(row))

children = []
for number in range(50):
    child = os.fork()
    if child == 0:
        try:
            work(number)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.timeout(180)  # fifty processes share the machine
def test_of_jobs_with_one_key_posted_and_claimed_by_fifty_processes_never_two_run(board, made, tmp_path):
    command = [sys.executable, "-c", FIFTY, made, str(tmp_path / "running")]

    ran = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert Counter(row["state"] for row in board.rows(tables.jobs)) == {"completed": 50}
    assert held(board) == set()


# -- moments


def test_a_job_is_claimed_no_sooner_than_the_moment_it_was_posted_for(board, conductor):
    job = board.post(at=board.clock.now + 60)
    one = conductor("one", lease_seconds=1000.0)
    assert one.claim(KEYS) is None
    board.clock.advance(60)

    assert one.claim(KEYS).job_id == job


def test_a_moment_in_the_past_gains_no_place_in_the_queue(board, conductor):
    first = board.post()
    board.clock.advance(1)
    board.post(at=1.0)

    assert conductor().claim(KEYS).job_id == first


# -- idempotency keys


def test_a_post_that_is_repeated_is_answered_with_the_same_job(board):
    first = board.post(key="order 17", body="x")

    assert board.post(key="order 17", body="x") == first
    with pytest.raises(KeyReused, match=f"order 17 is that of job {first}, which is another post"):
        board.post(key="order 17", body="y")
    assert len(board.rows(tables.jobs)) == 1


def test_the_key_is_free_again_once_its_job_is_deleted(board):
    first = board.post(key="order 17", body="x")
    board.ledger.delete(first, who="bob")

    assert board.post(key="order 17", body="y") != first


def test_of_many_posts_at_once_with_one_idempotency_key_one_is_stored(board):
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: board.post(key="order 17", body="x"), range(24)))

    assert {row["id"] for row in board.rows(tables.jobs)} == answers
    assert len(answers) == 1


# -- parents


@pytest.fixture
def registry() -> Registry:
    flows = Registry()

    @flows.flow("copy")
    def copy(number: int = 0):
        return linear_flow.Flow("copy").add(Nothing())

    return flows


def test_a_cancel_reaches_all_descendants_in_one_transaction(board):
    parent = board.put(JobState.RUNNING, begun=1)
    child = board.put(JobState.PENDING, parent=parent)
    grandchild = board.put(JobState.RUNNING, begun=1, parent=child)
    ended = board.put(JobState.COMPLETED, parent=parent)

    board.ledger.cancel(parent, reason="enough", who="bob")

    assert [board.row(job).state for job in (child, grandchild, ended)] == [
        "cancelled",
        "running",
        "completed",
    ]
    requests = {row["job"]: (row["source"], row["reason"]) for row in board.rows(tables.job_cancels)}
    assert requests == {
        parent: ("user", "enough"),
        child: ("parent", "enough"),
        grandchild: ("parent", "enough"),
    }


def test_a_parent_that_goes_back_is_claimed_once_its_children_have_ended(board, conductor):
    parent = board.put(JobState.PENDING, begun=1, cancel_requested_at=1.0, created_at=1.0, due_at=1.0)
    board.add(
        tables.job_cancels, job=parent, attempt=1, reason="", source="user", who="bob", requested_at=1.0
    )
    child = board.put(JobState.PARKED, begun=1, parent=parent)
    one = conductor()
    assert one.claim(KEYS) is None

    board.ledger.accept(child, reason="it may stay", who="bob")

    assert one.claim(KEYS).job_id == parent


@pytest.mark.parametrize("columns", [{"cancel_requested_at": 1.0}, {"undoing": 1}])
def test_no_child_is_posted_to_a_parent_that_is_stopped(board, columns):
    parent = board.put(JobState.RUNNING, begun=1, **columns)

    with pytest.raises(ParentEnding):
        board.post(parent=parent)

    assert len(board.rows(tables.jobs)) == 1
    assert board.row(board.post(parent=parent, detached=True)).parent is None


def test_a_child_is_posted_once_however_often_its_task_begins_and_by_no_stale_holder(
    board, conductor, registry
):
    job = board.post()
    settings = load_settings()
    first = conductor("one", lease_seconds=30.0).claim(KEYS)
    one = Family(board.store, registry, first, "one", settings)
    posted = [one.post(one.prepare("task", "copy", {"number": n}, Wishes())) for n in range(2)]
    board.clock.advance(31)

    again = conductor("two").claim(KEYS)
    two = Family(board.store, registry, again, "two", settings)
    assert again.job_id == job
    assert [two.post(two.prepare("task", "copy", {"number": n}, Wishes())) for n in range(2)] == posted
    with pytest.raises(ClaimLost):
        one.post(one.prepare("task", "copy", {"number": 2}, Wishes()))
    with pytest.raises(ClaimLost):
        one.stop()
    assert {row["id"] for row in board.rows(tables.jobs)} == {job, *posted}


def test_a_child_that_is_retried_while_its_parent_is_undone_is_cancelled_at_once(board):
    parent = board.put(JobState.RUNNING, begun=1, undoing=1)
    child = board.put(JobState.FAILED, parent=parent)

    board.ledger.retry(child, who="bob")

    assert board.row(child).state == "cancelled"
    assert board.history(child) == ["posted", "retried", "cancel_requested", "cancelled_unclaimed"]


# -- as a client says it


@pytest.fixture
def poster(made, registry):
    @registry.flow("render", exclusive="gpu {card}", limit=2)  # type: ignore[untyped-decorator]  # of a fixture
    def render(card: int = 0):
        return registry.get("copy").factory()

    with Poster(made, registry=registry) as client:
        yield client


def test_a_flow_names_its_key_by_its_parameters(poster, conductor):
    jobs = [poster.post("render", {"card": card}) for card in (1, 1, 2)]

    assert [job.exclusive_key for job in jobs] == ["gpu 1", "gpu 1", "gpu 2"]


def test_what_a_job_waits_for_is_told(poster, board, conductor):
    one = conductor()
    first, second = (poster.post("copy", exclusive="disk") for _ in range(2))
    one.claim(KEYS)

    assert poster.show(second.id).waits_for == f"exclusive key disk, which is held by {first.id}"


def test_the_same_post_with_a_moment_and_a_key(poster):
    moment = datetime(2040, 1, 1, tzinfo=UTC)
    asked = {"at": moment, "key": "k", "labels": {"team": "a"}}

    job = poster.post("copy", {"number": 1}, **asked)

    assert (job.phase, job.due_at) == ("scheduled", moment.timestamp())
    assert poster.post("copy", {"number": 1}, **asked).id == job.id
    with pytest.raises(KeyReused):
        poster.post("copy", {"number": 2}, **asked)
    assert poster.post("copy", {"number": 2}, who="eve", **asked).id != job.id
