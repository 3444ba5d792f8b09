"""The disk of an SQLite store fills up in the middle of a run, or its file cannot be written or is held.

Promises: P1, P2, P3, P4, P10.
"""

import sqlite3
import subprocess

import pytest

from ebbtide.errors import StoreUnavailable
from ebbtide.jobs.ledger import Ledger
from ebbtide.jobs.schema import ensure_schema
from ebbtide.jobs.store import Store

pytestmark = pytest.mark.sqlite_only("it is about a file")

HELD = r"nothing was stored.*held by another process"


@pytest.fixture
def prepared(small_disk, replay):
    """The store is on the small disk; the effects of the jobs are not."""
    url = f"sqlite:///{small_disk.path / 'ebbtide.db'}"
    yield url
    replay(url)


def refuses_all(stage, job):
    """Nothing is called accepted, or stored, that is not. Some posts may find room in what the file has."""
    answered = len(stage.poster.list())
    with pytest.raises(StoreUnavailable, match="nothing was stored"):
        for _ in range(10_000):
            stage.post("x")
            answered += 1
    with pytest.raises(StoreUnavailable, match="nothing was stored"):
        stage.poster.cancel(job.id, "enough")
    assert len(stage.poster.list(limit=100_000)) == answered


def test_a_disk_that_is_full_for_a_while_costs_no_job_and_no_answer(stage, small_disk):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")

    small_disk.fill()
    refuses_all(stage, job)
    stage.open("b")
    stage.await_effect(job, "end", "b")
    begun = stage.told(job, "begin")
    small_disk.free()
    ended = stage.ended(job)

    assert (begun, ended.state) == (["begin a", "begin b"], "completed")
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin c"]
    assert {stage.ended(other).state for other in stage.poster.list(limit=100_000)} == {"completed"}
    assert conductor.end() == 0
    stage.assert_history_replays(ended)


def test_a_cancel_that_was_accepted_before_the_disk_was_full_is_carried_out_when_it_is_not(stage, small_disk):
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    stage.poster.cancel(job.id, "enough")

    small_disk.fill()
    stage.open("b")
    stage.await_effect(job, "end", "b")
    begun = stage.told(job, "begin")
    small_disk.free()
    ended = stage.ended(job)

    assert (begun, ended.state, ended.undo) == (["begin a", "begin b"], "cancelled", "complete")
    assert stage.told(job, "begin", "undo") == ["begin a", "begin b", "undo b", "undo a"]
    assert conductor.end() == 0


def test_a_store_that_another_program_holds_takes_nothing_and_goes_on_afterwards(stage):
    """As an editor of databases does, or a backup."""
    conductor = stage.conductor(runners=1)
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    holder = sqlite3.connect(stage.database.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    entries = len(stage.poster.entries(job.id))

    with Store(stage.database, wait_seconds=0.2) as store, pytest.raises(StoreUnavailable, match=HELD):
        Ledger(store).cancel(job.id, reason="enough", who="ann")
    stage.open("b")
    stage.await_effect(job, "end", "b")
    assert len(stage.poster.entries(job.id)) == entries
    assert stage.effects(job, "begin", task="c") == []
    holder.execute("ROLLBACK")
    holder.close()

    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin c"]
    assert conductor.end() == 0


def test_nobody_is_left_when_the_disk_is_full_for_longer_than_the_lease(stage, small_disk):
    """The runs end where they stand, and the same conductor takes their jobs up again, once it can say so."""
    conductor = stage.conductor(runners=1, lease=(0.2, 1.5, 3.0))
    job = stage.post("a", "b:deaf", "c")
    stage.await_effect(job, "waiting", "b")
    runners = conductor.runners

    small_disk.fill()
    stage.await_end_of(runners)
    small_disk.free()
    stage.await_effect(job, "waiting", "b", 2)
    stage.open("b")

    assert stage.ended(job).state == "completed"
    assert stage.told(job, "begin") == ["begin a", "begin b", "begin b", "begin c"]
    assert conductor.end() == 0


def test_a_file_system_that_may_only_be_read_takes_nothing(prepared, small_disk):
    """To a file that may only be read root may write all the same."""
    with Store(prepared) as store:
        ensure_schema(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.path)], check=True)

    with Store(prepared) as store, pytest.raises(StoreUnavailable, match="nothing was stored") as caught:
        Ledger(store).cancel("7f3a", reason="enough", who="ann")

    subprocess.run(["mount", "-o", "remount,rw", str(small_disk.path)], check=True)
    assert "cannot be written" in str(caught.value)
