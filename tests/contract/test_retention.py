"""What has ended is removed after its time, a hundred to a transaction; of conductors one does so."""

import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.duties import Duties
from ebbtide.config import Settings
from ebbtide.errors import UsageError
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.retention import Retention, kept_days, take_turn
from ebbtide.jobs.selection import Selection
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store
from ebbtide.testing import wait_until

DAY = 86400.0


@pytest.fixture
def ended(board):
    """Put a job there that ended so many days ago."""

    def put(state: JobState, days: float) -> Any:
        return board.put(state, ended_at=board.clock.now - days * DAY, created_at=board.clock.now - 9 * DAY)

    return put


def left(board) -> set[str]:
    with board.store.read() as connection:
        return set(connection.scalars(sa.select(tables.jobs.c.id)))


def test_each_state_has_its_own_age_and_what_has_not_ended_stays(board, ended):
    stays = {
        ended(JobState.COMPLETED, 0.9),
        ended(JobState.FAILED, 2.9),
        ended(JobState.CANCELLED, 1000),
        *(board.put(state, created_at=0.0) for state in JobState if state not in FINAL_STATES),
    }
    for state, days in ((JobState.COMPLETED, 1), (JobState.COMPLETED, 500), (JobState.FAILED, 3)):
        ended(state, days)
    retention = Retention(board.store, {"completed": 1, "failed": 3})

    assert retention.count() == {"completed": 2, "failed": 1}
    assert len(left(board)) == 3 + len(stays)
    assert retention.prune() == {"completed": 2, "failed": 1}
    assert left(board) == stays
    assert retention.count() == {"completed": 0, "failed": 0}


def test_a_parent_stays_until_its_last_child_has_ended_and_no_child_names_one_that_is_gone(board, ended):
    parent = ended(JobState.COMPLETED, 5)
    gone, lives = (board.put(state, parent=parent) for state in (JobState.COMPLETED, JobState.RUNNING))
    retention = Retention(board.store, {"completed": 1})

    assert (retention.count(), retention.prune()) == ({"completed": 0}, {"completed": 0})
    board.change(lives, state="cancelled")

    assert retention.prune() == {"completed": 1}
    assert left(board) == {gone, lives}
    assert {board.row(child).parent for child in (gone, lives)} == {None}


def test_a_parent_that_is_deleted_leaves_no_child_that_names_it(board):
    parent = board.put(JobState.COMPLETED)
    child = board.put(JobState.RUNNING, parent=parent)

    board.ledger.delete(parent, who="ann")

    assert (left(board), board.row(child).parent) == ({child}, None)


def test_all_that_is_stored_of_a_job_goes_with_it(board, ended):
    job = ended(JobState.COMPLETED, 5)
    board.add_task(job, "a", how="returned")
    board.add(tables.job_outcomes, job=job, attempt=1, state="completed", undo="none", ended_at=1.0)
    board.add(tables.job_policies, job=job, policies="{}")
    board.add(tables.logbooks, uuid=job, name="copy@1", meta="{}")
    board.add(tables.flowdetails, uuid="flow", parent_uuid=job, name="x", state="SUCCESS", meta="{}")
    board.add(tables.atomdetails, uuid="atom", parent_uuid="flow", name="a", state="SUCCESS", meta="{}")

    Retention(board.store, {"completed": 1}).prune()

    of_jobs = [table for table in tables.metadata.sorted_tables if "job" in table.c]
    theirs = [tables.jobs, tables.logbooks, tables.flowdetails, tables.atomdetails]
    with board.store.read() as connection:
        assert [
            table.name for table in of_jobs + theirs if connection.execute(sa.select(table)).first()
        ] == []


@pytest.fixture
def pruning(made) -> Iterator[tuple[Store, threading.Event, threading.Event]]:
    """A store of its own for who prunes, that stops once, between the locks of the parents and of their
    children: an event that tells so, and one that lets it go on.
    """
    has_parents, goes_on = threading.Event(), threading.Event()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE jobs SET parent") and not has_parents.is_set():
            has_parents.set()
            assert goes_on.wait(30)

    with Store(made) as store:
        sa.event.listen(store.engine, "before_cursor_execute", note)
        yield store, has_parents, goes_on


