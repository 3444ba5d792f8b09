"""The jobboard `sql`: what it promises beyond TaskFlow's own tests of one."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from taskflow import exceptions, states
from taskflow.jobs import backends, base
from taskflow.types import entity

from ebbtide.errors import CommitUnknown, ConfigError, StoreUnavailable
from ebbtide.jobs import moments
from ebbtide.jobs.board.rows import Rows
from ebbtide.jobs.board.sql import SqlJobBoard
from ebbtide.jobs.board.tables import board_jobs
from ebbtide.jobs.schema import SchemaState, check_schema, upgrade_schema
from ebbtide.jobs.store import Store
from ebbtide.tasks.payload import PayloadError

PATIENCE_SECONDS = 20.0


@pytest.fixture
def open_board(database: str) -> Iterator[Callable[..., SqlJobBoard]]:
    """Opens the board of this test, once more with each call."""
    boards: list[SqlJobBoard] = []

    def opened(**conf: Any) -> SqlJobBoard:
        conf = {"board": "sql", "connection": database, "poll": 0.02} | conf
        board: SqlJobBoard = backends.fetch("test", conf)
        board.connect()
        boards.append(board)
        return board

    yield opened
    for board in boards:
        board.close()


@pytest.fixture
def board(open_board: Callable[..., SqlJobBoard]) -> SqlJobBoard:
    return open_board()


def wait_until(happened: Callable[[], object], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > give_up:
            pytest.fail(f"waited {PATIENCE_SECONDS} s in vain for {what}")
        threading.Event().wait(0.01)


def names(board: SqlJobBoard, **options: Any) -> list[str]:
    return [job.name for job in board.iterjobs(**options)]


def end_leases(database: str) -> None:
    """As if nobody had renewed them: their time is over."""
    with Store(database) as store, store.write() as connection:
        connection.execute(sa.update(board_jobs).values(lease_until=moments.LeaseNow() - 1))


# Order.


def test_the_highest_priority_comes_first_and_the_oldest_within_one(board):
    for name, priority in [
        ("low", "LOW"),
        ("a", "NORMAL"),
        ("b", "normal"),
        ("top", "VERY_HIGH"),
        ("c", "HIGH"),
    ]:
        board.post(name, priority=priority)
    board.post("last", priority=base.JobPriority.VERY_LOW)

    jobs = list(board.iterjobs())

    assert [job.name for job in jobs] == ["top", "c", "a", "b", "low", "last"]
    assert sorted(jobs) == jobs
    assert jobs[0].priority is base.JobPriority.VERY_HIGH


def test_more_jobs_than_a_page_holds_come_each_once_and_in_order(board):
    posted = [str(number) for number in range(230)]
    for name in posted:
        board.post(name)

    assert names(board) == posted
    assert board.job_count == 230


def test_what_is_claimed_between_two_pages_is_no_more_among_the_unclaimed(board):
    for number in range(150):
        board.post(str(number))

    found = board.iterjobs(only_unclaimed=True)
    first = next(found)
    (late,) = [job for job in board.iterjobs() if job.name == "140"]
    board.claim(late, "ann")

    assert first.name == "0"
    assert "140" not in [job.name for job in found]


# Claims.


def test_of_many_who_claim_at_once_one_wins(open_board):
    boards = [open_board() for _ in range(4)]
    boards[0].post("wanted")
    start = threading.Barrier(len(boards))
    outcomes: list[str] = []

    def claim(mine: SqlJobBoard) -> None:
        (job,) = mine.iterjobs()
        start.wait()
        try:
            mine.claim(job, f"conductor {id(mine)}")
            outcomes.append("won")
        except exceptions.UnclaimableJob:
            outcomes.append("lost")

    threads = [threading.Thread(target=claim, args=[each]) for each in boards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["lost", "lost", "lost", "won"]


def test_each_claim_has_a_higher_epoch(board):
    job = board.post("again")
    seen = [job.epoch]
    for _ in range(2):
        board.claim(job, "ann")
        seen.append(job.epoch)
        board.abandon(job, "ann")

    assert seen == [0, 1, 2]


def test_an_owner_that_dies_loses_its_claim_when_its_lease_is_over(open_board, database):
    dead, alive = open_board(), open_board()
    job = dead.post("orphan")
    dead.claim(job, "dead")
    dead.close()  # nobody renews any more

    assert alive.find_owner(job) == "dead"
    end_leases(database)

    assert alive.find_owner(job) is None
    (found,) = alive.iterjobs(only_unclaimed=True)
    assert found.state == states.UNCLAIMED
    alive.claim(found, "alive")
    assert alive.find_owner(job) == "alive"


def test_a_claim_of_an_earlier_boot_holds_nothing(board, database, store_kind):
    job = board.post("orphan")
    board.claim(job, "ann")

    with Store(database) as store, store.write() as connection:
        connection.execute(sa.update(board_jobs).values(era="another"))

    assert board.find_owner(job) is None


def test_an_owner_that_lives_keeps_its_claim(open_board, database):
    board = open_board(expiry=1)
    job = board.post("long")
    board.claim(job, "ann")

    # Renewed after a third of a second: later than it was claimed for.
    def lease() -> float:
        with Store(database) as store, store.read() as connection:
            return float(connection.execute(sa.select(board_jobs.c.lease_until)).scalar_one())

    first = lease()
    wait_until(lambda: lease() > first, "the renewal")

    assert board.find_owner(job) == "ann"


def test_whoever_comes_back_late_cannot_consume_what_another_has_claimed_under_its_name(open_board, database):
    late, other = open_board(), open_board()
    job = late.post("contested")
    late.claim(job, "conductor")
    end_leases(database)
    other.claim(job, "conductor")

    with pytest.raises(exceptions.JobFailure, match="claimed by conductor, and not by this"):
        late.consume(job, "conductor")

    assert job.state == states.CLAIMED
    other.consume(job, "conductor")
    assert job.state == states.COMPLETE


def test_a_board_does_not_claim_again_what_it_has_although_the_lease_is_over(board, database):
    job = board.post("slow")
    board.claim(job, "ann")
    end_leases(database)

    with pytest.raises(exceptions.UnclaimableJob):
        board.claim(job, "ann")

    board.consume(job, "ann")  # nobody else has claimed it: the work is done, once


@pytest.mark.parametrize("verb", ["consume", "abandon", "trash"])
def test_only_the_owner_takes_a_job_off_or_gives_it_up(board, verb):
    job = board.post("mine")

    with pytest.raises(exceptions.NotFound, match="no owner"):
        getattr(board, verb)(job, "ann")
    board.claim(job, "ann")
    with pytest.raises(exceptions.JobFailure):
        getattr(board, verb)(job, "bob")
    with pytest.raises(TypeError):
        getattr(board, verb)(job, None)

    getattr(board, verb)(job, "ann")
    assert job.state == (states.UNCLAIMED if verb == "abandon" else states.COMPLETE)


def test_what_is_gone_cannot_be_claimed(board):
    job = board.post("gone")
    board.claim(job, "ann")
    board.consume(job, "ann")

    with pytest.raises(exceptions.NotFound):
        board.claim(job, "ann")


def test_what_is_trashed_is_kept_off_the_board(board, database):
    job = board.post("broken", details={"why": "to see"})
    board.claim(job, "ann")
    board.trash(job, "ann")

    with Store(database) as store, store.read() as connection:
        row = connection.execute(sa.select(board_jobs)).mappings().one()

    assert names(board) == []
    assert row["trashed_at"] is not None
    assert row["details"] == '{"why":"to see"}'
    assert job.wait(0.1)


# What is posted.


def test_details_and_priority_are_there_for_another_board(open_board):
    open_board().post("told", details={"store": {"n": [1, None, "ä"]}}, priority="HIGH")

    (job,) = open_board().iterjobs()

    assert job.details == {"store": {"n": [1, None, "ä"]}}
    assert job.priority is base.JobPriority.HIGH
    assert job.last_modified == job.created_on


@pytest.mark.parametrize(
    "value", [{1, 2}, b"bytes", float("nan"), object()], ids=["set", "bytes", "nan", "object"]
)
def test_details_that_are_not_json_are_refused_when_they_are_posted(board, value):
    with pytest.raises(PayloadError, match="the details of job odd"):
        board.post("odd", details={"store": {"value": value}})

    assert board.job_count == 0


def test_a_priority_that_there_is_not_is_refused(board):
    with pytest.raises(ValueError, match="not a valid priority"):
        board.post("odd", priority="urgent")


def test_boards_of_two_namespaces_know_nothing_of_each_other(open_board):
    open_board(namespace="red").post("red")
    other = open_board(namespace="blue")

    assert names(other) == []
    with pytest.raises(exceptions.NotFound):
        other.wait(0.05)


# Listeners.


def test_listeners_hear_of_each_job_once_whoever_posts_and_removes_it(open_board):
    board, other = open_board(), open_board()
    heard: list[tuple[str, str]] = []
    other.post("before")
    board.notifier.register("*", lambda event, details: heard.append((event, details["job"].name)))

    wait_until(lambda: len(heard) == 1, "what was there before")
    posted = other.post("theirs")
    wait_until(lambda: len(heard) == 2, "what another has posted")
    board.post("ours")
    wait_until(lambda: len(heard) == 3, "what we have posted")
    other.claim(posted, "ann")
    other.consume(posted, "ann")
    wait_until(lambda: len(heard) == 4, "what another has removed")

    assert heard == [
        (base.POSTED, "before"),
        (base.POSTED, "theirs"),
        (base.POSTED, "ours"),
        (base.REMOVAL, "theirs"),
    ]


# Opening and closing.


def test_a_board_is_opened_and_closed_twice_without_harm(board):
    board.post("kept")
    board.connect()
    assert names(board) == ["kept"]

    board.close()
    board.close()
    assert not board.connected
    with pytest.raises(exceptions.JobFailure, match="not connected"):
        board.iterjobs()

    board.connect()
    assert names(board) == ["kept"]


def test_many_who_open_a_board_at_once_make_its_tables_once(database):
    start = threading.Barrier(4)
    found: list[object] = []

    def use() -> None:
        board = backends.fetch("test", {"board": "sql", "connection": database})
        start.wait()
        try:
            board.connect()
            board.post("made")
            found.append(None)
        except exceptions.JobFailure as error:
            found.append(error)
        finally:
            board.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [None] * 4


def test_whoever_waits_for_a_job_is_let_go_when_the_board_is_closed(board):
    job = board.post("never")
    ended: list[object] = []

    def wait() -> None:
        try:
            job.wait()
        except exceptions.JobFailure as error:
            ended.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    board.close()
    waiter.join(PATIENCE_SECONDS)

    assert len(ended) == 1


def test_a_board_beside_the_ledger_and_beside_taskflows_tables_is_no_foreign_table(board, database):
    assert check_schema(database).state is SchemaState.EMPTY

    assert upgrade_schema(database).state is SchemaState.CURRENT

    board.post("kept")
    assert names(board) == ["kept"]


def test_entities_are_here_while_their_board_is_open(open_board):
    board, other = open_board(), open_board()
    told = entity.Entity("conductor", "one", {"hostname": "here"})

    board.register_entity(told)
    board.register_entity(told)
    assert other.entities() == [told.to_dict()]

    board.close()
    assert other.entities() == []


# The configuration.


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        ({"expire": 3}, "no option expire; known: connection, namespace, expiry"),
        ({"expiry": "soon"}, "expiry of board sql should be a number of seconds, not soon"),
        ({"expiry": 0}, "expiry of board sql should be a number of seconds"),
        ({"expiry": 0.5}, "1 seconds or more"),
        ({"namespace": ""}, "namespace of board sql should be a name"),
        ({"connection": "mysql://host/db"}, "cannot be used"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_used_is_refused_with_words(database, conf, told):
    with pytest.raises(ConfigError, match=told):
        SqlJobBoard("test", {"connection": database} | conf)


def test_a_board_may_be_named_by_a_uri(database):
    board = backends.fetch("test", f"sql:///?connection={database}&expiry=7&namespace=red")
    board.connect()
    board.post("found")
    try:
        assert names(board) == ["found"]
    finally:
        board.close()


# A database that fails.


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the next calls of a change raise: after it was stored, or instead of it."""

    def arranged(verb: str, error: Exception, *, times: int = 1, stored: bool = False) -> None:
        original = getattr(Rows, verb)
        left = [times]

        def failing(self: Rows, *args: Any, **options: Any) -> Any:
            if not left[0]:
                return original(self, *args, **options)
            left[0] -= 1
            if stored:
                original(self, *args, **options)
            raise error

        monkeypatch.setattr(Rows, verb, failing)

    return arranged


