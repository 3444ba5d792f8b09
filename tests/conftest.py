"""What every test gets: a store of its own, and the promise that nothing of it outlives the test."""

import os
import select
import signal
import sqlite3
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# With importlib mode nothing beside a test can be imported by name. This names `tests` for `tests.services`,
# without the root on the path, where the checkout would hide the package that is installed.
sys.modules.setdefault("tests", types.ModuleType("tests")).__path__ = [str(HERE)]

from tests.services import servants  # noqa: E402

pytest_plugins = [
    f"tests.services.{name}"
    # `network` last: what it imports may not have been imported before it is registered here.
    for name in ("boards", "postgresql", "proxy", "redis", "signals", "site", "tmpfs", "zookeeper", "network")
]

STORES = ("sqlite", "postgresql")
# The folders whose tests run on every store; all other tests run on SQLite.
ON_EVERY_STORE = ("services/stores", "contract", "api/stores", "integration/runs", "process", "chaos")
# What has been told to end may take until here to do so; after that it counts as leaked.
ENDING_SECONDS = 10.0
# It plays a runner that was killed: `ebbtide.testing` never lets it go on.
KILLED = "to-be-killed"


def store_kinds(test: pytest.Item) -> tuple[str, ...]:
    """The stores that a test runs on, by its markers and its folder."""
    for kind in STORES:
        for marker in test.iter_markers(f"{kind}_only"):
            if not marker.args:
                raise pytest.UsageError(f"{test.nodeid}: {kind}_only wants a reason")
            return (kind,)
    folders = [HERE / folder for folder in ON_EVERY_STORE]
    return STORES if any(folder in test.path.parents for folder in folders) else ("sqlite",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each of its stores. Its name says on which, unless it is on SQLite alone."""
    if "store_kind" in metafunc.fixturenames:
        kinds = store_kinds(metafunc.definition)
        if kinds != ("sqlite",):
            metafunc.parametrize("store_kind", kinds)


@pytest.fixture
def store_kind() -> str:
    """The kind of the store that this test runs on."""
    return "sqlite"


def _reasoned(test: pytest.Item, name: str) -> pytest.Mark | None:
    marker: pytest.Mark | None = test.get_closest_marker(name)
    if marker is not None and not marker.args:
        raise pytest.UsageError(f"{test.nodeid}: {name} wants a reason")
    return marker


@pytest.fixture
def by_hand() -> Any:
    """Whoever writes a job's state, attempt, epoch or request past all our code says so here."""
    # Imported here, as below: the tests of what is published run where nothing is installed.
    from tests.model.recorded import ByHand

    return ByHand()


@pytest.fixture
def replay(by_hand: Any, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Replays all histories of the store at a URL against the model; one that it forbids fails the test.

    For the end of a fixture that makes a store, once nobody uses it any more.
    """

    def call(url: str) -> None:
        from tests.model.recorded import complaint

        if _reasoned(request.node, "planted") is not None:
            return
        marker, bare = _reasoned(request.node, "altered_by_hand"), _reasoned(request.node, "bare_edges")
        server = None if url.startswith("sqlite:") else request.getfixturevalue("postgresql")
        wrong = complaint(url, server, by_hand, bare=bare is not None)
        if wrong is not None and marker is None:
            pytest.fail(f"the model forbids what is recorded:\n{wrong}", pytrace=False)
        if wrong is None and marker is not None:
            pytest.fail("altered by hand, and yet all histories replay: take the marker away", pytrace=False)

    return call


@pytest.fixture
def database(
    store_kind: str, tmp_path: Path, replay: Callable[[str], None], request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a store without any table: an SQLite file that does not exist yet, or an empty database."""
    if store_kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'ebbtide.db'}"
        yield url
        replay(url)
        return
    server = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield url
        replay(url)


@pytest.fixture
def prepared(store_kind: str, replay: Callable[[str], None], request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a store that is to be used at once: on a server its tables are there, copied in no time."""
    if store_kind == "sqlite":
        yield request.getfixturevalue("database")
        return
    server = request.getfixturevalue("postgresql")
    with server.database(_make_tables) as url:
        yield url
        replay(url)


@pytest.fixture
def ask(prepared: str, store_kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., list[Any]]]:
    """Asks the prepared store itself, past all our code: a statement, with a `?` for each value after it."""
    if store_kind == "postgresql":
        server = request.getfixturevalue("postgresql")
        yield lambda statement, *values: server.query(prepared, statement.replace("?", "%s"), *values)
        return
    connections: list[sqlite3.Connection] = []

    def execute(statement: str, *values: Any) -> list[Any]:
        if not connections:
            file = prepared.removeprefix("sqlite:///")
            connections.append(sqlite3.connect(file, timeout=ENDING_SECONDS, isolation_level=None))
        return connections[0].execute(statement, values).fetchall()

    yield execute
    for connection in connections:
        connection.close()


def _make_tables(url: str) -> None:
    # Imported here: the tests of what is published run where nothing is installed.
    from ebbtide.jobs.schema import ensure_schema
    from ebbtide.jobs.store import Store

    with Store(url) as store:
        ensure_schema(store)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process; kill the child so that others do not suffer."""
    threads_before = set(threading.enumerate())
    children_before = _children()
    yield
    desks = sys.modules.get("ebbtide.jobs.plain.desk")
    if desks is not None:  # a flow of a stock conductor leaves one for the next
        desks.close_desks()
    threads = [thread for thread in threading.enumerate() if thread not in threads_before]
    threads = [thread for thread in threads if thread.name != KILLED and not _ended(thread)]
    children = [pid for pid in sorted(_children() - children_before) if not _process_ended(pid)]
    told = [f"thread {thread.name}" for thread in threads] + [_described(pid) for pid in children]
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    if told:
        pytest.fail(f"left running by this test: {', '.join(told)}", pytrace=False)


def _ended(thread: threading.Thread) -> bool:
    thread.join(ENDING_SECONDS)
    return not thread.is_alive()


def _children() -> set[int]:
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, listing.read_text().split()))
        except FileNotFoundError:  # that thread has just ended, and its children moved to another
            return _children()
    return {pid for pid in found if not servants.is_one(pid) and "multiprocessing." not in _command(pid)}


def _command(pid: int) -> str:
    """The command line, by which the long-lived servants of `multiprocessing` are told apart."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except FileNotFoundError:
        return ""


def _described(pid: int) -> str:
    return f"process {pid} ({_command(pid)})"


def _process_ended(pid: int) -> bool:
    """Whether the process ends in time. One that has ended and was not reaped yet has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], ENDING_SECONDS)[0])
    finally:
        os.close(descriptor)
