"""Who makes the tables, who refuses them, and that they are what the code believes them to be."""

import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from taskflow.persistence.backends import impl_sqlalchemy
from taskflow.persistence.backends.sqlalchemy import tables as taskflow_schema

import ebbtide.jobs.schema
from ebbtide.errors import SchemaMismatch, StoreUnavailable
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.schema import VERSION_TABLE, SchemaState, check_schema, ensure_schema, upgrade_schema
from ebbtide.jobs.store import Store

# A revision that this program does not know yet.
NEXT = f"{int(tables.REVISION) + 1:04d}"

# Opens the store, stores one row, says so. Begins when it is told to.
_OPENER = """
import os, sys
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store
print("ready", flush=True)
sys.stdin.readline()
with Store(sys.argv[1]) as store:
    ensure_schema(store)
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO job_parameters VALUES (?, '{}', '{}')", (str(os.getpid()),))
print("opened", flush=True)
"""

# As an ordinary user, whom permissions stop; everything is imported before, for the interpreter may be out of
# that user's reach.
_ORDINARY_USER = """
import os, sys
from ebbtide.errors import EbbtideError
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store
import alembic.command
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with Store(sys.argv[1]) as store:
        ensure_schema(store)
        with store.write() as connection:
            connection.exec_driver_sql("INSERT INTO job_parameters VALUES ('a', '{}', '{}')")
except EbbtideError as error:
    print(type(error).__name__, error)
else:
    print("stored")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ebbtide.db"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def _make(path: Path) -> None:
    with Store(str(path)) as store:
        ensure_schema(store)


def _sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def _definitions(path: Path) -> dict[str, str]:
    """The statement behind each table and index, without its white space."""
    found = _sql(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {str(name): re.sub(r"\s+", "", str(text)) for name, text in found}


def _run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=50, env={**os.environ, **environment}
    )


# --- an empty database


@pytest.mark.parametrize("there", [False, True], ids=["no file", "an empty file"])
def test_eight_processes_that_open_an_empty_database_at_once_all_can_use_it(path: Path, there: bool) -> None:
    if there:
        path.touch()
    command = [sys.executable, "-c", _OPENER, str(path)]
    openers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for opener in openers:
        assert opener.stdout is not None and opener.stdout.readline() == "ready\n"

    for opener in openers:
        assert opener.stdin is not None
        print("go", file=opener.stdin, flush=True)
    told = [opener.communicate() for opener in openers]

    assert told == [("opened\n", "")] * 8
    stored = {int(str(row[0])) for row in _sql(path, "SELECT job FROM job_parameters")}
    assert stored == {opener.pid for opener in openers}
    assert check_schema(str(path)).state is SchemaState.CURRENT


def test_a_process_that_dies_while_it_makes_the_tables_leaves_none(path: Path) -> None:
    script = (
        "import os, sys\n"
        "from ebbtide.jobs import schema\n"
        "from ebbtide.jobs.store import Store\n"
        "schema._add_taskflow = lambda connection: os.kill(os.getpid(), 9)\n"
        "schema.ensure_schema(Store(sys.argv[1]))\n"
    )

    died = _run(script, str(path))
    left = check_schema(str(path))
    _make(path)

    assert died.returncode == -9
    assert left.state is SchemaState.EMPTY
    assert check_schema(str(path)).state is SchemaState.CURRENT


def test_checking_makes_nothing(path: Path) -> None:
    report = check_schema(str(path))

    assert (report.state, report.found, report.expected) == (SchemaState.EMPTY, None, tables.REVISION)
    assert not path.exists()


def test_the_folder_of_the_default_database_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from ebbtide.config import load_settings\n"
        "from ebbtide.jobs.schema import check_schema, ensure_schema\n"
        "from ebbtide.jobs.store import Store\n"
        "os.umask(0)\n"
        "url = load_settings().database\n"
        "print(check_schema(url).state)\n"
        "ensure_schema(Store(url))\n"
    )
    environment = {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "home" / "data")}

    ran = _run(script, **environment)

    assert (ran.stdout, ran.stderr) == ("empty\n", "")
    made = [tmp_path / "home", tmp_path / "home" / "data", tmp_path / "home" / "data" / "ebbtide"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o700] * 3
    assert stat.S_IMODE((made[-1] / "ebbtide.db").stat().st_mode) == 0o600


# --- a database that is current


def test_opening_a_current_database_is_one_select_and_changes_nothing(path: Path) -> None:
    _make(path)
    before = path.read_bytes()
    statements: list[str] = []
    with Store(str(path)) as store:
        sa.event.listen(
            store.engine,
            "before_cursor_execute",
            lambda _connection, _cursor, text, *_rest: statements.append(text),
        )

        ensure_schema(store)

    assert statements == ["BEGIN", f"SELECT version_num FROM {VERSION_TABLE}"]
    assert path.read_bytes() == before


def test_opening_a_current_database_does_not_import_alembic(path: Path) -> None:
    _make(path)
    script = (
        "import sys\n"
        "from ebbtide.jobs.schema import ensure_schema\n"
        "from ebbtide.jobs.store import Store\n"
        "ensure_schema(Store(sys.argv[1]))\n"
        "print('alembic' in sys.modules)\n"
    )

    ran = _run(script, str(path))

    assert (ran.stdout, ran.stderr) == ("False\n", "")


def test_upgrading_a_current_database_changes_nothing(path: Path) -> None:
    _make(path)
    before = path.read_bytes()

    report = upgrade_schema(str(path))

    assert report.state is SchemaState.CURRENT
    assert path.read_bytes() == before


def test_a_database_from_before_the_boards_is_given_its_leaders(path: Path) -> None:
    _make(path)
    _sql(path, "DROP TABLE leaders")
    _sql(path, f"UPDATE {VERSION_TABLE} SET version_num = '0004'")

    report = upgrade_schema(str(path))

    assert report.state is SchemaState.CURRENT
    with Store(str(path)) as store, store.read() as connection:
        assert [tuple(row) for row in connection.execute(sa.select(tables.leaders))] == [("outbox", "")]


# --- a schema that does not fit


@pytest.mark.parametrize(
    "found, state",
    [("0000", SchemaState.FOREIGN), (NEXT, SchemaState.NEWER), ("9d1f", SchemaState.FOREIGN)],
)
def test_another_revision_is_refused_and_left_alone(path: Path, found: str, state: SchemaState) -> None:
    _make(path)
    _sql(path, f"UPDATE {VERSION_TABLE} SET version_num = '{found}'")
    before = path.read_bytes()

    with Store(str(path)) as store, pytest.raises(SchemaMismatch, match="newer ebbtide") as caught:
        ensure_schema(store)
    assert "ebbtide db upgrade" not in str(caught.value)

    assert (caught.value.found, caught.value.expected) == (found, tables.REVISION)
    assert check_schema(str(path)).state is state
    assert path.read_bytes() == before


def test_an_older_revision_is_told_to_be_upgraded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(path)
    monkeypatch.setattr(ebbtide.jobs.schema, "REVISION", NEXT)

    with Store(str(path)) as store, pytest.raises(SchemaMismatch, match="run `ebbtide db upgrade`"):
        ensure_schema(store)


@pytest.mark.parametrize("found", ["0000", NEXT, "9d1f"])
def test_an_upgrade_refuses_what_it_does_not_know(path: Path, found: str) -> None:
    _make(path)
    _sql(path, f"UPDATE {VERSION_TABLE} SET version_num = '{found}'")

    with pytest.raises(SchemaMismatch, match="newer ebbtide") as caught:
        upgrade_schema(str(path))

    assert "ebbtide db upgrade" not in str(caught.value)
    assert check_schema(str(path)).found == found


def test_the_tables_of_another_program_are_refused_by_opening_and_by_upgrading(path: Path) -> None:
    _sql(path, "CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()

    with Store(str(path)) as store, pytest.raises(SchemaMismatch, match="tables, but no schema"):
        ensure_schema(store)
    with pytest.raises(SchemaMismatch, match="name another database with --database") as caught:
        upgrade_schema(str(path))

    assert "ebbtide db upgrade" not in str(caught.value)
    assert check_schema(str(path)).state is SchemaState.FOREIGN
    assert path.read_bytes() == before


def test_a_database_of_taskflow_alone_is_taken_over_by_an_upgrade_only(path: Path) -> None:
    with sa.create_engine(f"sqlite:///{path}").begin() as connection:
        taskflow_schema.fetch(metadata := sa.MetaData())
        metadata.create_all(connection)
        connection.exec_driver_sql("INSERT INTO logbooks (uuid, name) VALUES ('b', 'kept')")
    connection.engine.dispose()

    with Store(str(path)) as store, pytest.raises(SchemaMismatch, match="ebbtide db upgrade"):
        ensure_schema(store)
    upgraded = upgrade_schema(str(path))

    assert upgraded.state is SchemaState.CURRENT
    assert _sql(path, "SELECT name FROM logbooks") == [("kept",)]
    assert {index.name for index in tables.taskflow_indexes} <= set(_definitions(path))


def test_an_upgrade_that_fails_leaves_everything_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_connection: sa.Connection) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(ebbtide.jobs.schema, "_add_taskflow", fail)

    with pytest.raises(RuntimeError, match="half-way"):
        upgrade_schema(str(path))

    assert check_schema(str(path)).state is SchemaState.EMPTY


# --- places that cannot be written


def test_a_folder_that_cannot_be_written_is_told_in_one_line(open_folder: Path) -> None:
    open_folder.chmod(0o555)

    ran = _run(_ORDINARY_USER, str(open_folder / "x.db"))

    assert ran.stdout.startswith("StoreUnavailable")
    assert f"database {open_folder / 'x.db'} cannot be opened: permission denied" in ran.stdout
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")
    assert list(open_folder.iterdir()) == []


def test_a_database_in_a_folder_that_cannot_be_written_is_told_in_one_line(open_folder: Path) -> None:
    _make(open_folder / "x.db")
    (open_folder / "x.db").chmod(0o666)
    open_folder.chmod(0o555)

    ran = _run(_ORDINARY_USER, str(open_folder / "x.db"))

    assert ran.stdout.startswith("StoreUnavailable")
    assert f"folder {open_folder} of the database cannot be written" in ran.stdout
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")


def test_a_database_that_cannot_be_read_is_told_in_one_line(open_folder: Path) -> None:
    _make(open_folder / "x.db")
    (open_folder / "x.db").chmod(0o000)
    open_folder.chmod(0o777)

    ran = _run(_ORDINARY_USER, str(open_folder / "x.db"))

    assert ran.stdout.startswith("StoreUnavailable")
    assert f"database {open_folder / 'x.db'} cannot be read" in ran.stdout
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")


def test_a_database_that_cannot_be_written_is_told_in_one_line(open_folder: Path) -> None:
    _make(open_folder / "x.db")
    (open_folder / "x.db").chmod(0o444)
    open_folder.chmod(0o777)

    ran = _run(_ORDINARY_USER, str(open_folder / "x.db"))

    assert ran.stdout.startswith("StoreUnavailable")
    assert "cannot be written" in ran.stdout
    assert (ran.stdout.count("\n"), ran.stderr) == (1, "")


def test_a_file_system_without_a_shared_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(str(path)) as store:
        monkeypatch.setattr(store.dialect, "_ask_for_log", lambda *_: "delete")

        with pytest.raises(StoreUnavailable, match="cannot hold a write-ahead log"):
            ensure_schema(store)

    assert check_schema(str(path)).state is SchemaState.EMPTY


# --- the migrations, the tables in code, and TaskFlow's


def _comparison(connection: sa.Connection) -> MigrationContext:
    options = {
        "version_table": VERSION_TABLE,
        "include_name": lambda name, kind, _parents: kind != "table" or name in tables.metadata.tables,
        "compare_type": True,
        "compare_server_default": True,
    }
    return MigrationContext.configure(connection, opts=options)


@pytest.mark.filterwarnings("ignore:.*expression:UserWarning")
def test_the_migrations_make_exactly_the_tables_in_code(path: Path) -> None:
    _make(path)

    with Store(str(path)) as store, store.read() as connection:
        differences = compare_metadata(_comparison(connection), tables.metadata)

    assert differences == []


def test_the_migrations_make_the_same_statements_as_the_tables_in_code(path: Path, tmp_path: Path) -> None:
    _make(path)
    with Store(str(tmp_path / "direct.db")) as store:
        store.dialect.create()
        with store.write() as connection:
            tables.metadata.create_all(connection)
            tables.taskflow_metadata.create_all(connection)

    made = _definitions(path)
    made.pop(VERSION_TABLE)

    assert made == _definitions(tmp_path / "direct.db")


def test_the_newest_migration_is_the_one_that_the_tables_name() -> None:
    config = Config()
    config.set_main_option("script_location", "ebbtide.jobs:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]


def test_taskflows_own_upgrade_finds_nothing_to_do(path: Path) -> None:
    _make(path)
    before = _definitions(path)
    backend = impl_sqlalchemy.SQLAlchemyBackend({"connection": f"sqlite:///{path}"})

    with closing(backend), closing(backend.get_connection()) as connection:
        connection.upgrade()

    assert _definitions(path) == before


def test_the_mirrors_have_the_columns_of_taskflows_tables() -> None:
    mirrors = (tables.logbooks, tables.flowdetails, tables.atomdetails)

    for mirror, own in zip(mirrors, tables.taskflow_tables, strict=True):
        assert mirror.name == own.name
        assert mirror.columns.keys() == own.columns.keys()


def test_taskflow_reads_what_is_written_through_the_mirrors(path: Path) -> None:
    _make(path)
    with Store(str(path)) as store, store.write() as connection:
        connection.execute(sa.insert(tables.logbooks).values(uuid="b", name="book", meta='{"job": "ü"}'))
        connection.execute(
            sa.insert(tables.flowdetails).values(uuid="f", parent_uuid="b", name="flow", state="RUNNING")
        )
        connection.execute(
            sa.insert(tables.atomdetails).values(
                uuid="a",
                parent_uuid="f",
                name="atom",
                state="SUCCESS",
                intention="EXECUTE",
                atom_type="TASK_DETAIL",
                results='{"total": [1, 2]}',
                meta='{"progress": 1.0}',
            )
        )
    backend = impl_sqlalchemy.SQLAlchemyBackend({"connection": f"sqlite:///{path}"})

    with closing(backend), closing(backend.get_connection()) as taskflow:
        book = taskflow.get_logbook("b")

    atom = book.find("f").find("a")
    assert (book.meta, book.created_at is not None) == ({"job": "ü"}, True)
    assert (atom.state, atom.intention, atom.results, atom.meta) == (
        "SUCCESS",
        "EXECUTE",
        {"total": [1, 2]},
        {"progress": 1.0},
    )


@pytest.mark.parametrize(
    "query, index",
    [
        (
            "SELECT id FROM jobs WHERE state = 'pending' AND flow = 'x' AND version = 1"
            " AND due_at + 0.0 <= 9.0 ORDER BY priority DESC, due_at, created_at LIMIT 1",
            "ix_jobs_queue",
        ),
        ("SELECT 1 FROM jobs WHERE state = 'pending' AND due_at <= 9.0 LIMIT 1", "ix_jobs_due"),
        ("SELECT id FROM jobs WHERE owner = 'x' AND state = 'running'", "ix_jobs_owner"),
        ("SELECT id FROM jobs ORDER BY created_at DESC, id LIMIT 100", "ix_jobs_newest"),
        ("SELECT id FROM jobs WHERE flow = 'x' ORDER BY created_at DESC LIMIT 100", "ix_jobs_flow"),
        ("SELECT job FROM job_labels WHERE key = 'x' AND value = 'y'", "ix_job_labels_value"),
        ("SELECT * FROM atomdetails WHERE parent_uuid = 'x'", "ix_ebbtide_atomdetails_parent"),
        ("SELECT * FROM flowdetails WHERE parent_uuid = 'x'", "ix_ebbtide_flowdetails_parent"),
    ],
)
def test_the_frequent_questions_are_answered_by_an_index_without_sorting(
    path: Path, query: str, index: str
) -> None:
    _make(path)

    plan = " ".join(str(row[3]) for row in _sql(path, f"EXPLAIN QUERY PLAN {query}"))

    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_a_poster_of_a_store_that_does_not_fit_leaves_nothing_open(path: Path) -> None:
    _make(path)
    _sql(path, f"UPDATE {VERSION_TABLE} SET version_num = '{NEXT}'")

    with pytest.raises(SchemaMismatch, match="newer ebbtide"):
        Poster(str(path))

    opened = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
    assert not [file for file in opened if file.startswith(str(path))]
