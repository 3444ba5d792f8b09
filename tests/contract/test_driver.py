"""What a transaction says to PostgreSQL, message by message, and that none is left open on a connection."""

import re

import pytest
import sqlalchemy as sa

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs import postgresql
from ebbtide.jobs.store import Store

pytestmark = pytest.mark.postgresql_only("SQLite is sent no messages")

WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# Returns once the server's process for that connection is gone.
CUT = "SELECT pg_terminate_backend(%s, 30000)"
IDLE = 0  # as libpq counts


@pytest.fixture
def said(made, postgresql):
    """Gives what the server was sent over the connections that are opened from here on."""
    name = made.rpartition("/")[2]
    postgresql.log_statements(name)
    begun = postgresql.log_size

    def messages():
        logged = postgresql.log_since(begun)
        found = re.findall(rf"^\S+ \S+ \S+ \d+ {name} LOG:  statement: (.*\n(?:\t.*\n)*)", logged, re.M)
        return [text.strip().replace("\n\t", "\n") for text in found]

    return messages


@pytest.fixture
def store(made, said, monkeypatch):
    # However long a test takes, nobody asks a connection whether it lives.
    monkeypatch.setattr(postgresql, "_STALE_SECONDS", 3600.0)
    with Store(made) as opened:
        with opened.glance() as connection:  # SQLAlchemy has questions of its own, when it first connects
            connection.exec_driver_sql("SELECT 0")
        yield opened


def since(said, call):
    before = len(said())
    call()
    return said()[before:]


def status_of(store):
    """The state of the transaction on the connection that the pool hands out next."""
    with store.engine.connect() as connection:
        return connection.connection.driver_connection.get_transaction_status()


def test_begin_goes_with_the_first_statement_of_a_transaction(store, said):
    def write():
        with store.write() as connection:
            connection.exec_driver_sql("SELECT 1")
            connection.exec_driver_sql("SELECT 2")

    assert since(said, write) == [f"{WRITING};\nSELECT 1", "SELECT 2", "COMMIT"]
    assert since(said, write) == [f"{WRITING};\nSELECT 1", "SELECT 2", "COMMIT"]


def test_whoever_reads_says_so_and_ends_it(store, said):
    def read():
        with store.read() as connection:
            connection.exec_driver_sql("SELECT 1")

    assert since(said, read) == [f"{READING};\nSELECT 1", "ROLLBACK"]
    assert status_of(store) == IDLE


def test_a_glance_is_one_message(store, said):
    def glance():
        with store.glance() as connection:
            connection.exec_driver_sql("SELECT 1")

    assert since(said, glance) == ["SELECT 1"]


def test_nothing_is_sent_where_nothing_is_said(store, said):
    def say_nothing():
        with store.read(), store.write():
            pass
        with pytest.raises(ZeroDivisionError), store.write():
            raise ZeroDivisionError

    assert since(said, say_nothing) == []

    def glance():
        with store.glance() as connection:
            connection.exec_driver_sql("SELECT 1")

    assert since(said, glance) == ["SELECT 1"]  # no BEGIN is left over


def test_a_statement_for_several_rows_may_be_the_first(store, said, made, postgresql):
    def write():
        with store.write() as connection:
            connection.exec_driver_sql("UPDATE test_clock SET now = now + %s", [(1,), (2,)])

    assert since(said, write) == [
        WRITING,
        "UPDATE test_clock SET now = now + 1",
        "UPDATE test_clock SET now = now + 2",
        "COMMIT",
    ]
    assert postgresql.query(made, "SELECT now FROM test_clock") == [(3.0,)]


# None of them is obeyed at all: the server reads none of the message, or the driver sends none.
NOT_OBEYED = [
    ("SELECT 1 +", ()),
    ("SELECT %s", ("nul\0",)),
    ("SELECT %s", ("half \ud800",)),
    ("SELECT %s", (object(),)),
]
SET = "UPDATE test_clock SET now = 7"


@pytest.mark.parametrize(("statement", "values"), NOT_OBEYED)
def test_what_follows_a_statement_that_was_not_obeyed_is_in_the_transaction(
    store, statement, values, made, postgresql
):
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        with pytest.raises((sa.exc.SQLAlchemyError, ValueError)):
            connection.exec_driver_sql(statement, values)
        connection.exec_driver_sql(SET)
        raise ZeroDivisionError

    assert postgresql.query(made, "SELECT now FROM test_clock") == [(0.0,)]

    with pytest.raises(StoreUnavailable, match="read-only"), store.read() as connection:
        with pytest.raises((sa.exc.SQLAlchemyError, ValueError)):
            connection.exec_driver_sql(statement, values)
        connection.exec_driver_sql(SET)

    assert status_of(store) == IDLE


@pytest.mark.parametrize(("statement", "values"), NOT_OBEYED)
def test_a_transaction_that_swallowed_a_refusal_is_not_stored(store, statement, values, made, postgresql):
    with pytest.raises(StoreUnavailable, match="rolled the transaction back"), store.write() as connection:
        with pytest.raises((sa.exc.SQLAlchemyError, ValueError)):
            connection.exec_driver_sql(statement, values)
        connection.exec_driver_sql(SET)

    assert postgresql.query(made, "SELECT now FROM test_clock") == [(0.0,)]
    with store.write() as connection:  # and nothing of it is left to the next one
        connection.exec_driver_sql(SET)


@pytest.mark.parametrize("way", ["read", "write"])
@pytest.mark.parametrize("first", ["SELECT 1", "SELECT 1 +", "SELECT 1 / 0"])
def test_no_connection_is_handed_back_within_a_transaction(store, way, first):
    with pytest.raises((ZeroDivisionError, sa.exc.DBAPIError)), getattr(store, way)() as connection:
        connection.exec_driver_sql(first)
        raise ZeroDivisionError

    assert status_of(store) == IDLE


def test_a_connection_that_was_cut_in_a_transaction_is_given_to_nobody(store, made, postgresql):
    with pytest.raises(StoreUnavailable), store.write() as connection:
        pid = connection.connection.driver_connection.info.backend_pid
        connection.exec_driver_sql(SET)
        assert postgresql.query(made, CUT, pid) == [(True,)]
        connection.exec_driver_sql("SELECT 1")

    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT now FROM test_clock").scalar_one() == 0.0
    assert status_of(store) == IDLE


@pytest.mark.parametrize("cut_first", [True, False])
def test_after_a_glance_that_was_cut_the_next_one_is_served_as_ever(store, made, postgresql, cut_first):
    def glance():
        with store.glance() as connection:
            driver = connection.connection.driver_connection
            if not cut_first:
                connection.exec_driver_sql("SELECT 1")
            assert postgresql.query(made, CUT, driver.info.backend_pid) == [(True,)]
            if cut_first:
                connection.exec_driver_sql("SELECT 1")

    if cut_first:
        with pytest.raises(StoreUnavailable):
            glance()
    else:
        glance()
        with (
            pytest.raises(StoreUnavailable),
            store.read() as connection,
        ):  # that it is cut is found by its use
            connection.exec_driver_sql("SELECT 1")

    with store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert (driver.autocommit, driver.get_transaction_status()) == (True, IDLE)
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_whoever_reads_cannot_write(store):
    with pytest.raises(StoreUnavailable, match="read-only"), store.read() as connection:
        connection.exec_driver_sql(SET)


def test_the_server_compiles_nothing(store):
    """It takes a second for what takes milliseconds, where a plan that stops early looks long."""
    with store.glance() as connection:
        assert connection.exec_driver_sql("SHOW jit").scalar_one() == "off"
