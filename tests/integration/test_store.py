"""Transactions on a real SQLite file: what is stored, what is not, and which error says so."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, event, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from ebbtide.errors import ClaimLost, NotADatabase, SchemaMismatch, StoreUnavailable
from ebbtide.jobs import sqlite, tables
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store

_PARAMETERS = tables.job_parameters


def _file(store: Store) -> str:
    return store.url.removeprefix("sqlite:///")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with Store(database) as opened:
        ensure_schema(opened)
        yield opened


def _put(store: Store, job: str) -> None:
    with store.write() as connection:
        connection.execute(insert(_PARAMETERS).values(job=job, parameters="{}", labels="{}"))


def _jobs(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(_PARAMETERS.c.job).order_by(_PARAMETERS.c.job)).scalars())


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


# --- what a transaction stores


def test_a_write_is_stored_when_its_block_ends(store: Store) -> None:
    _put(store, "a")

    assert _jobs(store) == ["a"]


@pytest.mark.parametrize(
    "error", [ClaimLost("7f3a", 2), StoreUnavailable("x"), ValueError("x"), KeyboardInterrupt()]
)
def test_a_write_whose_block_raises_stores_nothing_and_the_error_passes_unchanged(
    store: Store, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught, store.write() as connection:
        connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))
        raise error

    assert caught.value is error
    assert _jobs(store) == []
    _put(store, "b")


def test_a_broken_constraint_passes_as_integrity_error(store: Store) -> None:
    _put(store, "a")

    with pytest.raises(IntegrityError):
        _put(store, "a")

    assert _jobs(store) == ["a"]


def test_a_write_that_caught_an_integrity_error_goes_on(store: Store) -> None:
    _put(store, "a")

    with store.write() as connection:
        with pytest.raises(IntegrityError):
            connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))
        connection.execute(insert(_PARAMETERS).values(job="b", parameters="{}", labels="{}"))

    assert _jobs(store) == ["a", "b"]


def test_a_wrong_statement_is_no_trouble_of_the_store(store: Store) -> None:
    with pytest.raises(OperationalError, match="syntax error"), store.write() as connection:
        connection.exec_driver_sql("SELECT FROM WHERE")
    with pytest.raises(StatementError), store.write() as connection:
        connection.execute(update(_PARAMETERS).values(labels=bindparam("text")), {"other": 1})


def test_a_read_stores_nothing(store: Store) -> None:
    with store.read() as connection:
        connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))

    assert _jobs(store) == []


def test_a_read_sees_one_state_while_others_write(store: Store) -> None:
    _put(store, "a")

    with store.read() as connection:
        before = connection.execute(select(_PARAMETERS.c.job)).scalars().all()
        _put(store, "b")
        after = connection.execute(select(_PARAMETERS.c.job)).scalars().all()

    assert before == after == ["a"]
    assert _jobs(store) == ["a", "b"]


def test_what_was_stored_survives_the_death_of_its_process(store: Store) -> None:
    script = (
        "import os, sys\n"
        "from ebbtide.jobs.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "with store.write() as connection:\n"
        "    connection.exec_driver_sql(\"INSERT INTO job_parameters VALUES ('a', '{}', '{}')\")\n"
        "with store.write() as connection:\n"
        "    connection.exec_driver_sql(\"INSERT INTO job_parameters VALUES ('b', '{}', '{}')\")\n"
        "    os.kill(os.getpid(), 9)\n"
    )

    died = _run(script, store.url)

    assert died.returncode == -9
    assert _jobs(store) == ["a"]


def test_writers_of_several_threads_and_a_second_process_lose_no_update(store: Store) -> None:
    _put(store, "a")
    script = (
        "import sys\n"
        "from ebbtide.jobs.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for _ in range(50):\n"
        "    with store.write() as connection:\n"
        "        seen = int(connection.exec_driver_sql('SELECT labels FROM job_parameters').scalar())\n"
        "        connection.exec_driver_sql('UPDATE job_parameters SET labels = ?', (str(seen + 1),))\n"
    )
    with store.write() as connection:
        connection.execute(update(_PARAMETERS).values(labels="0"))

    def count() -> None:
        for _ in range(50):
            with store.write() as connection:
                seen = int(connection.execute(select(_PARAMETERS.c.labels)).scalar_one())
                connection.execute(update(_PARAMETERS).values(labels=str(seen + 1)))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    other = _run(script, store.url)
    for thread in threads:
        thread.join()

    assert (other.returncode, other.stderr) == (0, "")
    with store.read() as connection:
        assert connection.execute(select(_PARAMETERS.c.labels)).scalar_one() == "200"


# --- commits that fail


def test_a_commit_that_raises_is_not_stored_and_its_connection_is_not_used_again(store: Store) -> None:
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))
        connection.execute(insert(tables.flowdetails).values(uuid="f", parent_uuid="unknown"))

    _put(store, "b")
    assert _jobs(store) == ["b"]


def test_a_disk_that_is_full_at_the_commit_means_not_stored() -> None:
    script = (
        "import os, resource, sys, tempfile\n"
        "from ebbtide.errors import StoreUnavailable\n"
        "from ebbtide.jobs.schema import ensure_schema\n"
        "from ebbtide.jobs.store import Store\n"
        "with tempfile.TemporaryDirectory() as folder, Store(folder + '/x.db') as store:\n"
        "    ensure_schema(store)\n"
        "    add = 'INSERT INTO job_parameters VALUES (?, ?, ?)'\n"
        "    used = os.path.getsize(folder + '/x.db-wal')\n"
        "    try:\n"
        "        with store.write() as connection:\n"
        "            connection.exec_driver_sql(add, ('a', 'x' * 50_000, '{}'))\n"
        "            resource.setrlimit(resource.RLIMIT_FSIZE, (used + 10_000, resource.RLIM_INFINITY))\n"
        "    except StoreUnavailable as error:\n"
        "        print(type(error.__cause__).__name__, file=sys.stderr)\n"
        "    else:\n"
        "        sys.exit('reported as stored')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    with store.write() as connection:\n"
        "        connection.exec_driver_sql(add, ('b', '{}', '{}'))\n"
        "    with store.read() as connection:\n"
        "        print(connection.exec_driver_sql('SELECT job FROM job_parameters').scalars().all())\n"
    )

    ran = _run(script)

    assert (ran.stdout, ran.stderr, ran.returncode) == ("['b']\n", "OperationalError\n", 0)


def test_a_block_that_swallows_a_full_disk_is_not_told_that_it_is_stored(store: Store) -> None:
    """SQLite ends the transaction by itself then, and the COMMIT that follows would do nothing."""
    with pytest.raises(StoreUnavailable, match="rolled the transaction back"), store.write() as connection:
        connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(OperationalError, match="full"):
            connection.execute(insert(_PARAMETERS).values(job="b", parameters="x" * 100_000, labels="{}"))

    assert _jobs(store) == []


def test_a_full_disk_is_told_in_one_line(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="disk is full") as caught, store.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.execute(insert(_PARAMETERS).values(job="b", parameters="x" * 100_000, labels="{}"))

    assert isinstance(caught.value.__cause__, OperationalError)
    assert "\n" not in str(caught.value)


# --- a store that cannot be used


def test_a_writer_that_waits_in_vain_is_told_that_nothing_is_stored(store: Store) -> None:
    told = pytest.raises(StoreUnavailable, match="is held by another process")
    with Store(store.url, wait_seconds=0.02) as impatient, store.write(), told:
        _put(impatient, "a")

    assert _jobs(store) == []


def test_readers_do_not_wait_for_a_writer(store: Store) -> None:
    with Store(store.url, wait_seconds=0.0) as impatient, store.write() as connection:
        connection.execute(insert(_PARAMETERS).values(job="a", parameters="{}", labels="{}"))

        assert _jobs(impatient) == []


def test_a_pool_without_a_free_connection_is_unavailable(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_CONNECTIONS", 1)
    monkeypatch.setattr(sqlite, "_MORE_CONNECTIONS", 0)
    told = pytest.raises(StoreUnavailable, match="every connection of this process is in use")
    with Store(store.url, wait_seconds=0.02) as narrow, narrow.read(), told:
        _jobs(narrow)


def test_lost_tables_are_a_schema_that_does_not_fit(store: Store) -> None:
    with sqlite3.connect(_file(store)) as other:
        other.execute("DROP TABLE job_parameters")
    other.close()

    with pytest.raises(SchemaMismatch, match=r"no such table: job_parameters.*restore a backup"):
        _put(store, "a")


def test_a_database_that_was_deleted_is_not_made_anew_by_a_write(store: Store) -> None:
    os.unlink(_file(store))
    store.close()

    with pytest.raises(StoreUnavailable, match="does not exist"):
        _put(store, "a")

    assert not os.path.exists(_file(store))


@pytest.mark.altered_by_hand("nobody can read it any more")
def test_a_damaged_database_is_told_as_such(store: Store) -> None:
    for number in range(50):
        _put(store, f"job {number}" * 100)
    store.close()
    with open(_file(store), "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(_file(store)) - 4096))

    with pytest.raises(StoreUnavailable, match=r"is damaged .*restore a backup"):
        _jobs(store)


@pytest.mark.parametrize("content", [b"x", b"dear diary\n", b"dear diary\n" * 5000])
def test_a_text_file_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)

    with Store(str(path)) as store, pytest.raises(NotADatabase, match=r"diary.txt is not a database"):
        ensure_schema(store)

    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["diary.txt"]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with Store(str(tmp_path)) as store, pytest.raises(NotADatabase, match="it is a folder"):
        ensure_schema(store)


def test_a_pipe_and_a_device_are_refused_without_waiting_for_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (str(tmp_path / "pipe"), "/dev/null"):
        with Store(path) as store, pytest.raises(NotADatabase, match="it is no regular file"):
            ensure_schema(store)


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.db"

    with Store(str(path)) as store, pytest.raises(StoreUnavailable, match=r"/missing .* does not exist"):
        ensure_schema(store)

    assert not path.parent.exists()


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    path = tmp_path / "file" / "x.db"
    with Store(str(path)) as store, pytest.raises(StoreUnavailable, match="is no folder"):
        ensure_schema(store)


# --- files and processes


def test_files_are_for_their_owner_alone_whatever_the_umask(database: str) -> None:
    before = os.umask(0)
    try:
        with Store(database) as store:
            ensure_schema(store)
            _put(store, "a")
            folder = Path(_file(store)).parent
            modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"ebbtide.db": 0o600, "ebbtide.db-wal": 0o600, "ebbtide.db-shm": 0o600}


@pytest.mark.parametrize("pragma, value", [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)])
def test_every_connection_is_durable_and_keeps_references(store: Store, pragma: str, value: object) -> None:
    with store.read() as first, store.read() as second:
        found = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for connection in (first, second)]

    assert found == [value, value]


def test_a_store_refuses_to_be_used_after_a_fork_and_stays_usable_for_its_parent(store: Store) -> None:
    script = (
        "import os, sys\n"
        "from ebbtide.jobs.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "add = 'INSERT INTO job_parameters VALUES (?, ?, ?)'\n"
        "with store.write() as connection:\n"
        "    connection.exec_driver_sql(add, ('a', '{}', '{}'))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    refused = 0\n"
        "    for use in (store.read, store.write):\n"
        "        try:\n"
        "            with use():\n"
        "                pass\n"
        "        except RuntimeError:\n"
        "            refused += 1\n"
        "    store.close()\n"
        "    os._exit(refused)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "with store.write() as connection:\n"
        "    connection.exec_driver_sql(add, ('b', '{}', '{}'))\n"
    )

    ran = _run(script, store.url)

    assert (ran.stdout, ran.stderr) == ("2\n", "")
    assert _jobs(store) == ["a", "b"]


def test_closing_twice_is_closing_once_and_a_closed_store_opens_again(store: Store) -> None:
    store.close()
    store.close()

    _put(store, "a")

    assert _jobs(store) == ["a"]


# --- cost


def test_a_statement_is_compiled_once_however_often_it_is_written(store: Store) -> None:
    atoms = tables.atomdetails
    statement = update(atoms).where(atoms.c.uuid == bindparam("atom")).values(results="1")
    compiled: list[bool] = []
    event.listen(
        store.engine,
        "before_cursor_execute",
        lambda _c, _cursor, text, _p, context, _m: (
            compiled.append(context.cache_hit.name == "CACHE_HIT") if text.startswith("UPDATE") else None
        ),
    )

    for atom in ("a", "b", "c"):
        with store.write() as connection:
            connection.execute(statement, {"atom": atom})

    assert compiled == [False, True, True]


def test_a_write_is_one_commit(store: Store) -> None:
    commits: list[object] = []
    event.listen(store.engine, "commit", commits.append)

    _put(store, "a")
    _jobs(store)

    assert len(commits) == 1