@pytest.fixture
def waits_for_good(made, store_kind, request) -> Callable[[], bool]:
    """Whether somebody waits for a row, and is past the moment at which it looks for a deadlock. SQLite has
    one writer at a time: nobody waits there for a row.
    """
    if store_kind == "sqlite":
        return lambda: True
    server = request.getfixturevalue("postgresql")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND clock_timestamp() - waitstart > '1.2 s'"
    return lambda: server.query(made, waiting) != [(0,)]


def test_who_prunes_and_who_changes_the_same_jobs_in_another_order_are_both_answered(
    board, made, pruning, waits_for_good
):
    """A deadlock on PostgreSQL, arranged such that who prunes is the one to be rolled back."""
    store, has_parents, goes_on = pruning
    first, last = sorted(str(uuid.uuid4()) for _ in range(2))
    parent = board.put(JobState.FAILED, id=last, ended_at=board.clock.now - 5 * DAY)
    child = board.put(JobState.FAILED, id=first, ended_at=board.clock.now, parent=parent)
    with ThreadPoolExecutor(2) as pool, Poster(made) as poster:
        pruned = pool.submit(Retention(store, {"failed": 1}).prune)
        assert has_parents.wait(30)
        retried = pool.submit(lambda: list(poster.retry_many(Selection(ids=[parent, child]))))
        wait_until(waits_for_good, "the other one to wait for the parent")
        goes_on.set()
        answers = {answer.job_id: answer.answer for answer in retried.result()}
        removed = pruned.result()["failed"]

    assert answers == {parent: "unknown" if removed else "accepted", child: "accepted"}
    assert left(board) == ({child} if removed else {parent, child})


def test_a_hundred_go_at_a_time(board, ended):
    for _ in range(103):
        ended(JobState.FAILED, 5)
    ended(JobState.FAILED, 0.5)
    retention = Retention(board.store, {"failed": 1})

    assert [retention.prune_some() for _ in range(3)] == [100, 3, 0]


@pytest.mark.parametrize("days", [{"running": 1}, {"failed": -1}, {"failed": True}, {"failed": float("nan")}])
def test_what_is_no_age_of_ended_jobs_is_refused(board, days):
    with pytest.raises(UsageError):
        Retention(board.store, days)


def test_the_options_say_what_is_kept_and_0_is_for_ever():
    settings = Settings(database="x.db", keep_failed_days=7)

    assert kept_days(settings) == {"failed": 7}


def test_a_turn_is_one_conductors_until_it_is_over(board):
    assert take_turn(board.store, "prune", "one", seconds=3600)
    assert not take_turn(board.store, "prune", "two", seconds=3600)
    board.clock.advance(3599)
    assert not take_turn(board.store, "prune", "one", seconds=3600)

    board.clock.advance(1)
    assert take_turn(board.store, "prune", "two", seconds=3600)


def test_of_two_conductors_one_prunes(board, made, ended):
    for _ in range(2):
        ended(JobState.FAILED, 5)
    settings = Settings(database=made, keep_failed_days=1)
    one, two = Duties(board.store, "one", settings), Duties(board.store, "two", settings)
    turn = {"name": "prune", "free_at": board.clock.now + 3600, "owner": "one"}

    one.prune()
    assert left(board) == set()
    ended(JobState.FAILED, 5)
    two.prune()

    assert board.rows(tables.chores) == [turn]
    assert len(left(board)) == 1
    one.prune()  # its turn goes on until nothing is left
    assert left(board) == set()


def test_a_conductor_that_keeps_all_takes_no_turn(board, made):
    Duties(board.store, "one", Settings(database=made)).prune()

    assert board.rows(tables.chores)[0]["owner"] is None


def test_a_person_prunes_by_the_poster(board, made, ended):
    ended(JobState.CANCELLED, 5)
    kept = ended(JobState.FAILED, 5)

    with Poster(made, settings=Settings(database=made, keep_cancelled_days=1)) as poster:
        assert poster.prune(dry_run=True) == {"cancelled": 1}
        assert poster.prune() == {"cancelled": 1}
        assert poster.prune({"failed": 6}) == {"failed": 0}

    assert left(board) == {kept}
