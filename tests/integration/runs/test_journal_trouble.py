"""A run whose store answers late or not at all, or knows another holder of the job. P2, P6 and P8."""

import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from ebbtide.conductor.execution import LOST, Execution
from ebbtide.conductor.journal import Journal
from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.store import Store

FINAL = ("completed", "failed", "cancelled")


class Trouble:
    """Lets writes to the store fail, those of the test's own thread excepted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0  # of the write that is under way or comes next
        self.fails: Callable[[int], bool] = lambda number: False
        self.stored = True  # whether a write that fails was stored nevertheless
        self._lock = threading.Lock()
        real = Store.write
        own = threading.current_thread()

        @contextlib.contextmanager
        def write(store):
            if threading.current_thread() is own:
                with real(store) as connection:
                    yield connection
                return
            with self._lock:
                number, self.number = self.number, self.number + 1
            if self.fails(number) and not self.stored:
                raise StoreUnavailable("the test took it away")
            with real(store) as connection:
                yield connection
            if self.fails(number):
                raise StoreUnavailable("the test took the answer away")

        monkeypatch.setattr(Store, "write", write)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    return Trouble(monkeypatch)


def _ended_once(bench, job, state):
    """The job ended as it would have without trouble: one outcome, told once."""
    ended = bench.final(job)
    assert ended.state == state, bench.told()
    names = Counter(entry.name for entry in bench.poster.entries(job.id))
    assert [names[name] for name in FINAL] == [int(name == state) for name in FINAL]
    assert bench.sql("SELECT count(*) FROM job_outcomes") == [(1,)]
    return ended


@pytest.mark.parametrize("stored", [True, False], ids=["answer lost", "not stored"])
@pytest.mark.parametrize("number", range(7))
def test_whichever_commit_of_a_run_fails_every_task_runs_once_and_the_job_ends_once(
    bench, trouble, number, stored
):
    # The claim, one commit for each of the four tasks, the outcome; and one that never comes.
    bench.start()
    trouble.number, trouble.stored = 0, stored
    trouble.fails = lambda n: n == number

    job = bench.post("linear")

    _ended_once(bench, job, "completed")
    assert Counter(bench.effects) == Counter(f"{word} {task}" for task in "abcd" for word in ("begin", "end"))
    bench.recorded_truly(job)
    # No round was begun again: the trouble was one of the store, not of the run.
    assert {record.round for record in bench.poster.tasks(job.id)} == {1}


@pytest.mark.parametrize("stored", [True, False], ids=["answer lost", "not stored"])
@pytest.mark.parametrize("number", range(6))
def test_whichever_commit_of_an_undo_fails_every_task_is_undone_once_and_the_job_ends_once(
    bench, trouble, number, stored
):
    job = bench.run("linear", {"c": ["hold"]})
    bench.reached("execute c")
    trouble.number, trouble.stored = 0, stored
    trouble.fails = lambda n: n == number

    bench.cancel(job)

    _ended_once(bench, job, "cancelled")
    bench.cancelled_and_undone(job, bench.shapes["linear"])
    assert bench.words("undo") == ["c", "b", "a"]
    assert {record.undo_tries for record in bench.poster.tasks(job.id)} == {1}


def test_a_store_that_stays_away_for_a_while_is_waited_for(bench, trouble):
    job = bench.run("linear", {"b": ["gate"]})
    bench.reached("execute b")
    refused = threading.Event()

    def fails(number):
        if trouble.number >= 8:
            refused.set()
        return not refused.is_set()

    trouble.number, trouble.stored, trouble.fails = 0, False, fails

    bench.gates.open("execute b")

    _ended_once(bench, job, "completed")
    assert refused.is_set()
    assert [entry.name for entry in bench.poster.entries(job.id)] == ["posted", "claimed", "completed"]
    assert bench.words("begin") == ["a", "b", "c", "d"]


def test_a_run_gives_its_job_up_when_the_store_stays_away_too_long_and_the_next_goes_on(bench, monkeypatch):
    away, gave_up = threading.Event(), threading.Event()
    transact, run = Journal._transact, Execution.run

    def unreachable(self, batch, outcome):
        if away.is_set():
            raise StoreUnavailable("the test took it away")
        transact(self, batch, outcome)

    def watched(self):
        # The run alone is impatient: its conductor keeps its lease, however slow the machine is.
        self._options = dataclasses.replace(self._options, patience_seconds=0.2)
        edge = run(self)
        if edge == LOST:
            away.clear()
            gave_up.set()
        return edge

    monkeypatch.setattr(Journal, "_transact", unreachable)
    monkeypatch.setattr(Execution, "run", watched)
    job = bench.post("linear", {"b": ["gate"]})
    bench.start()
    bench.reached("execute b")
    away.set()

    bench.gates.open("execute b")

    ended = _ended_once(bench, job, "completed")
    assert gave_up.is_set()
    assert ended.tasks_done == 4
    # b's end was never stored: it was run again, and no task began whose begin was not stored.
    assert bench.words("begin") == ["a", "b", "b", "c", "d"]
    names = [entry.name for entry in bench.poster.entries(job.id)]
    assert names == ["posted", "claimed", "reclaimed", "completed"]


# Another holder.


def _given_to_another(bench, job):
    """By hand: another conductor, very much alive, has claimed the job."""
    bench.sql(
        "INSERT INTO conductors"
        " (id, name, host, pid, boot_id, started_at, lease_until, flows, runners, isolation)"
        " SELECT 'another', name, host, pid, boot_id, started_at, lease_until + 1e6, flows, runners,"
        " isolation FROM conductors LIMIT 1"
    )
    bench.sql("UPDATE jobs SET epoch = epoch + 1, write = write + 1, owner = 'another' WHERE id = ?", job.id)
    return _all_rows(bench)


def _all_rows(bench):
    tables = ["jobs", "job_tasks", "job_entries", "job_outcomes", "job_logs", "job_cancels", "job_parks"]
    tables += ["logbooks", "flowdetails", "atomdetails"]
    return {table: sorted(map(repr, bench.sql(f"SELECT * FROM {table}"))) for table in tables}


@pytest.mark.altered_by_hand("the other holder is made up: a raised epoch without a claim")
def test_a_stale_holder_stores_nothing_more_and_begins_no_task(bench):
    job = bench.post("linear", {"b": ["gate"]})
    conductor = bench.start()
    bench.reached("execute b")
    before = _given_to_another(bench, job)

    bench.gates.open("execute b")
    bench.lost()
    bench.stop(conductor)

    assert bench.effects == ["begin a", "end a", "begin b", "end b"]
    assert _all_rows(bench) == before


@pytest.mark.altered_by_hand("the other holder is made up: a raised epoch without a claim")
def test_a_stale_holder_stores_no_outcome(bench):
    bench.gate_before(Journal, "finish", lambda self, outcome: "finish")
    job = bench.post("linear")
    conductor = bench.start()
    bench.reached("finish")
    before = _given_to_another(bench, job)

    bench.gates.open("finish")
    bench.lost()
    bench.stop(conductor)

    assert _all_rows(bench) == before
    assert bench.poster.show(job.id).state == "running"


@pytest.mark.altered_by_hand("the other holder is made up: a raised epoch without a claim")
@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_stale_holder_reverts_nothing(bench, how):
    job = bench.post("unordered", {"a": ["break"] if how == "fails" else ["late"]})
    conductor = bench.start(2)
    bench.reached("execute a")
    bench.ended("b", "c", "d", "e", "f")
    bench.until("all ends are stored", lambda: bench.poster.show(job.id).tasks_done == 5)
    if how == "is cancelled":
        bench.deafen()  # the new holder is the one to be told
        bench.poster.cancel(job.id)
    before = _given_to_another(bench, job)

    if how == "is cancelled":
        bench.event.set("the new holder's affair")
    else:
        bench.gates.open("execute a")
    bench.lost()
    bench.stop(conductor)

    assert bench.words("undo") == []
    assert _all_rows(bench) == before


@pytest.mark.altered_by_hand("the other holder is made up: a raised epoch without a claim")
def test_a_stale_holder_in_the_middle_of_an_undo_stops_there(bench):
    job = bench.post("linear", {"d": ["fail"], "undo c": ["gate"]})
    conductor = bench.start()
    bench.reached("undo c")
    before = _given_to_another(bench, job)

    bench.gates.open("undo c")
    bench.lost()
    bench.stop(conductor)

    assert bench.words("undo") == ["d", "c"]
    assert _all_rows(bench) == before
