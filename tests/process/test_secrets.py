"""A secret in real conductors: neither the store nor what they print and capture has a trace of it."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from ebbtide.jobs.store import Store

SECRETS = ["hunter2-hunter3-hunter4", 'hun"ter2 \\ hünter3']


@pytest.fixture(params=SECRETS)
def secret(request, monkeypatch):
    monkeypatch.setenv("A_TOKEN_OF_THIS_TEST", request.param)
    return request.param


def post(stage, *actions):
    parameters = {"folder": str(stage.folder), "actions": list(actions), "token": "env:A_TOKEN_OF_THIS_TEST"}
    return stage.poster.post("secretive", parameters)


def traces(stage, secret):
    """Where the secret stands, as it is or escaped: the rows and files of the store, the logs."""
    forms = {form.encode() for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1])}
    database = Path(stage.database.removeprefix("sqlite:///"))
    files = [*database.parent.glob(f"{database.name}*"), *stage.folder.glob("conductor-*.log")]
    texts = {file.name: file.read_bytes() for file in files} | {"the rows": rows(stage)}
    assert len(texts) >= 2, texts.keys()
    return [(name, form) for name, text in texts.items() for form in forms if form in text]


def rows(stage):
    """Every row of every table, as texts."""
    with Store(stage.database) as store, store.read() as connection:
        everything = sa.MetaData()
        everything.reflect(connection)
        found = [row for table in everything.sorted_tables for row in connection.execute(sa.select(table))]
    assert found
    return "\n".join(map(str, found)).encode()


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_whatever_a_task_does_with_its_secret_leaves_no_trace(stage, secret, isolation):
    conductor = stage.conductor(isolation=isolation, log_level="debug")
    # Of a conductor that runs its jobs in threads, what a task prints is the program's own output.
    prints = ["print"] if isolation == "process" else []
    job = post(stage, "log", *prints, "thread", "report", "raise")

    ended = stage.ended(job)

    assert (ended.state, ended.undo) == ("failed", "complete")
    assert ended.error == "ValueError: *** is refused"
    assert traces(stage, secret) == []
    assert conductor.end() == 0
    assert traces(stage, secret) == []
    lines = [line.text for line in stage.poster.logs(job.id)]
    assert "logged ***" in lines
    if isolation == "process":
        assert {"printed ***", "in parts ***", "as bytes ***"} <= set(lines)
        assert "passed on ***" in conductor.log and "KeyError: '***'" in conductor.log
    assert "in a thread: ***" in conductor.log


@pytest.mark.parametrize("action", ["return", "save"])
def test_a_secret_that_would_be_stored_fails_the_job_in_a_runner(stage, secret, action):
    stage.conductor()
    job = post(stage, action)

    assert "holds the secret env:A_TOKEN_OF_THIS_TEST" in stage.ended(job).error
    assert traces(stage, secret) == []


def test_a_conductor_without_the_secret_fails_the_job_and_one_that_has_it_retries_it(stage, monkeypatch):
    without = stage.conductor()
    job = post(stage, "log")
    assert "the conductor was started without it" in stage.ended(job).error
    assert stage.names(job) == ["posted", "claimed", "failed"]
    assert without.end() == 0

    monkeypatch.setenv("A_TOKEN_OF_THIS_TEST", SECRETS[0])
    stage.conductor()
    stage.poster.retry(job.id)

    assert stage.ended(job).state == "completed"
    assert traces(stage, SECRETS[0]) == []
