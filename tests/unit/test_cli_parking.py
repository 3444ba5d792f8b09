"""`unpark` and `accept`, and what the other verbs say of a parked job: words, exit codes, JSON."""

import json
import os

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.jobs import Poster, tables
from ebbtide.jobs.claims import Claims
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.parking import park
from ebbtide.jobs.store import Store

REASON = "the undo of b failed: OSError: busy"
UNDOS = {
    "a": {},
    "b": {"undo_begun_at": 3.0, "undo_tries": 2, "undo_error": "OSError: busy"},
    "c": {"undo_begun_at": 3.0, "undo_ended_at": 4.0, "undo_tries": 1},
}


@pytest.fixture
def run(database, monkeypatch):
    """Run the command on this test's store; the result has exit_code, stdout and stderr."""
    for name in [name for name in os.environ if name.startswith("EBBTIDE_")]:
        monkeypatch.delenv(name)

    def call(*words, stdin=None):
        result = CliRunner().invoke(
            command, ["--database", database, *words], input=stdin, catch_exceptions=False
        )
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture
def posted(database):
    """Post a job of a flow that nobody knows; returns its id."""
    with Poster(database), Store(database) as store:

        def post():
            new = NewJob("sum", 2, parameters="{}", labels_text="{}", labels={})
            return Ledger(store).post(new, who="ann")

        yield post


@pytest.fixture
def parked(database, posted):
    """Make a job that is parked: of three tasks `c` is undone, the undo of `b` failed, `a` is held."""
    with Store(database) as store:

        def make():
            job = posted()
            claims = Claims(store, f"one of {job}", name="one", lease_seconds=1000.0)
            claims.register(flows=["sum@2"], runners=1, isolation="thread")
            claim = claims.claim(["sum@2"])
            claims.release()
            with store.write() as connection:
                connection.execute(sa.update(tables.jobs).values(begun=1).where(tables.jobs.c.id == job))
                for number, task in enumerate("abc", 1):
                    row = {"job": job, "attempt": 1, "round": 1, "task": task, "position": number, "epoch": 1}
                    row |= {"begun_at": 1.0, "ended_at": 2.0, "how": "returned"} | UNDOS[task]
                    connection.execute(sa.insert(tables.job_tasks).values(**row))
                park(
                    connection,
                    job,
                    epoch=claim.epoch,
                    at=5.0,
                    reason=REASON,
                    task="b",
                    error="ValueError: no",
                    error_task="c",
                    actor="one",
                )
            return job

        yield make


def refused(result, code):
    """It ended so with one line on stderr and nothing on stdout; returns the line."""
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("ebbtide: ")
    return line


# -- unpark


def test_unpark_says_what_each_job_does_now(run, parked):
    one, other = parked(), parked()
    run("cancel", other)

    result = run("unpark", one, other)

    assert result.exit_code == Exit.DONE
    nobody = "waits for a conductor: none is running"
    assert result.stdout == f"{one}  unparked  pending, {nobody}\n{other}  unparked  cancelling, {nobody}\n"


def test_unpark_takes_ids_from_stdin_and_answers_in_json_line_by_line(run, parked):
    one, other = parked(), parked()

    result = run("unpark", "-", "--json", stdin=f"{one}\n{other[:13]}\n")

    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(each["id"], each["answer"], each["state"]) for each in told] == [
        (one, "unparked", "pending"),
        (other, "unparked", "pending"),
    ]


def test_what_is_not_parked_is_not_unparked_and_the_others_are(run, parked, posted):
    job, pending = parked(), posted()

    result = run("unpark", pending, "ffffffff", job)

    assert result.exit_code == Exit.NOT_ALLOWED
    assert result.stdout.startswith(f"{job}  unparked")
    first, second = result.stderr.splitlines()
    assert first == f"ebbtide: job {pending} cannot be unparked: it is pending, and only a parked job can"
    assert "ffffffff is not known" in second


@pytest.mark.parametrize(
    ("becomes", "code"),
    [("completed", Exit.DONE), ("failed", Exit.DONE), ("cancelled", Exit.DONE), ("parked", Exit.ENDED_BADLY)],
)
@pytest.mark.altered_by_hand("nothing runs here: the end of the job is made up")
def test_unpark_that_waits_ends_badly_only_if_the_job_is_parked_again(
    run, parked, monkeypatch, becomes, code
):
    job = parked()
    unpark = Poster.unpark

    def and_go_on(self, job_id, **wish):
        answered = unpark(self, job_id, **wish)
        with self._store.write() as connection:
            undo = "'complete'" if becomes in ("failed", "cancelled") else "NULL"
            connection.exec_driver_sql(f"UPDATE jobs SET state = '{becomes}', undo = {undo}, ended_at = 9")
        return answered

    monkeypatch.setattr(Poster, "unpark", and_go_on)

    result = run("unpark", "--wait", job)

    assert result.exit_code == code
    assert result.stdout.startswith(f"{job}  unparked  {becomes}")


