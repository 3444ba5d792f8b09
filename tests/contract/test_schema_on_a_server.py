"""The tables on a server: made once by whoever is first, known to TaskFlow's tools, checked and upgraded.

Promises: P10, P12.
"""

import contextlib
import json
import subprocess
import sys
import warnings

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from taskflow.persistence import backends

from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.errors import SchemaMismatch, StoreUnavailable
from ebbtide.jobs.schema import VERSION_TABLE, SchemaState, check_schema, ensure_schema
from ebbtide.jobs.scripts import Statement, send
from ebbtide.jobs.store import Store
from ebbtide.jobs.tables import REVISION, metadata, taskflow_metadata

pytestmark = pytest.mark.postgresql_only("test_schema.py of integration/ is about SQLite's")

OPENERS = 4
OPENS = """
import sys
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store

print("ready", flush=True)
sys.stdin.readline()
with Store(sys.argv[1]) as store:
    ensure_schema(store)
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO job_parameters VALUES (%s, '{}', '{}')", (sys.argv[2],))
"""
DIES = """
import os, sys
from ebbtide.jobs import schema
from ebbtide.jobs.store import Store

schema._add_taskflow = lambda connection: os._exit(9)
with Store(sys.argv[1]) as store:
    schema.ensure_schema(store)
"""


def tables_of(postgresql, url):
    rows = postgresql.query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows}


@contextlib.contextmanager
def of_taskflow(url):
    """TaskFlow's own connection to the database, as any TaskFlow program has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TaskFlow's, about itself
        backend = backends.fetch({"connection": url.replace("postgresql://", "postgresql+psycopg2://")})
        with contextlib.closing(backend), contextlib.closing(backend.get_connection()) as connection:
            yield connection


def test_processes_that_open_an_empty_database_at_once_can_all_use_it(database, postgresql):
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPENS, database, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(OPENERS)
    ]
    try:
        for opener in openers:
            assert opener.stdout.readline() == "ready\n"
        for opener in openers:
            opener.stdin.write("go\n")
            opener.stdin.flush()
        told = [opener.communicate(timeout=50) for opener in openers]
    finally:
        for opener in openers:
            opener.kill()
            opener.communicate()

    assert [opener.returncode for opener in openers] == [0] * OPENERS, told
    assert check_schema(database).state is SchemaState.CURRENT
    assert postgresql.query(database, "SELECT count(*) FROM job_parameters") == [(OPENERS,)]
    assert postgresql.query(database, f"SELECT * FROM {VERSION_TABLE}") == [(REVISION,)]


def test_a_process_that_dies_while_it_makes_the_tables_leaves_none(database, postgresql):
    died = subprocess.run([sys.executable, "-c", DIES, database], check=False)

    assert died.returncode == 9
    assert tables_of(postgresql, database) == set()
    with Store(database) as store:
        ensure_schema(store)
    assert {*metadata.tables, *taskflow_metadata.tables} < tables_of(postgresql, database)


def test_taskflows_own_upgrade_finds_nothing_to_do(database, postgresql):
    with Store(database) as store:
        ensure_schema(store)
    before = tables_of(postgresql, database), postgresql.query(database, "SELECT * FROM alembic_version")

    with of_taskflow(database) as connection:
        connection.upgrade()
        connection.validate()

    after = tables_of(postgresql, database), postgresql.query(database, "SELECT * FROM alembic_version")
    assert after == before


def test_a_database_of_taskflow_alone_is_taken_over_by_an_upgrade_only(database):
    with of_taskflow(database) as connection:
        connection.upgrade()

    with Store(database) as store, pytest.raises(SchemaMismatch):
        ensure_schema(store)
    ended = CliRunner().invoke(command, ["db", "upgrade"], env={"EBBTIDE_DATABASE": database})

    assert (ended.exit_code, check_schema(database).state) == (Exit.DONE, SchemaState.CURRENT)


@pytest.mark.parametrize("found, state", [("0000", "foreign"), ("9999", "newer")])
def test_another_revision_is_told_and_left_alone(database, postgresql, found, state):
    with Store(database) as store:
        ensure_schema(store)
    postgresql.query(database, f"UPDATE {VERSION_TABLE} SET version_num = %s", found)

    ended = CliRunner().invoke(command, ["db", "check", "--json"], env={"EBBTIDE_DATABASE": database})

    told = json.loads(ended.stdout)
    assert (ended.exit_code, told["state"], told["schema"]) == (Exit.STORE, state, found)
    assert len(ended.stderr.splitlines()) == 1
    assert postgresql.query(database, f"SELECT * FROM {VERSION_TABLE}") == [(found,)]


def test_checking_an_empty_database_makes_nothing_and_upgrading_makes_all(database, postgresql):
    environment = {"EBBTIDE_DATABASE": database}

    checked = CliRunner().invoke(command, ["db", "check", "--json"], env=environment)
    made = tables_of(postgresql, database)
    upgraded = CliRunner().invoke(command, ["db", "upgrade", "--json"], env=environment)
    again = CliRunner().invoke(command, ["db", "check", "--json"], env=environment)

    assert [json.loads(each.stdout)["state"] for each in (checked, upgraded, again)] == [
        "empty",
        "current",
        "current",
    ]
    assert made == set()


def test_the_tables_of_another_program_are_refused(database, postgresql):
    postgresql.query(database, "CREATE TABLE diary (entry text)")

    ended = [
        CliRunner().invoke(command, ["db", verb], env={"EBBTIDE_DATABASE": database})
        for verb in ("check", "upgrade")
    ]

    assert [each.exit_code for each in ended] == [Exit.STORE, Exit.STORE]
    assert [len(each.stderr.splitlines()) for each in ended] == [1, 1]
    assert tables_of(postgresql, database) == {"diary"}


def test_a_database_that_cannot_hold_every_text_is_refused_while_it_is_empty(postgresql):
    database = postgresql.create_database_in("SQL_ASCII")

    with Store(database) as store, pytest.raises(StoreUnavailable, match=r"encoding SQL_ASCII.*'UTF8'"):
        ensure_schema(store)

    assert tables_of(postgresql, database) == set()
    postgresql.drop_database(database)


def test_texts_come_back_as_they_were_whatever_encoding_the_environment_names(postgresql, monkeypatch):
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    text = Statement(sa.select(sa.bindparam("key_text", type_=sa.Text)))

    with Store(postgresql.create_database()) as store, store.write() as connection:
        told = send(connection, [(text, [{"text": "für 100 % 火"}])]).scalar()

    assert told == "für 100 % 火"
