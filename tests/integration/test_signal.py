"""The hint that something in the store has changed: it may ring for nothing, it never stays quiet."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.signals import Signal, open_signal
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
    opened = open_signal(store)
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


def test_watching_holds_no_lock_and_no_old_state(store: Store, signal: Signal) -> None:
    _put(store, "a")
    signal.changed()

    with store.engine.connect() as connection:
        blocked, _, _ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()

    assert blocked == 0


def test_a_broken_signal_says_look_instead_of_raising(tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = tmp_path_factory.mktemp("empty") / "x.db"
    with Store(str(missing)) as store:
        signal = open_signal(store)

        seen = [signal.changed(), signal.changed()]
        ensure_schema(store)
        seen += [signal.changed(), signal.changed()]
        signal.close()

    assert seen == [True, True, True, False]


def test_a_closed_signal_says_look_and_may_be_closed_again(signal: Signal) -> None:
    signal.changed()

    signal.close()
    signal.close()

    assert signal.changed()


def test_closing_ends_a_pause(signal: Signal) -> None:
    ended = threading.Event()

    def pause() -> None:
        signal.pause(3600)
        ended.set()

    waiter = threading.Thread(target=pause)
    waiter.start()
    signal.close()
    waiter.join(30)

    assert ended.is_set()