# -- accept


@pytest.mark.parametrize("requested", [False, True], ids=["failed", "cancelled"])
def test_accept_says_how_the_job_ended_and_what_is_not_undone(run, parked, requested):
    job = parked()
    if requested:
        run("cancel", job)

    result = run("accept", job[:13], "--reason", "cleaned up by hand")

    state = "cancelled" if requested else "failed"
    assert result.exit_code == Exit.DONE
    assert result.stdout == f"{job}  {state}, accepted as it is (c: ValueError: no); not undone: a, b\n"


def test_accept_as_json_prints_the_job(run, parked):
    told = json.loads(run("--json", "accept", parked(), "--reason", "x").stdout)

    assert (told["state"], told["undo"], told["not_undone"]) == ("failed", "accepted", ["a", "b"])
    assert told["park_reason"] == REASON


@pytest.mark.parametrize("words", [[], ["--reason", ""], ["--reason", " \n "], ["--reason", "\x1b[2J"]])
def test_accept_wants_a_reason(run, parked, words):
    job = parked()

    assert "reason" in refused(run("accept", job, *words), Exit.USAGE)
    assert json.loads(run("show", job, "--json").stdout)["state"] == "parked"


def test_nothing_but_a_parked_job_is_accepted(run, posted):
    job = posted()

    line = refused(run("accept", job, "--reason", "x"), Exit.NOT_ALLOWED)

    assert line == f"ebbtide: job {job} cannot be accepted as it is: it is pending, and only a parked job can"
    assert "not known" in refused(run("accept", "ffffffff", "--reason", "x"), Exit.UNKNOWN)


def test_an_accepted_job_is_retried(run, parked):
    job = parked()
    run("accept", job, "--reason", "x")

    assert run("retry", job).stdout == f"{job}  pending  attempt 2\n"


# -- what the others say


def test_show_names_why_a_job_is_parked_and_what_is_not_undone(run, parked):
    lines = [line.rstrip() for line in run("show", parked()).stdout.splitlines()]

    assert f"state       parked, {REASON}" in lines
    assert "not undone  a, b" in lines
    assert any(
        line.startswith("b ") and "failed (2 tries)" in line and "OSError: busy" in line for line in lines
    )


def test_show_tells_of_an_accepted_job_what_it_was_parked_for_and_who_accepted_it_why(run, parked):
    job = parked()
    run("accept", job, "--reason", "cleaned up by hand")

    text = run("show", job).stdout

    lines = [line.rstrip() for line in text.splitlines()]
    assert "state       failed, accepted as it is" in lines
    assert f"was parked  {REASON}" in lines
    assert "not undone  a, b" in lines
    (entry,) = [line for line in lines if "accepted as failed" in line]
    assert "parked -> failed" in entry and entry.endswith("cleaned up by hand; not undone: a, b")


def test_show_keeps_telling_what_an_accepted_attempt_left_behind_after_a_retry(run, parked):
    job = parked()
    run("accept", job, "--reason", "x")
    run("retry", job)

    shown = json.loads(run("show", job, "--json").stdout)
    (entry,) = [entry for entry in shown["history"] if entry["name"] == "accepted_as_failed"]
    assert (shown["not_undone"], entry["detail"]["not_undone"]) == ([], ["a", "b"])
    assert "not undone: a, b" in run("show", job).stdout


def test_watch_ends_at_a_parked_job_with_what_can_be_done(run, parked):
    job = parked()

    result = run("watch", job)

    assert result.exit_code == Exit.ENDED_BADLY
    assert result.stderr == (
        f"ebbtide: job {job[:8]} parked: {REASON}; once mended `ebbtide unpark {job[:8]}` goes on, "
        f"`ebbtide accept {job[:8]}` closes it\n"
    )


def test_show_and_ls_say_which_conductor_a_job_waits_for(run, posted, database):
    job = posted()
    nobody = "a conductor: none is running"

    assert f"waits for  {nobody}" in run("show", job).stdout
    assert f"waits for {nobody}" in run("ls").stdout
    assert json.loads(run("ls", "--json").stdout)[0]["waits_for"] == nobody

    with Store(database) as store:
        claims = Claims(store, "one", name="one", lease_seconds=1000.0)
        claims.register(flows=["sum@1"], runners=1, isolation="thread")
    told = json.loads(run("show", job, "--json").stdout)
    assert told["waits_for"] == "a conductor that knows sum@2: none of those running does"
