"""The fault proxy does what it is told at the byte it is told, before an echo server and PostgreSQL."""

import contextlib
import socket
import socketserver
import threading

import psycopg2
import pytest

from tests.services.ports import HOST
from tests.services.proxy import CutAfter, CutAt, Delay, Pass, Stall

PATIENCE_SECONDS = 30.0


class Echo(socketserver.BaseRequestHandler):
    """Sends back whatever comes, and keeps it."""

    def handle(self):
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(65536):
                self.server.got.append(data)
                self.request.sendall(data)
        self.server.got.append(b"END")


@pytest.fixture
def echo():
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        server.got = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo, proxy_to):
    return proxy_to(echo.server_address[1])


@contextlib.contextmanager
def client(proxy):
    with socket.create_connection((HOST, proxy.port), timeout=PATIENCE_SECONDS) as connection:
        yield connection


def hear(connection, count):
    """So many bytes, or as many as come before the end."""
    heard = b""
    while len(heard) < count and (data := connection.recv(count - len(heard))):
        heard += data
    return heard


def ask(connection, text):
    connection.sendall(text)
    return hear(connection, len(text))


def is_cut(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_everything_passes_and_is_counted(echo, proxy):
    text = b"x" * 1_000_000
    with client(proxy) as one, client(proxy) as two:
        threading.Thread(target=one.sendall, args=(text,)).start()
        assert hear(one, len(text)) == text
        assert ask(two, b"hello") == b"hello"

        assert (proxy.connections, proxy.live, proxy.cuts) == (2, 2, 0)
        proxy.wait_until(lambda p: p.passed("to_client") == 1_000_005, "the last byte to be counted")
        assert proxy.passed("to_server") == 1_000_005

    proxy.wait_until(lambda p: p.live == 0, "both ends to be passed on")
    assert proxy.cuts == 0


def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(proxy):
    with client(proxy) as one:
        one.sendall(b"last words")
        one.shutdown(socket.SHUT_WR)

        assert hear(one, 100) == b"last words"


def test_a_connection_is_announced_before_anything_has_passed(proxy):
    with client(proxy):
        proxy.wait_until(lambda p: p.connections == 1, "the connection")

        assert proxy.passed("to_server") == 0


def test_what_is_delayed_comes_all_the_same(proxy):
    proxy.set(Delay(0.01))
    with client(proxy) as one:
        assert ask(one, b"slow") == b"slow"


@pytest.mark.parametrize("direction", ["to_server", "to_client", None])
def test_a_stall_holds_what_comes_until_it_is_lifted(echo, proxy, direction):
    with client(proxy) as one:
        ask(one, b"before")
        proxy.set(Stall(direction))

        one.sendall(b"held")
        proxy.wait_until(lambda p: p.held(direction or "to_server") == 4, "the bytes")
        assert (b"held" in echo.got) == (direction == "to_client")

        proxy.set(Pass())
        assert hear(one, 4) == b"held"


def test_a_stall_hides_from_the_server_that_the_client_has_gone(echo, proxy):
    with client(proxy) as one:
        ask(one, b"before")
        proxy.set(Stall("to_server"))
    assert echo.got == [b"before"]
    assert proxy.live == 1

    proxy.set(Pass())

    proxy.wait_until(lambda p: p.live == 0, "the end to be passed on")
    assert proxy.cuts == 0


def test_a_stalled_connection_can_be_cut(proxy):
    proxy.set(Stall())
    with client(proxy) as one:
        one.sendall(b"held")
        proxy.wait_until(lambda p: p.held("to_server") == 4, "the bytes")

        proxy.cut()

        assert is_cut(one)
    assert (proxy.cuts, proxy.live, proxy.held("to_server")) == (1, 0, 0)


def test_a_rule_may_be_that_of_one_connection_also_of_one_to_come(proxy):
    proxy.set(Stall(), connection=2)
    with client(proxy) as one, client(proxy) as two, client(proxy) as three:
        proxy.wait_until(lambda p: p.connections == 3, "all three")
        two.sendall(b"held")

        assert ask(one, b"one") == b"one"
        assert ask(three, b"three") == b"three"
        proxy.wait_until(lambda p: p.held("to_server") == 4, "the bytes")

        proxy.set(Pass(), connection=2)
        assert hear(two, 4) == b"held"


def test_the_server_gets_so_many_bytes_and_no_more(echo, proxy):
    with client(proxy) as one:
        ask(one, b"before")
        proxy.set(CutAfter(3, "to_server"))

        one.sendall(b"12345")
        proxy.wait_until(lambda p: p.cuts == 1, "the cut")

        assert proxy.passed("to_server") == 9
        assert hear(one, 100) in (b"", b"123")


def test_the_client_gets_so_many_bytes_and_no_more(proxy):
    proxy.set(CutAfter(3, "to_client"))
    with client(proxy) as one:
        one.sendall(b"12345")

        assert hear(one, 100) == b"123"
        proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert proxy.passed("to_client") == 3


def test_the_bytes_before_a_cut_are_counted_for_each_connection_and_across_chunks(proxy):
    proxy.set(CutAfter(4, "to_client"))
    with client(proxy) as one, client(proxy) as two:
        assert (ask(one, b"12"), ask(two, b"123"), ask(one, b"34")) == (b"12", b"123", b"34")

        assert is_cut(one)
        assert ask(two, b"4") == b"4"
        assert is_cut(two)


@pytest.mark.parametrize(
    "moment, server_got, client_heard", [("before", 0, b""), ("in", 13, b""), ("after", 13, b"please COMMIT")]
)
def test_a_pattern_cuts_before_it_or_in_the_answer_or_after_it(proxy, moment, server_got, client_heard):
    proxy.set(CutAt(b"COMMIT", moment))
    with client(proxy) as one:
        one.sendall(b"please COMMIT")

        assert hear(one, 100) == client_heard
        proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert proxy.passed("to_server") == server_got

    with client(proxy) as two:
        assert ask(two, b"COMMIT") == b"COMMIT"  # it happens once


def test_a_pattern_is_found_across_chunks_and_by_its_number(proxy):
    proxy.set(CutAt(b"COMMIT", occurrence=3))
    with client(proxy) as one, client(proxy) as two:
        assert ask(one, b"COMMIT") == b"COMMIT"
        assert ask(two, b"COM") == b"COM"
        assert ask(two, b"MIT") == b"MIT"
        assert ask(one, b"a COMM") == b"a COMM"

        one.sendall(b"IT")

        assert is_cut(one)
        assert ask(two, b"on") == b"on"


def test_refused_connections_are_refused_and_those_there_go_on(proxy):
    with client(proxy) as one:
        ask(one, b"before")
        proxy.refuse()

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, proxy.port))
        assert ask(one, b"still") == b"still"

        proxy.accept()
        with client(proxy) as two:
            assert ask(two, b"again") == b"again"


