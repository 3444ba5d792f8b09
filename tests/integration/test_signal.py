"""The hint that something in the store has changed: it may ring for nothing, it never stays quiet."""

import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbtide.jobs.filewatch import FileWatch
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals import Signal, own_signal
from ebbtide.jobs.signals.sqlite import DataVersionSignal
from ebbtide.jobs.sqlite import Sqlite
from ebbtide.jobs.store import Store

_WRITER = (
    "import sys\n"
    "add = 'INSERT INTO job_parameters VALUES (?, ?, ?)'\n"
    "from ebbtide.jobs.store import Store\n"
    "store = Store(sys.argv[1])\n"
    "for number, line in enumerate(sys.stdin):\n"
    "    with store.write() as connection:\n"
    "        connection.exec_driver_sql(add, (str(number), '{}', '{}'))\n"
    "    print('committed', flush=True)\n"
)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with Store(database) as opened:
        ensure_schema(opened)
        yield opened


@pytest.fixture
def signal(store: Store) -> Iterator[Signal]:
    opened = own_signal(store)
    yield opened
    opened.close()


def _put(store: Store, job: str) -> None:
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO job_parameters VALUES (?, ?, ?)", (job, "{}", "{}"))


def test_the_first_look_says_changed_and_then_it_is_quiet(signal: Signal) -> None:
    assert [signal.changed() for _ in range(3)] == [True, False, False]


def test_each_commit_of_another_process_is_seen_once(store: Store, signal: Signal) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdin is not None and writer.stdout is not None
        signal.changed()

        seen = []
        for _ in range(100):
            print("go", file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "committed\n"
            seen.append((signal.changed(), signal.changed()))
        writer.stdin.close()

    assert seen == [(True, False)] * 100


def test_commits_of_this_process_on_other_connections_are_seen(store: Store, signal: Signal) -> None:
    signal.changed()

    seen = []
    for number in range(100):
        _put(store, str(number))
        signal.ring(str(number))
        seen.append((signal.changed(), signal.changed()))

    assert seen == [(True, False)] * 100


def test_commits_of_other_threads_are_never_missed(store: Store, signal: Signal) -> None:
    """What was committed before a look that said "nothing new" was announced by an earlier one."""
    committed = threading.Event()

    def write() -> None:
        for number in range(200):
            _put(store, str(number))
        committed.set()

    writer = threading.Thread(target=write)
    signal.changed()
    writer.start()
    count = 0
    while True:
        ended = committed.is_set()
        if signal.changed():
            with store.read() as connection:
                count = connection.exec_driver_sql("SELECT count(*) FROM job_parameters").scalar_one()
        elif ended:
            break
    writer.join()

    assert count == 200


def test_what_is_rolled_back_or_only_read_does_not_ring(store: Store, signal: Signal) -> None:
    signal.changed()

    with pytest.raises(ValueError), store.write() as connection:
        connection.exec_driver_sql("INSERT INTO job_parameters VALUES ('a', '{}', '{}')")
        raise ValueError
    with store.read() as connection:
        connection.exec_driver_sql("SELECT * FROM jobs").all()

    assert not signal.changed()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def quiet(store: Store, clock: list[float]) -> Iterator[Signal]:
    """A signal on a store that nobody has written to for long, by `clock`."""
    assert isinstance(store.dialect, Sqlite)
    opened = DataVersionSignal(store.dialect, now=lambda: clock[0])
    opened.changed()
    assert opened.descriptor is None  # what was written before it watched is still to be asked for
    opened.changed()
    clock[0] += 1.0
    yield opened
    opened.close()


def rings(signal: Signal) -> bool:
    assert signal.descriptor is not None
    return bool(select.select([signal.descriptor], [], [], 0)[0])


def test_who_waits_hears_of_a_commit_and_asks_until_it_is_quiet_again(
    store: Store, quiet: Signal, clock: list[float]
) -> None:
    assert not rings(quiet)

    _put(store, "a")

    assert rings(quiet) and quiet.changed()
    assert quiet.descriptor is None  # a commit may have begun and not be complete
    clock[0] += 1.0
    assert not rings(quiet) and not quiet.changed()


def test_reading_wakes_nobody(store: Store, quiet: Signal) -> None:
    with store.read() as connection:
        connection.exec_driver_sql("SELECT * FROM jobs").all()
    quiet.changed()

    assert not rings(quiet)


def test_where_no_watch_is_to_be_had_it_has_to_be_asked(
    store: Store, signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(path: str) -> None:
        raise OSError(24, "no inotify instance")

    monkeypatch.setattr("ebbtide.jobs.signals.sqlite.FileWatch", none_left)
    signal.changed()
    _put(store, "a")

    assert (signal.descriptor, signal.changed(), signal.descriptor) == (None, True, None)


def test_a_watch_tells_of_writing_once_and_of_the_end_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    watch = FileWatch(str(file))
    heard = [watch.heard()]
    for _ in range(2):
        with file.open("ab") as out:
            out.write(b"b")
    heard += [watch.heard(), watch.heard()]
    file.unlink()

    with pytest.raises(OSError, match="is gone"):
        watch.heard()
    watch.close()
    assert heard == [False, True, False]
    with pytest.raises(FileNotFoundError):
        FileWatch(str(file))


def test_watching_holds_no_lock_and_no_old_state(store: Store, signal: Signal) -> None:
    _put(store, "a")
    signal.changed()

    with store.engine.connect() as connection:
        blocked, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()

    assert blocked == 0


def test_a_broken_signal_says_look_instead_of_raising(tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = tmp_path_factory.mktemp("empty") / "x.db"
    with Store(str(missing)) as store:
        signal = own_signal(store)

        seen = [signal.changed(), signal.changed()]
        ensure_schema(store)
        seen += [signal.changed(), signal.changed()]
        signal.close()

    assert seen == [True, True, True, False]
