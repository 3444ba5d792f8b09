"""A server that refuses, gives up, is stopped, or cuts a transaction off. Nothing is stored, and it says so.

Promises: P4.
"""

import contextlib
import threading

import psycopg2
import pytest
import sqlalchemy as sa

from ebbtide.errors import StoreBusy, StoreUnavailable
from ebbtide.jobs import tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.ledger import ACCEPTED, Ledger
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store

pytestmark = pytest.mark.postgresql_only("it is about what a server may do to its clients")

# For as long a lock, a statement or an idle transaction lasts where a test wants to see it given up.
SHORT_SECONDS = 0.3
KEYS = ["copy@1"]


@pytest.fixture
def impatient(made):
    with Store(made, wait_seconds=SHORT_SECONDS) as store:
        yield store


@pytest.fixture
def other(made):
    """Somebody else's session, past all our code."""
    with contextlib.closing(psycopg2.connect(made)) as connection:
        yield connection


@pytest.fixture
def held_row(board, other):
    """A job whose row another session holds."""
    job = board.put(JobState.RUNNING, owner="somebody")
    other.cursor().execute("SELECT id FROM jobs WHERE id = %s FOR UPDATE", (job,))
    return job


def lock(connection, job):
    return connection.execute(sa.select(tables.jobs.c.id).where(tables.jobs.c.id == job).with_for_update())


# In the way.


def test_a_change_of_a_job_that_somebody_else_holds_for_too_long_is_not_stored(
    board, impatient, held_row, other
):
    ledger = Ledger(impatient)

    with pytest.raises(StoreUnavailable, match=r"nothing was stored.* timeout"):
        ledger.cancel(held_row, reason="enough", who="ann")

    other.rollback()
    assert board.history(held_row) == ["posted"]
    assert ledger.cancel(held_row, reason="enough", who="ann") == ACCEPTED


def test_who_waits_in_vain_for_a_lock_has_waited_once(made, held_row):
    """The wait is the caller's patience: five of them in a row would be five times that."""
    tries = []

    def change(connection):
        tries.append(held_row)
        lock(connection, held_row)

    # Else the time of the statement, which is as long and begins before, may be over first.
    patient = f"{made}?options=-c%20statement_timeout%3D0"
    with (
        Store(patient, wait_seconds=SHORT_SECONDS) as store,
        pytest.raises(StoreUnavailable, match="lock timeout"),
    ):
        Ledger(store)._changes.apply(change, held_row, None)

    assert tries == [held_row]


def test_a_claim_passes_over_a_job_that_somebody_else_holds(board, conductor, other):
    held, free = board.post(priority=1), board.post()
    claims = conductor("one")
    other.cursor().execute("SELECT id FROM jobs WHERE id = %s FOR UPDATE", (held,))

    claim = claims.claim(KEYS)

    assert claim is not None
    assert claim.job_id == free


def test_a_statement_that_takes_too_long_is_given_up_and_nothing_is_stored(board, impatient):
    job = board.post()

    with pytest.raises(StoreUnavailable, match="statement timeout"), impatient.write() as connection:
        connection.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job).values(priority=9))
        connection.execute(sa.text("SELECT pg_sleep(3600)"))

    assert board.row(job).priority == 0