def test_when_the_service_is_away_the_connection_ends(proxy_to):
    with socket.socket() as away:
        away.bind((HOST, 0))
        proxy = proxy_to(away.getsockname()[1])

        with client(proxy) as one:
            assert is_cut(one)
    proxy.wait_until(lambda p: (p.connections, p.live, p.cuts) == (1, 0, 0), "its end")


def test_a_closed_proxy_has_left_nothing(proxy):
    with client(proxy) as one:
        ask(one, b"before")

        proxy.close()
        proxy.close()

        assert is_cut(one)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("proxy-")] == []


# Before PostgreSQL.


@pytest.fixture
def table(postgresql):
    url = postgresql.create_database()
    postgresql.query(url, "CREATE TABLE numbers (number int)")
    yield url
    postgresql.drop_database(url)


@pytest.mark.parametrize("moment, stored", [("before", []), ("in", [(1,)])])
def test_a_commit_that_is_cut_is_stored_once_the_server_has_it(postgresql, proxy_to, table, moment, stored):
    proxy = proxy_to(postgresql.port)
    with contextlib.closing(psycopg2.connect(proxy.url(table))) as connection:
        connection.cursor().execute("INSERT INTO numbers VALUES (1)")
        proxy.set(CutAt(b"COMMIT", moment))

        with pytest.raises(psycopg2.OperationalError):
            connection.commit()
    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert postgresql.query(table, "SELECT number FROM numbers") == stored


def test_a_connection_that_is_cut_after_the_answer_has_committed_and_fails_later(postgresql, proxy_to, table):
    proxy = proxy_to(postgresql.port)
    with contextlib.closing(psycopg2.connect(proxy.url(table))) as connection:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO numbers VALUES (1)")
        proxy.set(CutAt(b"COMMIT", "after"))

        connection.commit()
        proxy.wait_until(lambda p: p.cuts == 1, "the cut")

        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")
    assert postgresql.query(table, "SELECT number FROM numbers") == [(1,)]
