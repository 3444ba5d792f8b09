"""The connection of a run is cut before, in or after a COMMIT: each task begins once, the job ends once.

Promises: P2, P3, P6, P7.
"""

from collections import Counter

import pytest

from tests.services.proxy import CutAt

pytestmark = pytest.mark.postgresql_only("there is no connection to SQLite that could be cut")

COMMIT = b"COMMIT\0"
MOMENTS = ["before", "in", "after"]
OUTCOMES = ("completed", "failed", "cancelled")
# The commits of a job of four tasks: the claim, the begin of each, the outcome.
COMMITS = {"claim": 1, "first begin": 2, "third begin": 4, "outcome": 6}
# Those from the end of its third task on, once it is cancelled there and the request is forwarded.
COMMITS_OF_THE_UNDO = {"first undo": 1, "second undo": 2, "outcome": 4}


@pytest.fixture
def proxy(postgresql, proxy_to):
    return proxy_to(postgresql.port)


@pytest.fixture
def far_away(bench, proxy):
    """Starts a conductor that reaches the store by way of the proxy."""
    return lambda: bench.start(database=proxy.url(bench.database))


def ended_once(bench, job, state):
    ended = bench.final(job)
    assert ended.state == state, bench.told()
    names = Counter(entry.name for entry in bench.poster.entries(job.id))
    assert [names[name] for name in OUTCOMES] == [int(name == state) for name in OUTCOMES]
    assert (names["claimed"], names["reclaimed"]) == (1, 0), bench.told()
    assert bench.sql("SELECT count(*) FROM job_outcomes") == [(1,)]
    bench.recorded_truly(job)
    return ended


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", COMMITS.values(), ids=COMMITS)
def test_every_task_of_a_run_begins_once_and_the_job_completes_once(bench, far_away, proxy, number, moment):
    far_away()
    proxy.set(CutAt(COMMIT, moment, number))

    job = bench.post("linear")

    ended_once(bench, job, "completed")
    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    assert bench.words("begin") == ["a", "b", "c", "d"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", COMMITS_OF_THE_UNDO.values(), ids=COMMITS_OF_THE_UNDO)
def test_every_task_of_a_cancelled_run_is_undone_once_and_the_job_is_cancelled_once(
    bench, far_away, proxy, number, moment
):
    job = bench.post("linear", {"c": ["gate"]})
    far_away()
    bench.reached("execute c")
    bench.cancel(job)
    bench.forwarded(job)
    proxy.set(CutAt(COMMIT, moment, number))

    bench.gates.open("execute c")

    ended_once(bench, job, "cancelled")
    proxy.wait_until(lambda p: p.cuts == 1, "the cut")
    bench.cancelled_and_undone(job, bench.shapes["linear"])
    assert bench.words("undo") == ["c", "b", "a"]
    assert {record.undo_tries for record in bench.poster.tasks(job.id)} == {1}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_cancel_whose_answer_is_cut_off_in_its_forwarding_is_forwarded_once(bench, far_away, proxy, moment):
    job = bench.post("linear", {"b": ["hold"]})
    far_away()
    bench.reached("execute b")
    proxy.set(CutAt(COMMIT, moment))

    bench.cancel(job)

    ended_once(bench, job, "cancelled")
    bench.cancelled_and_undone(job, bench.shapes["linear"])
    names = Counter(entry.name for entry in bench.poster.entries(job.id))
    assert (names["cancel_requested"], names["cancel_delivered"]) == (1, 1)
    assert names["cancel_forwarded"] <= 1