def test_a_conductor_that_consumes_waits_for_a_database_that_is_away(board, fail):
    job = board.post("done")
    board.claim(job, "ann")
    fail("consume", StoreUnavailable("away"), times=2)

    board.consume(job, "ann")

    assert job.state == states.COMPLETE


def test_after_its_patience_the_claim_is_given_up_to_its_lease(open_board, fail):
    board = open_board(patience=0.05, expiry=1)
    job = board.post("done")
    board.claim(job, "ann")
    fail("consume", StoreUnavailable("away"), times=1000)

    with pytest.raises(exceptions.JobFailure, match="cannot leave its owner"):
        board.consume(job, "ann")

    wait_until(lambda: job.state == states.UNCLAIMED, "the end of the lease")


@pytest.mark.parametrize("stored", [True, False])
def test_of_a_claim_whose_answer_is_lost_the_row_tells(board, fail, stored):
    job = board.post("wanted")
    fail("claim", CommitUnknown("cut off"), stored=stored)

    if not stored:
        with pytest.raises(exceptions.UnclaimableJob):
            board.claim(job, "ann")
    board.claim(job, "ann")

    assert board.find_owner(job) == "ann"
    board.consume(job, "ann")


def test_a_consumption_whose_answer_is_lost_is_no_failure(board, fail):
    job = board.post("done")
    board.claim(job, "ann")
    fail("consume", CommitUnknown("cut off"), stored=True)

    board.consume(job, "ann")

    assert job.state == states.COMPLETE


def test_a_post_whose_answer_is_lost_is_posted_once_or_said_to_be_unknown(board, fail):
    fail("post", CommitUnknown("cut off"), stored=True)
    assert board.post("stored").name == "stored"

    fail("post", CommitUnknown("cut off"))
    with pytest.raises(exceptions.JobFailure, match="not known"):
        board.post("lost")

    assert names(board) == ["stored"]


def test_a_database_that_is_away_is_a_job_failure(board, fail):
    fail("page", StoreUnavailable("away"))
    with pytest.raises(exceptions.JobFailure, match="cannot be read"):
        list(board.iterjobs())
