"""A run has lost its job while bodies are at work that would wait for ever: they leave, and so does the run.

Promises: P8 (a stale holder stores nothing and begins nothing), P10 (a job that nobody else has goes on).
"""

import asyncio
import threading

import pytest
from taskflow.patterns import unordered_flow

from ebbtide.conductor.lease import Lease
from ebbtide.tasks import AsyncTask, CancelableTask
from tests.integration.runs.conftest import PATIENCE_SECONDS

by_hand = pytest.mark.altered_by_hand("an epoch is raised without a claim")


def raise_epoch(bench, job):
    """By hand, as if the job had been taken and left: its conductor has it still, under another epoch."""
    bench.sql("UPDATE jobs SET epoch = epoch + 1, write = write + 1 WHERE id = ?", job.id)


class Waits(CancelableTask):
    """In its first run it waits for its event, which nobody is to set."""

    runs: list[tuple[str, str]]
    begun: threading.Event

    def execute(self):
        self.runs.append((self.name, "begun"))
        if len(self.runs) == 1:
            self.begun.set()
            while True:
                try:
                    self.sleep(PATIENCE_SECONDS)
                finally:
                    self.runs.append((self.cancel.source, self.cancel.reason))


class WaitsInLoop(AsyncTask):
    """The same as a coroutine, which waits for something else."""

    async def execute(self):
        Waits.runs.append((self.name, "begun"))
        if len(Waits.runs) == 1:
            Waits.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                Waits.runs.append((self.cancel.source, self.cancel.reason))


class Ends(CancelableTask):
    """Ends once it is let on: that is to be stored."""

    let_on: threading.Event

    def execute(self):
        assert self.let_on.wait(PATIENCE_SECONDS)


@pytest.fixture(params=[Waits, WaitsInLoop], ids=["in a thread", "in the loop"])
def waiting(bench, request):
    """A job of two tasks: one waits, the other ends once it is let on."""
    Waits.runs, Waits.begun, Ends.let_on = [], threading.Event(), threading.Event()

    @bench.registry.flow("two")
    def two():
        return unordered_flow.Flow("two").add(request.param(name="waits"), Ends(name="ends"))

    return bench.poster.post("two")


LEFT = ("lost", "this run has lost its job; another goes on with it")


@by_hand
def test_what_waits_in_a_run_that_has_lost_its_job_leaves_and_the_next_run_does_it_all(bench, waiting):
    bench.start()
    assert Waits.begun.wait(PATIENCE_SECONDS)
    raise_epoch(bench, waiting)

    Ends.let_on.set()
    ended = bench.final(waiting)

    bench.lost()
    assert (ended.state, ended.tasks_done, ended.cancel) == ("completed", 2, None)
    assert Waits.runs == [("waits", "begun"), LEFT, ("waits", "begun")]
    names = [entry.name for entry in bench.poster.entries(waiting.id)]
    assert names == ["posted", "claimed", "reclaimed", "completed"]


def test_what_waits_when_the_lease_is_over_leaves_and_the_conductor_comes_back(bench, waiting, monkeypatch):
    over = threading.Event()
    stop = Lease.stop

    def stopped(lease):
        over.clear()
        stop(lease)

    monkeypatch.setattr(Lease, "over", property(lambda lease: over.is_set()))
    monkeypatch.setattr(Lease, "stop", stopped)
    bench.start()
    assert Waits.begun.wait(PATIENCE_SECONDS)

    Ends.let_on.set()
    over.set()
    ended = bench.final(waiting)

    assert (ended.state, ended.tasks_done, ended.cancel) == ("completed", 2, None)
    assert Waits.runs == [("waits", "begun"), LEFT, ("waits", "begun")]
    first, second = (entry.actor for entry in bench.poster.entries(waiting.id) if "claimed" in entry.name)
    assert first != second
