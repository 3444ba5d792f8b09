"""A PostgreSQL server of the test session's own, and databases in it for single tests."""

import contextlib
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.services.absence import missing
from tests.services.ports import HOST, reserved_port
from tests.services.server import PATIENCE_SECONDS, Server, folder_for

# Owns the databases of tests. No superuser: those have connections left when all others are in use.
ROLE = "ebbtide"
_ADMIN = "postgres"
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_OPTIONS: dict[str, Any] = {
    "listen_addresses": HOST,
    "max_connections": 100,
    # Quick instead of safe from power cuts: what a test kills is the server, not the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "log_line_prefix": "%m %p %d ",
    # The log tells of every connection how it has ended: with the client's goodbye, without a word, which is
    # told at this level alone, or by the server.
    "log_connections": "on",
    "log_disconnections": "on",
    "log_min_messages": "debug1",
}
# What a failed test is told of the log, of its end, since the test began.
_LOG_BYTES = 20_000
# All that are connected are cut off then, and it begins anew by itself.
_KILLED = re.compile(r" was terminated by signal | PANIC:  ")
_USED = pytest.StashKey[tuple["PostgresqlServer", int]]()

Mode = Literal["fast", "immediate"]


class PostgresqlServer(Server):
    """One server in a folder of its own. It stands still until `start`; may be restarted as often as wanted.

    Every URL stays good across restarts. Whatever takes a database takes its name or its URL.

    Args:
        programs: the folder of `initdb` and `postgres`.
        folder: where everything is kept; the user that the server runs as may write there.
        port: free, and nobody else's meanwhile.
        user: the user to run as, when not this one.
    """

    def __init__(self, programs: Path, folder: Path, port: int, user: str | None = None) -> None:
        super().__init__(folder)
        self.port = port
        self._programs = programs
        self._data = folder / "data"
        self._user = user
        self._reach: dict[str, Any] = {}  # the options by which others than this machine reach it
        self._changed: dict[str, Any] = {}  # the options that it was started with, beyond the usual ones
        self._numbers = itertools.count(1)
        self._templates: dict[Callable[[str], None], str] = {}

    # The server.

    def initialise(self) -> None:
        """Make an empty cluster, which trusts everybody who can reach it, and the role of the tests."""
        options = ["--auth=trust", f"--username={_ADMIN}", "--encoding=UTF8", "--locale=C", "--no-sync"]
        command = [str(self._programs / "initdb"), *options, f"--pgdata={self._data}"]
        own: dict[str, Any] = {"cwd": self.folder, "env": {"PATH": os.defpath, "LC_ALL": "C"}}
        made = subprocess.run(command, capture_output=True, text=True, check=False, **own, **self._as_user())
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        self.start()
        self._administer(f"CREATE ROLE {ROLE} LOGIN")

    def start(self, **options: Any) -> None:
        """Returns once it accepts connections. Options of the server, such as ``max_connections=8``."""
        self._changed = options
        given = _OPTIONS | {"port": self.port, "unix_socket_directories": self.folder} | self._reach | options
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in given.items():
            command += ["-c", f"{name}={value}"]
        self._launch(command, **self._as_user())
        self._await_ready(self._trouble)

    def stop(self, mode: Mode = "fast") -> None:
        """Returns once it has ended; nothing happens when it has already.

        Args:
            mode: fast rolls back what is open and says goodbye; immediate leaves everything as a crash does.
        """
        self._end(_SIGNALS[mode])

    def restart(self, mode: Mode = "fast", **options: Any) -> None:
        """Stop and start; the options of the start before are gone."""
        self.stop(mode)
        self.start(**options)

    def settle(self, begun: int) -> None:
        """Run as usual, whatever a test has done.

        Args:
            begun: the size of the log when the test began.

        Raises:
            RuntimeError: it has ended meanwhile, or one of its processes was killed, and not by `stop`.
        """
        if self._changed or not self.running:
            self.restart()
        killed = [line for line in self.log_since(begun).splitlines() if _KILLED.search(line)]
        told = [f"PostgreSQL has ended by itself with status {status}" for status in self._own_ends] + killed
        self._own_ends.clear()
        if told:
            raise RuntimeError("\n".join(told))

    @contextlib.contextmanager
    def reached_at(self, address: str, network: str) -> Iterator[None]:
        """In the block it also listens at that address of this machine, and trusts whoever is in the network.

        It is restarted for that, and once more at the end of the block.
        """
        rules = self.folder / "hba.conf"
        rules.write_text(f"local all all trust\nhost all all {HOST}/32 trust\nhost all all {network} trust\n")
        rules.chmod(0o644)
        self._reach = {"listen_addresses": f"{HOST},{address}", "hba_file": rules}
        self.restart()
        try:
            yield
        finally:
            self._reach = {}
            self.restart()

    # Databases.

    def url(self, database: str, host: str = HOST) -> str:
        """The URL of a database, as Ebbtide and libpq both take it; by whichever address it is reached."""
        return f"postgresql://{ROLE}@{host}:{self.port}/{_name(database)}"

    def create_database(self, prepare: Callable[[str], None] | None = None) -> str:
        """A new database; returns its URL.

        Args:
            prepare: is called once, with the URL of a database that it fills and leaves without any
                connection; that one is copied here and in later calls with the same callable.
        """
        if prepare is None:
            return self._create()
        if prepare not in self._templates:
            url = self._create()
            prepare(url)
            self._templates[prepare] = _name(url)
        return self._create(self._templates[prepare])

    def create_database_in(self, encoding: str) -> str:
        """A new, empty database in another encoding than the usual UTF8; returns its URL."""
        return self._create(f"template0 ENCODING '{encoding}' LOCALE 'C'")

    @contextlib.contextmanager
    def database(self, prepare: Callable[[str], None] | None = None) -> Iterator[str]:
        """A new database for the block, as `create_database` makes it; dropped whatever happens there."""
        url = self.create_database(prepare)
        try:
            yield url
        finally:
            self.drop_database(url)

    @contextlib.contextmanager
    def asking(self, database: str) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """`query` with one connection for all questions of the block; wakes the server up if need be."""
        if not self.running:
            self.restart()
        with contextlib.closing(self._connect(ROLE, _name(database))) as connection:
            connection.autocommit = True
            yield lambda statement: _answer(connection, statement, ())

    def drop_database(self, database: str) -> None:
        """Drop it, whoever is connected; wakes the server up when a test has left it stopped."""
        if not self.running:
            self.restart()
        self._administer(f"DROP DATABASE {_name(database)} WITH (FORCE)")

    def terminate_backends(self, database: str) -> int:
        """End every connection to the database from the server's side, as an operator would; how many."""
        patience = int(PATIENCE_SECONDS * 1000)
        rows = self._administer(
            f"SELECT pg_terminate_backend(pid, {patience}) FROM pg_stat_activity "
            f"WHERE datname = '{_name(database)}'"
        )
        assert all(ended for (ended,) in rows), "a connection has survived its end"
        return len(rows)

    def log_statements(self, database: str) -> None:
        """From now on `log` has every statement of each new connection to the database."""
        self._administer(f"ALTER DATABASE {_name(database)} SET log_statement = 'all'")

    def query(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database past all our code; committed at once."""
        return self._ask(ROLE, _name(database), statement, values)

    def _create(self, template: str = "template1") -> str:
        name = f"test_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        return self.url(name)

    def _administer(self, statement: str) -> list[tuple[Any, ...]]:
        return self._ask(_ADMIN, _ADMIN, statement, ())

    def _ask(
        self, user: str, database: str, statement: str, values: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        with contextlib.closing(self._connect(user, database)) as connection:
            connection.autocommit = True
            return _answer(connection, statement, values)

    def _connect(self, user: str, database: str) -> Any:
        import psycopg2  # here: some tests run where nothing but pytest is installed

        return psycopg2.connect(host=HOST, port=self.port, user=user, dbname=database)

    def _trouble(self) -> object:
        import psycopg2  # as above

        try:
            self._connect(_ADMIN, _ADMIN).close()
        except psycopg2.OperationalError as error:
            return error
        return None

    def _as_user(self) -> dict[str, Any]:
        """How its programs are run: they refuse to run as root."""
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}


def find_programs() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest version; on Debian they are not on the PATH."""
    folders = list(Path("/usr/lib/postgresql").glob("*/bin"))
    folders.sort(key=lambda folder: [int(number) for number in re.findall(r"\d+", str(folder))])
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.insert(0, Path(on_path).resolve().parent)
    for folder in reversed(folders):
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            return folder
    return None


def _answer(connection: Any, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return [] if cursor.description is None else cursor.fetchall()


def _name(database: str) -> str:
    return database.rpartition("/")[2]


def _user_for_server() -> str | None:
    """None: as ourselves. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_ADMIN).pw_name
    except KeyError:
        missing(f"PostgreSQL does not run as root, and there is no user {_ADMIN} to run it as")


@pytest.fixture(scope="session")
def _postgresql_of_session() -> Iterator[PostgresqlServer]:
    programs = find_programs()
    if programs is None:
        missing("no PostgreSQL here: neither in /usr/lib/postgresql nor on the PATH")
    user = _user_for_server()
    with folder_for("postgresql", user) as folder, reserved_port() as port:
        server = PostgresqlServer(programs, folder, port, user)
        try:
            server.initialise()
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture
def postgresql(
    _postgresql_of_session: PostgresqlServer, request: pytest.FixtureRequest
) -> Iterator[PostgresqlServer]:
    """The server of the session. Whatever a test does to it, the next one finds it as usual."""
    server = _postgresql_of_session
    begun = server.log_size
    request.node.stash[_USED] = server, begun
    yield server
    server.settle(begun)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test is told with what the server has logged since the test began."""
    report = yield
    if report.failed and _USED in item.stash:
        server, begun = item.stash[_USED]
        if server.folder.exists():  # else the session is over
            report.sections.append(("log of PostgreSQL", server.log_since(begun)[-_LOG_BYTES:]))
    return report