@pytest.mark.altered_by_hand("it counts entries that it does not write")
def test_of_two_that_wait_for_one_another_one_is_repeated_and_both_are_stored(board, made):
    """A deadlock, arranged: each holds one job's row and asks for the other's."""
    jobs = board.put(JobState.RUNNING, owner="x"), board.put(JobState.RUNNING, owner="x")
    both = threading.Barrier(2)
    tries = []
    answers = []

    def cancel_both(first, second):
        with Store(made) as store:
            ledger = Ledger(store)

            def change(connection):
                lock(connection, first)
                tries.append(first)
                if tries.count(first) == 1:
                    both.wait()
                lock(connection, second)
                connection.execute(
                    sa.update(tables.jobs)
                    .where(tables.jobs.c.id.in_([first, second]))
                    .values(entries=tables.jobs.c.entries + 1)
                )
                return first

            answers.append(ledger._changes.apply(change, first, None))

    threads = [threading.Thread(target=cancel_both, args=pair) for pair in (jobs, jobs[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == sorted(jobs)
    assert len(tries) == 3
    assert [board.row(job).entries for job in jobs] == [3, 3]


def test_a_change_that_the_server_could_not_serialise_is_repeated(board, made):
    job = board.put(JobState.RUNNING, owner="x")
    tries = []

    def change(connection):
        tries.append(job)
        if len(tries) == 1:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            connection.execute(sa.select(tables.jobs)).all()
            board.change(job, priority=1)
        update = sa.update(tables.jobs).where(tables.jobs.c.id == job)
        connection.execute(update.values(priority=tables.jobs.c.priority + 10))

    with Store(made) as store:
        Ledger(store)._changes.apply(change, job, None)

    assert (len(tries), board.row(job).priority) == (2, 11)


def test_what_is_in_the_way_again_and_again_is_told_as_busy_and_not_stored(board, made):
    job = board.put(JobState.RUNNING, owner="x")
    tries = []

    def change(connection):
        tries.append(job)
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(sa.select(tables.jobs)).all()
        board.change(job, priority=len(tries))
        connection.execute(sa.update(tables.jobs).where(tables.jobs.c.id == job).values(priority=99))

    with Store(made) as store, pytest.raises(StoreBusy, match="nothing was stored"):
        Ledger(store)._changes.apply(change, job, None)

    assert (len(tries), board.row(job).priority) == (5, 5)


# Cut off.


def test_a_transaction_that_idles_too_long_is_cut_off_and_not_stored(board, impatient, other):
    job = board.post()

    with pytest.raises(StoreUnavailable), impatient.write() as connection:
        update = sa.update(tables.jobs).where(tables.jobs.c.id == job)
        connection.execute(update.values(priority=9))
        # It is over as soon as somebody else gets the row.
        other.cursor().execute("SELECT id FROM jobs WHERE id = %s FOR UPDATE", (job,))

    other.rollback()
    assert board.row(job).priority == 0


def test_a_connection_that_an_operator_ends_in_a_change_is_not_stored(board, made, postgresql):
    job = board.post()

    with (
        Store(made) as store,
        pytest.raises(StoreUnavailable, match="nothing was stored"),
        store.write() as connection,
    ):
        update = sa.update(tables.jobs).where(tables.jobs.c.id == job)
        connection.execute(update.values(priority=9))
        postgresql.terminate_backends(made)
        connection.execute(update.values(priority=10))

    assert postgresql.query(made, "SELECT priority FROM jobs") == [(0,)]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_after_a_restart_a_client_goes_on_and_what_was_answered_is_stored(board, made, postgresql, mode):
    with Store(made) as store:
        ledger = Ledger(store)
        job = board.post()
        assert ledger.cancel(job, reason="enough", who="ann") == ACCEPTED

        postgresql.restart(mode)
        try:
            ledger.retry(job, who="ann")
        except StoreUnavailable:  # of a connection that was used just now nobody has asked whether it lives
            ledger.retry(job, who="ann")

    names = postgresql.query(made, "SELECT name FROM job_entries ORDER BY number")
    assert names == [("posted",), ("cancel_requested",), ("cancelled_unclaimed",), ("retried",)]


# Refused.


def test_with_every_connection_of_the_server_in_use_nothing_is_stored_and_a_lease_is_renewed(
    made, board, conductor, postgresql
):
    job = board.post()
    postgresql.restart(max_connections=6, superuser_reserved_connections=3)
    with Store(made) as own, contextlib.ExitStack() as crowd:
        claims = Claims(own, "one", name="one", lease_seconds=30.0)
        claims.register(flows=KEYS, runners=1, isolation="thread")
        with pytest.raises(psycopg2.OperationalError):
            while True:
                crowd.enter_context(contextlib.closing(psycopg2.connect(made)))

        with Store(made) as store, pytest.raises(StoreUnavailable, match=r"nothing was stored.* connection"):
            Ledger(store).cancel(job, reason="enough", who="ann")

        assert claims.renew()
    # The pools of the test have the dead connections of before the restart.
    with Store(made) as store:
        assert Ledger(store).cancel(job, reason="enough", who="ann") == ACCEPTED


def test_a_database_that_may_only_be_read_is_read_and_takes_nothing(board, made, postgresql):
    job = board.post()
    name = made.rpartition("/")[2]
    postgresql.query(made, f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    with Store(made) as store:
        with pytest.raises(StoreUnavailable, match=r"nothing was stored.*read-only"):
            Ledger(store).cancel(job, reason="enough", who="ann")
        with store.read() as connection:
            assert connection.execute(sa.select(tables.jobs.c.state)).scalar_one() == JobState.PENDING


def test_a_client_of_a_stopped_server_is_told_so_and_goes_on_when_it_is_back(board, made, postgresql):
    with Store(made) as store:
        ledger = Ledger(store)
        job = board.post()
        postgresql.stop()

        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="nothing was stored") as caught:
                ledger.cancel(job, reason="enough", who="ann")
            assert "\n" not in str(caught.value)
        postgresql.start()

        assert ledger.cancel(job, reason="enough", who="ann") == ACCEPTED
