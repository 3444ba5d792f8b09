"""What a person is told whose server is away, unknown, or does not let them in: one line, and no password.

Promises: P4.
"""

import os
import subprocess
import sys

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.jobs.store import Store
from tests.services.ports import HOST

pytestmark = pytest.mark.postgresql_only("it is about what a server may answer")

PASSWORD = "hunter2"
COMMANDS = {
    "ls": ["ls"],
    "cancel": ["cancel", "7f3a"],
    "post": ["post", "file-processing", "-p", "source=/tmp", "-p", "destination=/tmp/x"],
    "db check": ["db", "check"],
    "db upgrade": ["db", "upgrade"],
}


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run the command on a database; its exit code, stdout, and the one line on stderr."""

    def run(url, *arguments):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("EBBTIDE_DATABASE", url)
        result = CliRunner().invoke(command, list(arguments))
        assert isinstance(result.exception, (SystemExit, type(None))), result.exception
        lines = result.stderr.splitlines()
        assert PASSWORD not in result.output
        return result.exit_code, result.stdout, lines

    return run


def with_password(url):
    return url.replace("ebbtide@", f"ebbtide:{PASSWORD}@")


def refused(told, reason):
    code, out, lines = told
    assert (code, out) == (Exit.STORE, "")
    assert len(lines) == 1, lines
    assert lines[0].startswith("ebbtide: the store cannot be used, nothing was stored: database ")
    assert reason in lines[0]


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_stopped_server_is_told_in_one_line(made, postgresql, call, arguments):
    postgresql.stop()

    refused(call(with_password(made), *arguments), "Connection refused")


def test_an_unknown_database_is_named(postgresql, call):
    refused(call(with_password(postgresql.url("nowhere")), "ls"), 'database "nowhere" does not exist')


def test_an_unknown_host_is_named(call):
    refused(call(f"postgresql://ebbtide:{PASSWORD}@no..host/jobs", "ls"), "no..host")


def test_a_wrong_password_is_told_without_it(made, postgresql, call):
    rules = postgresql.folder / "hba"
    rules.write_text("host all postgres all trust\nhost all ebbtide all scram-sha-256\n")
    rules.chmod(0o644)
    postgresql.restart(hba_file=rules)

    refused(call(with_password(made), "ls"), 'password authentication failed for user "ebbtide"')
    refused(call(made, "ls"), "no password supplied")
    postgresql.restart()


def test_a_conductor_that_cannot_start_says_so_in_one_line(made, postgresql):
    postgresql.stop()
    environment = os.environ | {"EBBTIDE_DATABASE": with_password(made)}

    ended = subprocess.run(
        [sys.executable, "-m", "ebbtide", "conductor"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert PASSWORD not in ended.stderr
    refused((ended.returncode, ended.stdout, ended.stderr.splitlines()), "Connection refused")


@pytest.mark.parametrize("query", ["sslmod=off", "x=y", "x=y&sslpassword=" + PASSWORD])
def test_an_option_of_the_url_that_does_not_exist_is_named_in_one_line(made, call, query):
    code, out, lines = call(f"{with_password(made)}?{query}", "ls")

    assert (code, out, len(lines)) == (Exit.USAGE, "", 1)
    assert f'invalid URI query parameter: "{query.partition("=")[0]}"' in lines[0]


def test_an_option_of_the_url_that_makes_no_sense_is_told_in_one_line(made, call):
    refused(call(f"{with_password(made)}?connect_timeout=soon", "ls"), 'invalid integer value "soon"')


def test_what_the_url_says_wins(made):
    with Store(f"{made}?application_name=mine") as store, store.read() as connection:
        name = connection.execute(sa.text("SELECT current_setting('application_name')")).scalar_one()

    assert name == "mine"


def test_the_password_is_in_no_report_of_the_database(made, call):
    code, out, lines = call(with_password(made), "db", "check", "--json")

    assert (code, lines) == (Exit.DONE, [])
    assert f"ebbtide:***@{HOST}" in out
