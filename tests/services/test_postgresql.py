"""The PostgreSQL server of the session: quick databases, and restarts that tests can count on."""

import contextlib
import os
import signal
import socket

import psycopg2
import pytest

from ebbtide.testing import wait_until
from tests.services import postgresql as plugin
from tests.services.absence import missing


def connect(url):
    return contextlib.closing(psycopg2.connect(url))


def store(connection, number, commit=True):
    connection.cursor().execute("INSERT INTO numbers VALUES (%s)", (number,))
    if commit:
        connection.commit()


def numbers(server, url):
    return [number for (number,) in server.query(url, "SELECT number FROM numbers ORDER BY number")]


@pytest.fixture
def url(postgresql):
    url = postgresql.create_database()
    postgresql.query(url, "CREATE TABLE numbers (number int)")
    yield url
    postgresql.drop_database(url)


def test_a_database_is_a_copy_of_what_the_caller_has_prepared_once(postgresql):
    prepared = []

    def prepare(url):
        prepared.append(url)
        postgresql.query(url, "CREATE TABLE numbers (number int)")

    first, second = postgresql.create_database(prepare), postgresql.create_database(prepare)
    postgresql.query(first, "INSERT INTO numbers VALUES (1)")

    assert len({*prepared, first, second}) == 3
    assert (numbers(postgresql, first), numbers(postgresql, second)) == ([1], [])
    for url in (first, second, *prepared):
        postgresql.drop_database(url)


def test_a_dropped_database_is_gone_although_somebody_is_connected(postgresql):
    url = postgresql.create_database()

    with connect(url):
        postgresql.drop_database(url)

    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(url)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_what_was_committed_and_cuts_every_connection(postgresql, url, mode):
    with connect(url) as connection:
        store(connection, 1)
        store(connection, 2, commit=False)

        postgresql.restart(mode)

        with pytest.raises((psycopg2.OperationalError, psycopg2.InterfaceError)):
            connection.commit()
            connection.cursor().execute("SELECT 1")
    assert numbers(postgresql, url) == [1]


def test_a_stopped_server_refuses_connections_until_it_is_started(postgresql, url):
    postgresql.stop()
    postgresql.stop()
    with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
        psycopg2.connect(url)

    postgresql.start()

    assert numbers(postgresql, url) == []


def test_options_of_the_server_last_until_it_is_settled(postgresql, url):
    def told(option):
        return postgresql.query(url, f"SHOW {option}")

    assert told("fsync") == [("off",)]

    postgresql.restart(fsync="on", max_connections=10)
    assert (told("fsync"), told("max_connections")) == ([("on",)], [("10",)])

    postgresql.settle(postgresql.log_size)
    assert (told("fsync"), told("max_connections")) == ([("off",)], [("100",)])


def test_when_all_connections_are_in_use_the_server_can_still_be_told_to_end_them(postgresql, url):
    postgresql.restart(max_connections=8)
    with contextlib.ExitStack() as stack:
        with pytest.raises(psycopg2.OperationalError, match=r"remaining connection slots|too many clients"):
            while True:
                stack.enter_context(connect(url))

        assert postgresql.terminate_backends(url) == 5

        assert numbers(postgresql, url) == []


@pytest.fixture
def reported(request):
    """Makes the report of this test, as if it had ended by that call; returns the sections, by title."""

    def make(call):
        ended = pytest.CallInfo.from_call(call, "call")
        return dict(request.node.ihook.pytest_runtest_makereport(item=request.node, call=ended).sections)

    return make


def test_a_failed_test_is_told_with_the_log_of_the_server_since_it_began(postgresql, url, reported):
    with connect(url) as connection, pytest.raises(psycopg2.Error):
        connection.cursor().execute("SELECT nonsense")

    told = reported(lambda: pytest.fail("on purpose"))["log of PostgreSQL"]

    assert 'ERROR:  column "nonsense" does not exist' in told
    assert "ready to accept connections" in postgresql.log
    assert "ready to accept connections" not in told
    assert reported(lambda: None) == {}


def test_the_log_tells_whether_a_client_has_said_goodbye(postgresql, url):
    begun = postgresql.log_size

    def ended(connection):
        """What is logged of its end, once it has ended."""
        told = [line for line in postgresql.log_since(begun).splitlines() if f" {connection} " in line]
        return told[-2:] if "disconnection: " in told[-1] else None

    with connect(url) as polite, connect(url) as cut:
        pids = [connection.info.backend_pid for connection in (polite, cut)]
        polite.close()
        with socket.socket(fileno=os.dup(cut.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: all(map(ended, pids)), "the end of both")

    polite, cut = map(ended, pids)
    assert "unexpected EOF on client connection" in cut[0]
    assert "unexpected EOF" not in polite[0]


@pytest.fixture
def mortal():
    """A server of the test's own, and the size of its log."""
    made = plugin._postgresql_of_session.__wrapped__()
    server = next(made)
    yield server, server.log_size
    next(made, None)


def test_a_server_that_was_ended_behind_the_back_of_a_test_goes_on_for_the_next_and_is_told_of(mortal):
    server, begun = mortal
    os.kill(server.pid, signal.SIGQUIT)
    wait_until(lambda: not server.running, "the end of the server")

    with pytest.raises(RuntimeError, match="ended by itself with status 0"):
        server.settle(begun)

    assert server.query("postgres", "SELECT 1") == [(1,)]
    server.settle(begun)


def test_a_process_of_the_server_that_was_killed_behind_the_back_of_a_test_is_told_of(mortal):
    server, begun = mortal
    with connect(server.url("postgres")) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
    wait_until(lambda: server.log_since(begun).count("ready to accept connections"), "the server to go on")

    with pytest.raises(RuntimeError, match="was terminated by signal 9"):
        server.settle(begun)

    server.settle(server.log_size)


def test_the_server_listens_on_loopback_alone_and_in_its_own_folder(postgresql, url):
    assert postgresql.query(url, "SHOW listen_addresses") == [("127.0.0.1",)]
    assert (postgresql.folder / f".s.PGSQL.{postgresql.port}").is_socket()


@pytest.mark.parametrize(
    "environment, outcome", [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)]
)
def test_a_missing_service_fails_in_ci_and_skips_elsewhere(monkeypatch, environment, outcome):
    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(outcome, match="no such server here"):
        missing("no such server here")
