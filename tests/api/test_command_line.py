"""The command with --server: verbs about jobs go by the API alone, and watch outlives a restart."""

import contextlib
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ebbtide.api import create_app
from ebbtide.cli import command
from tests.api.conftest import served
from tests.services.ports import reserved_port

# What is about the machine or the store itself.
OF_THE_STORE = {"conductor", "api", "up", "token", "prune", "doctor", "db", "prove", "demo", "version"}


@pytest.fixture
def token_file(token, tmp_path):
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(token())
    return str(file)


@pytest.fixture
def run(serving, token_file, monkeypatch):
    monkeypatch.setenv("EBBTIDE_DATABASE", "sqlite:////nowhere/at/all.db")

    def call(*words, code=0):
        told = CliRunner().invoke(command, [*words, "--server", serving, "--token-file", token_file])
        assert told.exit_code == code, (words, told.exit_code, told.stderr, told.exception)
        return told.stdout

    return call


def test_every_verb_is_either_for_a_server_or_known_not_to_be():
    asked = {"post", "ls", "show", "logs", "result", "watch", "cancel", "retry", "pause", "resume", "rewind"}
    asked |= {"unpark", "accept", "delete", "flows", "conductors", "stats"}

    assert set(command.commands) == asked | OF_THE_STORE


def test_a_job_is_posted_looked_at_and_changed(run):
    job = run(
        "post", "add", "-p", "a=1", "-p", "note=spring", "--label", "team=red", "--priority", "3"
    ).strip()
    shown = json.loads(run("show", job[:8], "--json"))

    assert (shown["id"], shown["posted_by"], shown["priority"], shown["state"]) == (job, "ann", 3, "pending")
    assert job[:8] in run("ls", "--label", "team=red", "--state", "pending", "--flow", "add")
    assert "add@1" in run("flows", "add")
    assert run("logs", job) == ""
    assert "paused" in run("pause", job)
    assert run("resume", job).startswith(job)
    run("rewind", job, "--to", "here", code=3)
    for words in (("result", job), ("unpark", job), ("accept", job, "--reason", "fine")):
        run(*words, code=4)
    assert "cancelled" in run("cancel", job, "--reason", "spring", "--wait")
    assert "spring" in run("show", job, "--receipt")
    assert "cancelled" in run("watch", job, code=1)
    run("logs", job, "--follow")
    assert run("retry", job).startswith(job)
    assert json.loads(run("stats", "--json"))
    assert json.loads(run("conductors", "--json")) == []
    run("delete", job)
    run("show", job, code=3)


def test_many_are_cancelled_retried_and_deleted_by_what_they_have_in_common(run):
    jobs = {run("post", "add", "-p", f"a={number}", "--label", "team=red").strip() for number in range(3)}
    other = run("post", "add", "-p", "a=9").strip()

    foretold = run("cancel", "--label", "team=red", "--dry-run")
    cancelled = run("cancel", "--label", "team=red", "--yes", "--json")
    retried = run("retry", "--state", "cancelled", "--yes", "--json")
    run("cancel", "--all", "--yes")
    deleted = run("delete", "--flow", "add", "--yes", "--json")

    assert {line.split()[0] for line in foretold.splitlines()} == jobs
    for told in (cancelled, retried):
        assert {json.loads(line)["id"] for line in told.splitlines()} == jobs
    assert {json.loads(line)["id"] for line in deleted.splitlines()} == jobs | {other}
    assert json.loads(run("ls", "--json")) == []


def test_who_sees_no_job_is_not_told_that_there_is_none(run, serving, token, tmp_path):
    run("post", "add", "-p", "a=1")
    file = tmp_path / "another"
    file.touch(0o600)
    file.write_text(token(name="bob"))

    told = CliRunner().invoke(command, ["ls", "--server", serving, "--token-file", str(file)])

    assert (told.exit_code, told.stdout) == (0, "")
    assert told.stderr.startswith("ebbtide: no job that this token may see; ")


def test_a_server_is_named_without_the_path_of_its_api(serving, token_file):
    told = CliRunner().invoke(command, ["ls", "--server", f"{serving}/api/v1/", "--token-file", token_file])

    assert (told.exit_code, len(told.stderr.splitlines())) == (2, 1)
    assert "the server should be named without /api/v1" in told.stderr


def test_who_may_not_is_told_with_the_code_for_that(serving, token, tmp_path):
    file = tmp_path / "viewer"
    file.touch(0o600)
    file.write_text(token("viewer"))

    told = CliRunner().invoke(
        command, ["post", "add", "-p", "a=1", "--server", serving, "--token-file", str(file)]
    )

    assert (told.exit_code, len(told.stderr.splitlines())) == (4, 1)
    assert "operator" in told.stderr


def test_watch_goes_on_where_it_was_when_the_server_comes_back(poster, token_file):
    own = poster.acting_for("ann", jobs_of="ann")
    job = own.post("add", {"a": 1})
    with reserved_port() as port, contextlib.ExitStack() as first:
        server = first.enter_context(served(create_app(poster), port=port))
        words = ["watch", job.id, "--json", "--server", server, "--token-file", token_file]
        with subprocess.Popen(
            [sys.executable, "-m", "ebbtide", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching:
            try:
                assert json.loads(watching.stdout.readline())["state"] == "pending"
                first.close()
                own.cancel(job.id, "spring")
                with served(create_app(poster), port=port):
                    told, errors = watching.communicate(timeout=30)
            finally:
                watching.kill()

    assert [json.loads(line)["state"] for line in told.splitlines()][-1] == "cancelled"
    assert (watching.returncode, errors) == (1, "")
