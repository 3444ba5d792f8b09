"""A glance changes how its connection works: nobody gets that connection half changed back."""

import contextlib

import pytest
import sqlalchemy as sa
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED

from ebbtide.errors import StoreUnavailable

pytestmark = pytest.mark.postgresql_only("a connection to a server may be cut")

AS_OPENED = (False, ISOLATION_LEVEL_READ_COMMITTED)
# Returns once the server's process for that connection is gone.
CUT = "SELECT pg_terminate_backend(?, 30000)"


def cut(ask, connection):
    pid = connection.connection.driver_connection.info.backend_pid
    assert ask(CUT, pid)[0][0]


def ways_of_working(store):
    """How each connection works that the pool hands out, until one of them serves."""
    found = []

    def note(driver, *_):
        found.append((driver.autocommit, driver.isolation_level))

    sa.event.listen(store.engine, "checkout", note)
    served = False
    while not served:
        with contextlib.suppress(StoreUnavailable), store.read() as connection:
            served = connection.exec_driver_sql("SELECT true").scalar_one()
    sa.event.remove(store.engine, "checkout", note)
    return found


def test_a_connection_that_is_cut_before_the_statement_is_given_to_nobody(store, ask):
    with pytest.raises(StoreUnavailable), store.glance() as connection:
        cut(ask, connection)
        connection.exec_driver_sql("SELECT 1")

    assert ways_of_working(store) == [AS_OPENED]


def test_a_connection_that_is_cut_after_the_statement_works_as_when_it_was_opened(store, ask):
    with store.glance() as connection:
        connection.exec_driver_sql("SELECT 1")
        cut(ask, connection)

    # That it is cut nobody knows before it is used again.
    assert set(ways_of_working(store)) == {AS_OPENED}


def test_a_statement_that_fails_in_a_glance_leaves_its_connection_as_it_was(store):
    with pytest.raises(sa.exc.ProgrammingError), store.glance() as connection:
        connection.exec_driver_sql("SELECT 1 +")

    assert ways_of_working(store) == [AS_OPENED]
