"""`pause`, `resume` and `rewind`: of jobs that are named, of all that fit, and of a flow itself."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from ebbtide.cli import command
from ebbtide.cli.exits import Exit
from ebbtide.jobs import Poster, clock, tables
from ebbtide.jobs.edges import apply_edge
from ebbtide.jobs.ledger import Ledger, NewJob
from ebbtide.jobs.states import JobState
from ebbtide.jobs.store import Store
from ebbtide.testing import wait_until


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
def store(database):
    with Poster(database), Store(database) as opened:
        yield opened


@pytest.fixture
def post(store):
    """Post a job of a flow that nobody knows; returns its id."""

    def call(flow="sum", **labels):
        return Ledger(store).post(NewJob(flow, 1, "{}", json.dumps(labels), labels), who="ann")

    return call


@pytest.fixture
def at_work(store, post):
    """The id of a job that is running, and has reached the savepoint `saved`."""
    job = post()
    task = {"job": job, "attempt": 1, "round": 1, "task": "savepoint:saved", "position": 1, "epoch": 1}
    task |= {"begun_at": 1.0, "how": "returned"}
    with store.write() as connection:
        apply_edge(connection, "claimed", job, at=1.0, values={"epoch": 1, "begun": 1})
        connection.execute(sa.insert(tables.job_tasks).values(task))
    return job


@pytest.fixture
def once_asked(store, at_work):
    """Once it was asked to stop, move that job along an edge, as its conductor does."""
    with ThreadPoolExecutor(1) as pool:

        def move(edge, **values):
            def call():
                wait_until(lambda: row(store, at_work).pause_requested_at is not None, "it is asked to stop")
                with store.write() as connection:
                    now = clock.wall()
                    apply_edge(connection, edge, at_work, at=now, source=JobState.RUNNING, values=values)

            return pool.submit(call)

        yield move


def row(store, job):
    with store.read() as connection:
        return connection.execute(sa.select(tables.jobs).where(tables.jobs.c.id == job)).one()


def state(store, job):
    return row(store, job).state


def test_all_that_fit_are_paused_and_resumed(run, post, store):
    mine, other = [post(team="a"), post(team="a")], post(team="b")

    paused = run("pause", "--label", "team=a")
    again = run("pause", *mine, other)
    resumed = run("resume", "--state", "paused", "--flow", "sum", "--json")

    assert paused.stdout.splitlines() == [f"{job}  accepted" for job in mine]
    assert paused.stderr == "ebbtide: 2 accepted\n"
    assert again.stdout.splitlines() == [
        *(f"{job}  already requested  paused" for job in mine),
        f"{other}  accepted  paused",
    ]
    told = [json.loads(line) for line in resumed.stdout.splitlines()]
    assert told == [{"id": job, "answer": "accepted", "state": "paused"} for job in (*mine, other)]
    assert {state(store, job) for job in (*mine, other)} == {"pending"}


@pytest.mark.parametrize("named", [True, False], ids=["named", "all"])
def test_a_dry_run_of_a_pause_pauses_nothing(named, run, post, store):
    job = post()

    foreseen = run("pause", job[:8] if named else "--all", "--dry-run")

    assert (foreseen.exit_code, foreseen.stdout) == (Exit.DONE, f"{job}  accepted\n")
    assert foreseen.stderr == "ebbtide: nothing is changed; 1 accepted\n"
    assert state(store, job) == "pending"


def test_a_flow_that_is_named_alone_is_paused_itself_and_its_jobs_are_not(run, post, store):
    job = post()

    assert run("pause", "--flow", "sum").stdout == "sum  paused\n"
    assert state(store, job) == "pending"
    assert run("pause", "--flow", "sum", "--state", "pending").stdout == f"{job}  accepted\n"
    assert run("resume", "--flow", "sum").stdout == "sum  resumed\n"
    assert state(store, job) == "paused"


def test_who_waits_for_a_pause_is_told_when_the_job_rests(run, at_work, once_asked):
    moved = once_asked("paused")

    waited = run("pause", at_work, "--wait")

    moved.result()
    assert (waited.exit_code, waited.stdout) == (Exit.DONE, f"{at_work}  accepted  paused\n")
    assert [line.split("  ", 1)[1] for line in waited.stderr.splitlines()][-1] == "paused"


@pytest.mark.bare_edges("its outcome does not matter here")
def test_a_job_that_ends_instead_of_pausing_is_told_with_a_1(run, at_work, once_asked):
    moved = once_asked("failed", undo="none")

    waited = run("pause", at_work, "--wait")

    moved.result()
    assert waited.exit_code == Exit.ENDED_BADLY
    assert waited.stdout == f"{at_work}  accepted  failed, nothing had begun\n"


def test_who_waits_for_a_rewind_is_told_when_the_job_is_there(run, at_work, once_asked):
    moved = once_asked("paused")

    waited = run("rewind", at_work, "--to", "saved", "--wait")

    moved.result()
    assert (waited.exit_code, waited.stdout) == (Exit.DONE, f"{at_work}  accepted  goes back to saved\n")
    assert waited.stderr.splitlines()[-1] == f"ebbtide: job {at_work[:8]} paused"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pause"], "which jobs? name them, or use --state, --flow, --label, --older-than or --all"),
        (["pause", "--all", "--wait"], "--wait is for jobs that are named"),
        (["pause", "--flow", "sum", "--wait"], "--flow alone pauses the flow itself"),
        (["resume", "--flow", "sum", "--dry-run"], "--flow alone resumes the flow itself"),
        (["pause", "12345678", "--all"], "name jobs, or say what they have in common; not both"),
        (["pause", "--flow", "sum@x"], "should be a flow's name, or name@version"),
    ],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
def test_a_wrong_call_is_one_line(words, line, run, store):
    refused = run(*words)

    assert (refused.exit_code, refused.stdout) == (Exit.USAGE, "")
    assert len(refused.stderr.splitlines()) == 1
    assert line in refused.stderr
